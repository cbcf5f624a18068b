"""Two folders of registered images become a dataset: matching, what is asked, what is refused, and a training."""

import json
import re
import shutil
import sys

import numpy as np
import pytest

from bundle.common.errors import InputError
from bundle.data.load import load_datalist
from bundle.images.slides import read_slide, write_slide
from bundle.preparation.pairs.dataset import prepare
from bundle.preparation.pairs.division import share_or_names
from bundle.preparation.pairs.from_folders import pairs_from_folders
from tests.conftest import ROOT, TINY, make_dataset, run_bundle
from tests.helpers.forked import run_module

TOLD = {"specimen": "rat{}", "pixel_um": 5.0}


@pytest.fixture(scope="module")
def animals(tmp_path_factory):
    """Five pairs of two slices of rats, named as a laboratory names them."""
    folder = tmp_path_factory.mktemp("own")
    made = make_dataset(folder / "made", pairs=5)
    for number, name in enumerate(("rat07_s1", "rat07_s2", "rat08_s1", "rat12_s1", "rat31_s1")):
        for side, ending in (("source", "ct"), ("target", "stain"), ("mask", "mask")):
            (folder / side).mkdir(exist_ok=True)
            shutil.copy(made / side / f"{number:02d}.png", folder / side / f"{name}_{ending}.png")
    return folder


@pytest.fixture
def own(animals, tmp_path):
    """A copy to spoil."""
    for side in ("source", "target", "mask"):
        shutil.copytree(animals / side, tmp_path / side)
    return tmp_path


def make(folder, masks=False, **options):
    places = {side: str(folder / side) for side in ("source", "target", *(["mask"] if masks else []))}
    return pairs_from_folders(**places, **{"output": str(folder / "data"), **TOLD, **options})


def listed(folder):
    return json.loads((folder / "data" / "datalist.json").read_text())


def test_pairs_that_are_named_alike_but_for_an_ending(own):
    said = make(own, masks=True, testing=["rat07"])
    assert "'_ct' of the sources" in said
    assert "'_stain' of the targets" in said
    assert "for testing: rat07" in said
    data = load_datalist(str(own / "data"))
    assert [(pair.source.name, pair.target.name, pair.mask.name) for pair in data.training] == [
        (f"{name}_s1_ct.png", f"{name}_s1_stain.png", f"{name}_s1_mask.png") for name in ("rat08", "rat12", "rat31")
    ]
    assert [pair.specimen for pair in data.testing] == ["rat07", "rat07"]
    for side in ("source", "target", "mask"):
        for file in (own / side).iterdir():
            assert (own / "data" / side / file.name).read_bytes() == file.read_bytes()
    assert (data.source.low, data.source.high, data.target.high) == (0, 65535, 255)
    assert data.pixel_um == 5.0
    page = (own / "data" / "dataset.html").read_text()
    assert page.count("<img") == 20
    assert "checkerboard" in page
    assert sorted(path.name for path in own.iterdir()) == ["data", "mask", "source", "target"]


@pytest.mark.parametrize(
    ("names", "patterns"),
    [
        (("a.png", "b.png", "A.png", "b.png"), {}),
        (("ct_a.png", "ct_b.png", "he_a.png", "he_b.png"), {}),
        (("ct a 5um.png", "ct b 5um.png", "a.png", "b.png"), {"source_pattern": "ct {} 5um"}),
        (("a.png", "b.png", "x a (2).png", "x b (2).png"), {"target_pattern": "x {} (2)"}),
    ],
)
def test_other_ways_to_name_files(names, patterns, animals, tmp_path):
    files = [*sorted((animals / "source").iterdir())[:2], *sorted((animals / "target").iterdir())[:2]]
    for file, name in zip(files, names, strict=True):
        (tmp_path / file.parent.name).mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / file.parent.name / name)
    make(tmp_path, specimen="file", **patterns)
    entries = listed(tmp_path)["training"]
    assert [entry["specimen"].lower() for entry in entries] == ["a", "b"]
    assert [entry["target"] for entry in entries] == [f"target/{name}" for name in names[2:]]


