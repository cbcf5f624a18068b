"""All kinds, by command."""

from __future__ import annotations

from tests.slow.bad_inputs import lists, runs, staining
from tests.slow.bad_inputs.bench import Kind

KINDS: list[Kind] = [*lists.KINDS, *runs.KINDS, *staining.KINDS]
