"""A table of registrations: each line makes what the command for it alone makes, whoever does it."""

from __future__ import annotations

import csv
import json

import pytest

from bundle.common.errors import InputError
from bundle.common.work.tasks import Recipe
from bundle.preparation.registration.forms import is_of_table
from bundle.preparation.registration.many import Pairs, read_options, register_many
from bundle.preparation.registration.run import RESULT
from tests.helpers.registrations import NEAR, facts_of, register
from tests.helpers.registrations import case as case
from tests.helpers.registrations import little_effort as little_effort

SAME = ("source.tif", "target.png", "field.png", "plane.tfm", "section.tfm", "section_in_scan.nrrd")


def written(path, lines):
    """A table of lines by name of the column; all have the same."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return str(path)


def made(pairs):
    """What is compared of each pair: images and places to the byte, and the facts."""
    folders = [path for path in sorted(pairs.iterdir()) if path.is_dir()]
    return {path.name: [*((path / name).read_bytes() for name in SAME), facts_of(path)] for path in folders}


@pytest.fixture
def lines(case):
    """Two registrations of one section, and one that cannot be."""
    near = {**NEAR, "guess": json.dumps(case.guess)}
    one = {"pair": "one", "volume": case.volume, "section": case.section, **near, "slab_um": ""}
    return [one, {**one, "pair": "ill", "section": "missing.png"}, {**one, "pair": "two 2", "slab_um": "24"}]


def test_two_workers_make_what_one_makes_and_what_each_line_alone_does(case, lines, tmp_path, monkeypatch, capsys):
    given = lambda pairs: {"root": str(pairs.root), "lines": pairs.lines}
    monkeypatch.setattr(Pairs, "recipe", lambda self: Recipe("tests.helpers.registrations:made_quickly", given(self)))
    table = written(tmp_path / "table.csv", lines)
    for name, workers in (("alone", None), ("shared", 2)):
        with pytest.raises(InputError, match=f"^failed: ill; why is said above. The others are in .*{name}"):
            register_many(table, str(tmp_path / name), workers)
        said = capsys.readouterr().out
        assert "ill: section missing.png" in said or "ill: missing.png" in said
        assert "two 2: accepted, confidence" in said
    assert made(tmp_path / "shared") == made(tmp_path / "alone")
    assert sorted(made(tmp_path / "alone")) == ["one", "two 2"]
    single = tmp_path / "single" / "two 2"
    register(case.volume, case.section, str(single), guess=case.guess, slab_um=24, **NEAR)
    assert made(single.parent)["two 2"] == made(tmp_path / "shared")["two 2"]

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "shared").glob(f"*/{RESULT}")}
    assert register_many(written(tmp_path / "good.csv", [lines[0], lines[2]]), str(tmp_path / "shared")).startswith(
        "2 "
    )
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not list((tmp_path / "shared").glob(".*"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pair,volume\na,b\n", "it lacks section. There may be pair, volume, section, voxel_um"),
        ("pair,source,target,crop\na,b,c,d\n", "crop is no option. There may be pair, source, target, pixel_um"),
        ("pair,volume,section\n../a,b,c\n", "line 2: pair is '../a'; it becomes a folder"),
        ("pair,volume,section\n.a,b,c\n", "line 2: pair is '.a'; it becomes a folder"),
        ("pair,volume,section\na,b,c\na,b,d\n", "line 3: pair a stands there twice"),
        ("pair,volume,section\na,b,\n", "line 2: section is empty"),
        ("pair,volume,section\na,b,c,d\n", "line 2: has not as many cells as there are columns"),
        ("pair,volume,section\na,b\n", "line 2: has not as many cells as there are columns"),
        ("pair,volume,section\n", "has no lines"),
        ("", "it lacks pair, volume, section"),
    ],
)
def test_a_table_that_cannot_be_is_refused(text, message, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_options(path)
    with pytest.raises(InputError, match=message):
        register_many(str(path), str(tmp_path / "pairs"))
    assert not (tmp_path / "pairs").exists()


def test_cells_are_read_as_options_of_the_command_line_are(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('pair;volume;section;guess;crop;seed\n07;5;b.png;z=600;"1,2,3,4";3\n8;c;d;;;\n')
    assert read_options(path) == {
        "07": {"volume": "5", "section": "b.png", "guess": "z=600", "crop": (1, 2, 3, 4), "seed": 3},
        "8": {"volume": "c", "section": "d"},
    }
    assert is_of_table(["--table=T", "--output", "P"])
    assert not is_of_table(["--volume", "V"])


def test_files_are_looked_for_from_here_and_then_from_the_table(tmp_path, monkeypatch):
    (tmp_path / "raw").mkdir()
    for name in ("raw/both.tif", "raw/only.png", "both.tif"):
        (tmp_path / name).touch()
    table = tmp_path / "raw" / "pairs.csv"
    table.write_text(f"pair,volume,section,seed\na,both.tif,only.png,5\nb,none.tif,{'x' * 300},5\n")
    (tmp_path / "raw" / "5").touch()
    monkeypatch.chdir(tmp_path)
    assert read_options(table.relative_to(tmp_path)) == {
        "a": {"volume": "both.tif", "section": "raw/only.png", "seed": 5},
        "b": {"volume": "none.tif", "section": "x" * 300, "seed": 5},
    }