def test_every_file_without_a_partner_is_listed_with_the_nearest_name(own):
    (own / "target" / "rat08_s1_stain.png").rename(own / "target" / "rat8_s1_stain.png")
    (own / "source" / "rat12_s1_ct.png").unlink()
    shutil.copy(own / "target" / "rat31_s1_stain.png", own / "target" / "rat31_s1_stain.tif")
    with pytest.raises(InputError) as error:
        make(own)
    said = str(error.value)
    assert "source rat08_s1_ct.png has no target; did you mean rat8_s1_stain.png?" in said
    assert "target rat8_s1_stain.png has no source; did you mean rat08_s1_ct.png?" in said
    assert "target rat12_s1_stain.png has no source" in said
    assert "rat31_s1_stain.png, rat31_s1_stain.tif have one name" in said
    assert "2 pairs were found" in said
    assert not (own / "data").exists()
    said = make(own, leave_out=True)
    assert said.count("left out: ") == 4
    assert [entry["specimen"] for entry in listed(own)["training"]] == ["rat07", "rat07"]
    assert "Left out: source rat08_s1_ct.png" in (own / "data" / "dataset.html").read_text()


def test_what_is_missing_is_listed_at_once_with_its_options(own, monkeypatch):
    for file in (own / "source").iterdir():
        pixels = read_slide(file).pixels.astype(np.float32) / 65535
        write_slide(file.with_suffix(".tif"), pixels)
        file.unlink()
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    with pytest.raises(InputError) as error:
        make(own, specimen=None, pixel_um=None)
    lines = str(error.value).splitlines()
    assert [re.search(r"pass --(\w+)", line)[1] for line in lines] == ["pixel_um", "range", "specimen"]
    assert "float32" in lines[1]
    assert not (own / "data").exists()
    asked = []
    replies = iter(["five", "5", "0, 1", "mouse{}", "rat{}"])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda text: (asked.append(text), next(replies))[1])
    make(own, specimen=None, pixel_um=None)
    assert [text.split(", such as")[0].rsplit(" ", 1)[1] for text in asked] == [
        *("pixel_um", "pixel_um", "range", "specimen", "specimen")
    ]
    assert listed(own)["source"]["range"] == [0, 1]
    assert listed(own)["pixel_um"] == 5.0
    assert listed(own)["training"][2]["specimen"] == "rat08"


def test_a_pixel_size_that_all_files_state_is_taken_and_no_other(own):
    for side in ("source", "target"):
        for file in (own / side).iterdir():
            write_slide(file, read_slide(file).pixels, pixel_um=2.5)
    assert "as all files state" in make(own, pixel_um=None)
    assert listed(own)["pixel_um"] == pytest.approx(2.5, rel=1e-3)
    write_slide(file, read_slide(file).pixels, pixel_um=3.0)
    with pytest.raises(InputError, match=r"files state pixels of 2.5, 3 µm; pass --pixel_um"):
        make(own, pixel_um=None, replace=True)
    assert "though files state 2.5, 3 µm" in make(own, replace=True)


def spoilt_size(folder):
    file = folder / "target" / "rat08_s1_stain.png"
    write_slide(file, read_slide(file).pixels[:, 1:])


def spoilt_twice(folder):
    for side, ending in (("source", "ct"), ("target", "stain")):
        shutil.copy(folder / side / f"rat07_s1_{ending}.png", folder / side / f"rat07_s2_{ending}.png")


def spoilt_grey(folder):
    for file in (folder / "target").iterdir():
        write_slide(file, read_slide(file).pixels[:1])


def spoilt_cut(folder):
    file = folder / "source" / "rat08_s1_ct.png"
    file.write_bytes(file.read_bytes()[:100])


