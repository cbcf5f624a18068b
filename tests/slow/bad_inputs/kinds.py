"""All kinds, by command."""

from __future__ import annotations

from tests.slow.bad_inputs import lists, making, runs, staining, using
from tests.slow.bad_inputs.bench import Kind

KINDS: list[Kind] = [*lists.KINDS, *runs.KINDS, *staining.KINDS, *making.KINDS, *using.KINDS]
