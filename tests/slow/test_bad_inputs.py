"""Each kind of bad input is refused in a line that names it, or accepted with the right result."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.slow.bad_inputs.bench import Shared, outcome
from tests.slow.bad_inputs.kinds import KINDS


@pytest.fixture(scope="session")
def shared_inputs(tmp_path_factory) -> Shared:
    return Shared(tmp_path_factory.mktemp("bad_inputs"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.command}: {kind.name}")
def test_a_bad_input_is_told_in_a_line(kind, shared_inputs, tmp_path: Path):
    found = outcome(kind, shared_inputs, tmp_path / "place")
    assert found.right, f"{found.what}: {found.said[-3000:]}"


def test_the_page_counts_these_kinds():
    page = (ROOT / "docs/bad_inputs.md").read_text(encoding="utf-8")
    counted = dict(re.findall(r"^\| `(.+?)` \| (\d+) ", page, re.MULTILINE))
    assert {name: str(number) for name, number in Counter(kind.command for kind in KINDS).items()} == counted
    assert re.search(r"^\| \*\*all\*\* .* 0 \| 0 \| 0 \|$", page, re.MULTILINE)