@pytest.mark.parametrize(
    ("spoil", "options", "words"),
    [
        (spoilt_size, {}, r"^pair rat08_s1: source rat08_s1_ct.png is 64×72 px but target .* is 63×72 px"),
        (spoilt_twice, {}, r"pair rat07_s2: shows the same as pair rat07_s1"),
        (spoilt_grey, {}, r"target.channels is 1; it must be 3"),
        (spoilt_cut, {}, r"source .*rat08_s1_ct.png cannot be read"),
        (None, {"specimen": "mouse{}"}, r"specimen 'mouse{}' is not in the name rat07_s1_ct"),
        (None, {"specimen": "rat"}, r"or a regular expression with one group"),
        (None, {"specimen": "(rat"}, r"no regular expression"),
        (None, {"range": [0, 100]}, r"pair rat07_s1: source .* outside the declared range \[0, 100\]"),
        (None, {"range": "1"}, r"range is '1'; give"),
        (None, {"pixel_um": -1}, r"pixel_um is -1; give"),
        (None, {"testing": 1.5}, r"testing is 1.5; give a share"),
        (None, {"testing": "rat9"}, r"names of specimens, which are rat07, rat08"),
        (None, {"testing": 0.99}, r"no specimen would be left"),
        (None, {"folds": 5}, r"4 training specimens cannot be divided into 5 folds"),
        (None, {"source_pattern": "ct"}, r"source_pattern is 'ct'; write {} once"),
        (None, {"source_pattern": "{}_xct"}, r"is not named {}_xct"),
        (None, {"bone_intensity": 30000}, r"give both or none"),
        (None, {"source_name": "$eval(1)"}, r"source_name is .* begin it with a letter"),
        (None, {"output": "source/data"}, r"lie in one another"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(own, spoil, options, words):
    if spoil:
        spoil(own)
    if "output" in options:
        options = {"output": str(own / options["output"])}
    with pytest.raises(InputError, match=words):
        make(own, **options)
    assert not list(own.glob("**/datalist.json"))
    assert not list(own.glob(".*"))


def test_a_share_of_specimens_is_kept_apart_in_proportion_to_groups(own):
    for side in ("source", "target"):
        for file in list((own / side).iterdir()):
            file.rename(file.with_name(file.name.replace("rat12", "Ti rat12").replace("rat31", "Ti rat31")))
    make(own, testing=0.5, group=r"^(Ti|rat)", folds=2, link=True)
    tested = {entry["specimen"] for entry in listed(own)["testing"]}
    assert len(tested & {"rat07", "rat08"}) == len(tested & {"rat12", "rat31"}) == 1
    assert sorted({entry["fold"] for entry in listed(own)["training"]}) == [0, 1]
    assert (own / "data" / "source" / "rat08_s1_ct.png").is_symlink()
    before = listed(own)
    make(own, testing=0.5, group=r"^(Ti|rat)", folds=2, link=True, replace=True)
    assert listed(own) == before


def test_by_the_command_line_to_a_training(own):
    words = ["--source", "source", "--target", "target", "--mask", "mask", "--output", "data", "--pixel_um", "5"]
    done = run_module(["scripts.pairs", *words], ROOT)
    assert done.returncode != 0
    assert "source source is no folder" in done.stderr
    words = [str(own / word) if word in ("source", "target", "mask", "data") else word for word in words]
    done = run_module(["scripts.pairs", *words, "--specimen", "rat{}", "--testing", "0.2"], ROOT)
    assert done.returncode == 0, done.stderr
    assert "edges must fall together" in done.stdout
    configs = "['configs/train.json','configs/profiles/demo.json']"
    done = run_bundle(
        "training",
        configs,
        dataset_dir=own / "data",
        output_dir=own / "run",
        **{**TINY, "epochs": 1, "decay_epochs": 0},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (own / "run" / "bundle" / "models" / "model.pt").is_file()


def test_a_dataset_that_another_command_made_is_not_replaced(own):
    make(own)
    record = own / "data" / "preparation.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"kind": "two slides"}))
    with pytest.raises(InputError, match=r"holds no preparation\.json of its own"):
        make(own, replace=True)
    assert record.is_file()


@pytest.mark.parametrize("seed", [-1, 1.5, True])
def test_a_seed_that_is_none_gets_a_line(own, seed):
    with pytest.raises(InputError, match=r"^seed is .*; it must be a whole number of at least 0"):
        make(own, seed=seed, testing=0.2)


@pytest.mark.parametrize(
    ("word", "meant"), [("0.2", 0.2), ("1e3", "1e3"), ("07", "07"), ("[a, 1e3]", "[a, 1e3]"), ("nan", "nan")]
)
def test_names_for_testing_are_text(word, meant):
    assert share_or_names(word) == meant


def test_nor_does_prepare_replace_what_was_made_here(own):
    make(own)
    (own / "pairs").mkdir()
    with pytest.raises(InputError, match=r"holds no preparation\.json of its own, so this command did not make it"):
        prepare(str(own / "pairs"), str(own / "data"), replace=True)
    assert (own / "data" / "datalist.json").is_file()
