"""The notebooks are kept without what they gave when they ran; `make notebooks` runs them."""

import json
import re

import pytest

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def test_all_are_looked_at():
    assert {path.stem for path in NOTEBOOKS} == {"first_stain", "your_own_pairs", "is_my_stain_right"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped_cells_short_and_links_lead_somewhere(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert [cell["id"] for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
    assert [cell["id"] for cell in cells if len(cell["source"]) > 26] == []
    text = "".join(line for cell in cells for line in cell["source"])
    for page in re.findall(r"`(docs/[\w./-]+)`", text):
        assert (ROOT / page).is_file(), page
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (path.parent / link).exists(), link
