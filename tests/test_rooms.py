"""The house: a room imports rooms to its left alone, and none lies at the root."""

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bundle.common.old_names import MOVED
from bundle.nuclei.deployment import CARRIED as NUCLEI
from bundle.training.publish import CARRIED

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "bundle"
FLOORS = (
    ("common",),
    ("images",),
    ("data", "networks"),
    ("preparation", "staining"),
    ("evaluation",),
    ("training", "report"),
    ("nuclei", "studies"),
    ("commands",),
)
HOSPITAL = ("common", "images", "staining")
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def allowed(room, other):
    """Whether a room may import another."""
    if room == "hospital":
        return other in HOSPITAL
    return other != "hospital" and FLOOR[other] < FLOOR[room]


def imported(path):
    """Every module of ours that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.split(".")[0] == "bundle")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bundle":
            yield from (f"{node.module}.{each.name}" for each in node.names)
            assert node.level == 0


def wrong(root):
    """A line for each import that the rule forbids."""
    for path in sorted(root.rglob("*.py")):
        room = path.relative_to(root).parts[0]
        if room == "__init__.py":
            continue
        for name in imported(path):
            other = name.split(".")[1]
            if other != room and not allowed(room, other):
                yield f"{path.relative_to(root)} imports {name}"


def test_a_room_imports_rooms_to_its_left_alone():
    assert list(wrong(BUNDLE)) == []


def test_an_import_to_the_right_is_seen(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.py").write_text("def f():\n    from bundle.training import run\n")
    (tmp_path / "hospital").mkdir()
    (tmp_path / "hospital/b.py").write_text("from bundle.staining import job\nimport bundle.data.load\n")
    assert list(wrong(tmp_path)) == [
        "hospital/b.py imports bundle.data.load",
        "images/a.py imports bundle.training.run",
    ]


def test_rooms_and_nothing_else_are_in_the_house():
    assert {path.name for path in BUNDLE.iterdir() if path.suffix != ".pyc"} - {"__pycache__"} == {
        "__init__.py",
        "py.typed",
        "hospital",
        "pretrained",  # a trained bundle, no code
        *FLOOR,
    }


def longer_than(lines, folder):
    """The modules in a folder that have more lines, by their path in it."""
    counts = {path.relative_to(folder): path.read_text(encoding="utf-8").count("\n") for path in folder.rglob("*.py")}
    return {str(path) for path, count in counts.items() if count > lines}


def test_no_module_is_longer_than_350_lines_and_no_tests_than_400():
    assert longer_than(350, BUNDLE) == set()
    assert longer_than(400, ROOT / "tests") == set()


def test_every_name_in_the_configs_is_there():
    names = {
        name
        for path in (ROOT / "configs").rglob("*.json")
        for name in re.findall(r"\"_target_\": \"(bundle\.[\w.]+)\"", path.read_text(encoding="utf-8"))
    }
    assert len(names) > 50
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def needed(configs, names=r"bundle\.[\w.]+"):
    """The rooms of every module that the names in some configs lead to."""
    text = "".join((ROOT / "configs" / name).read_text(encoding="utf-8") for name in configs)
    todo = [ROOT / Path(*name.split(".")[:-1]) for name in re.findall(names, text)]
    seen = set()
    while todo:
        place = todo.pop()
        file = next((each for each in (place.with_suffix(".py"), place / "__init__.py") if each.is_file()), None)
        if file and file not in seen:
            seen.add(file)
            todo += [ROOT / Path(*part) for name in imported(file) for part in (name.split("."), name.split(".")[:-1])]
    return {path.relative_to(BUNDLE).parts[0] for path in seen} - {"__init__.py"}


def test_a_trained_bundle_carries_the_rooms_that_it_needs():
    assert needed(["inference.json", "volume.json", "series.json"]) == set(CARRIED)
    assert needed(["nuclei.json"], r"bundle\.(?:common|nuclei\.segment)[\w.]+") == {*NUCLEI}


OLD = json.loads((Path(__file__).parent / "files/old_names.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", OLD)
def test_a_name_of_an_earlier_version_is_found_where_it_is_now(name):
    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(module), attribute)
    assert found.__name__ == attribute


def test_old_names_are_those_of_the_list_and_no_others():
    assert {name.rpartition(".")[0].removeprefix("bundle.") for name in OLD} >= set(MOVED) - {"unpaired"}
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("bundle.no_such_module")
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        importlib.import_module("bundle.losses").no_such_name  # noqa: B018


def test_the_package_alone_loads_no_torch():
    code = "import sys, bundle; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
