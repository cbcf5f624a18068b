"""docs/architecture.md is true."""

import re
from pathlib import Path

from scripts.bench.rooms import FLOORS, arrows
from tests.test_rooms import BUNDLE, FLOOR, ROOT, allowed

TEXT = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def test_every_file_that_it_names_is_there():
    named = set(re.findall(r"`((?:bundle|configs|docs|scripts|tests)/[\w./-]*)`", TEXT))
    assert len(named) > 30
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_it_tells_of_every_room_and_of_twenty_changes():
    rooms = re.findall(r"^\| `(\w+)/` \|", TEXT, re.M)
    assert set(rooms) == {*FLOOR, "hospital"}
    changes = TEXT.partition("## Where do I change what?")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\| (?!change|---)", changes, re.M)) >= 20


def test_the_picture_counts_imports(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.py").write_text("from bundle.common.errors import InputError\nfrom bundle.data import b\n")
    (tmp_path / "data/b.py").write_text("from bundle.common import atomic\nfrom bundle.common import errors\n")
    assert arrows(tmp_path) == {("data", "common"): 2}
    assert {room for rooms in FLOORS for room in rooms} == {path.name for path in BUNDLE.iterdir() if path.is_dir()} - {
        "__pycache__",
        "pretrained",
    }
    assert all(allowed(*pair) for pair in arrows(Path(BUNDLE)))
