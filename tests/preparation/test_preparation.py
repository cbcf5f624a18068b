"""From registered pairs to a dataset that the loader takes, and everything that is refused on the way."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from bundle.common.errors import InputError
from bundle.data.load import load_datalist
from bundle.images.slides import read_slide, write_slide
from bundle.preparation.pairs.dataset import prepare
from bundle.preparation.pairs.rois import drawn_rois
from bundle.preparation.pairs.table import read_table
from bundle.preparation.phantom.block import Tissue
from tests.conftest import ROOT, TINY, run_bundle
from tests.helpers.forked import run_module
from tests.helpers.registered_pairs import MATERIALS, Truth, make_phantoms, write_pair

SIZE = (160, 160)
ROIS = {"bone": [[60, 30, 10, 12]], "background": [[6, 2, 20, 10]]}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Truth]:
    return make_phantoms(tmp_path_factory.mktemp("phantoms"))


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, phantoms: dict[str, Truth]) -> tuple[Path, str]:
    """Three pairs and one that was not accepted, after the first run; and what that run said."""
    root = tmp_path_factory.mktemp("registered") / "pairs"
    for material in MATERIALS:
        write_pair(root / material, phantoms[material])
    write_pair(root / "refused", phantoms["Mg"], accepted=False)
    (root / "notes").mkdir()
    with pytest.raises(InputError) as error:
        prepare(str(root), str(root.parent / "data"))
    return root, str(error.value)


@pytest.fixture(scope="module")
def prepared(shown: tuple[Path, str]) -> Path:
    root, _ = shown
    table = root.parent / "table.csv"
    table.write_text("pair,specimen,group,split,fold\nMg,rat 1,Mg,,\nTi,rat 2,Ti,training,\nPEEK,,PEEK,testing,\n")
    said = prepare(str(root), str(root.parent / "data"), approve=True, table=str(table), target_name="toluidine blue")
    assert said.startswith("3 pairs in ")
    assert "Left out: notes, refused." in said
    return root.parent / "data"


@pytest.fixture
def pair(tmp_path: Path, phantoms: dict[str, Truth]) -> Path:
    """One pair alone."""
    return write_pair(tmp_path / "pairs" / "one", phantoms["Mg"])


def fault(pair: Path, **options) -> str:
    """What preparing the folder of a pair is refused with; nothing is written."""
    output = pair.parents[1] / "data"
    with pytest.raises(InputError) as error:
        prepare(str(pair.parent), str(output), **options)
    assert not output.exists()
    return str(error.value)


def test_stops_for_approval(shown):
    root, said = shown
    assert said.startswith("3 of 3 pairs have proposed regions (Mg, PEEK, Ti). Look at ")
    assert "run again with --approve true" in said
    assert not (root.parent / "data").exists()
    page = (root / "rois.html").read_text()
    assert all(f"<h2>{material}</h2>" in page for material in MATERIALS)
    for image in ("source", "target"):
        assert set(np.unique(read_slide(root / "Ti" / f"proposed_rois_{image}.png").pixels)) == {0, 1, 2}


def test_dataset_is_what_the_loader_wants(prepared):
    data = load_datalist(str(prepared))
    assert data.pixel_um == 8
    assert (data.source.bone_intensity, data.source.background_intensity) == (30000, 10000)
    assert data.target.name == "toluidine blue"
    assert [(pair.specimen, pair.group) for pair in data.training] == [("rat 1", "Mg"), ("rat 2", "Ti")]
    assert [(pair.specimen, pair.group) for pair in data.testing] == [("PEEK", "PEEK")]


@pytest.mark.parametrize("material", MATERIALS)
def test_dataset_recovers_the_phantom(prepared, phantoms, material):
    truth = phantoms[material]
    source = read_slide(prepared / "ct" / f"{material}.png").pixels[0].astype(float)
    bone = np.isin(truth.labels, (Tissue.BONE, Tissue.YOUNG_BONE))
    air = truth.labels == Tissue.BACKGROUND
    air[:5], bone[:5] = False, False
    assert abs(source[bone].mean() - 30000) < 0.03 * 20000
    assert abs(source[air].mean() - truth.source[air].mean()) < 0.03 * 20000
    assert (source[:4] == 10000).all()  # outside the field
    target = read_slide(prepared / "stain" / f"{material}.png").pixels
    assert np.ptp(np.median(target[:, air], axis=1)) <= 3  # grey glass
    mask = read_slide(prepared / "mask" / f"{material}.png").pixels[0] > 0
    assert (mask & truth.mask).sum() / (mask | truth.mask).sum() > 0.85


def test_record_and_page(prepared):
    record = json.loads((prepared / "preparation.json").read_text())
    assert record["left_out"] == {
        "notes": "holds no source.tif, target.png or registration.json, so it is no pair",
        "refused": "its registration was not accepted (--keep takes it all the same)",
    }
    assert record["pairs"]["Ti"]["rois"] == {"source": "proposed", "target": "proposed"}
    page = (prepared / "dataset.html").read_text()
    assert "Outliers cannot be told among 3 pairs" in page
    assert "refused: its registration was not accepted" in page
    before, after = (record["pairs"]["Mg"][f"bone_rg_bg_{when}"] for when in ("before", "after"))
    assert f"R/G {before[0]:.2f} → {after[0]:.2f}, B/G {before[1]:.2f} → {after[1]:.2f}" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)


def test_a_training_step_takes_it(prepared, tmp_path):
    done = run_bundle(
        "training",
        "['configs/train.json','configs/profiles/demo.json']",
        dataset_dir=prepared,
        output_dir=tmp_path / "run",
        **{**TINY, "epochs": 1, "decay_epochs": 0},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_command_line(shown, tmp_path):
    root, _ = shown
    words = ["scripts.prepare", "--pairs", str(root), "--output", str(tmp_path / "data")]
    done = run_module([*words, "--approve", "true", "--keep", "[refused]"], ROOT)
    assert done.returncode == 1  # what --keep adds has not been looked at
    assert "\n4 of 4 pairs have proposed regions" in done.stderr
    assert "error:" not in done.stderr  # nothing is wrong
    assert "New since the page was last written: refused." in done.stderr
    assert "Traceback" not in done.stderr


def test_drawn_regions_win(shown, prepared, tmp_path):
    root, _ = shown
    pairs = tmp_path / "pairs"
    shutil.copytree(root / "Mg", pairs / "Mg")
    for name in pairs.rglob("proposed*"):
        name.unlink()
    (pairs / "Mg" / "rois.json").write_text(json.dumps({"source": ROIS, "target": ROIS}))
    prepare(str(pairs), str(tmp_path / "data"))  # nothing proposed, so nothing to approve
    facts = json.loads((tmp_path / "data" / "preparation.json").read_text())["pairs"]["Mg"]
    source = tifffile.imread(pairs / "Mg" / "source.tif")
    assert facts["source"]["bone"] == pytest.approx(source[60:70, 30:42].mean(dtype=float))
    assert facts["roi_px"]["source"] == [120, 200]
    assert facts["rois"] == {"source": "rois.json", "target": "rois.json"}
    made = read_slide(tmp_path / "data" / "ct" / "Mg.png").pixels[0]
    assert made[60:70, 30:42].mean() == pytest.approx(30000, abs=2)
    assert made[6:26, 2:12].mean() == pytest.approx(10000, abs=2)


def test_means_of_the_whole_scan(pair):
    (pair / "rois.json").write_text(json.dumps({"source": {"means": {"bone": 5900, "background": -1500}}}))
    fault(pair)  # the target's regions are proposed
    prepare(str(pair.parent), str(pair.parents[1] / "data"), approve=True)
    facts = json.loads((pair.parents[1] / "data" / "preparation.json").read_text())["pairs"]["one"]
    assert facts["source"] == {"bone": 5900, "background": -1500}
    assert facts["rois"] == {"source": "rois.json, source", "target": "proposed"}


def test_an_edited_proposal_counts(pair):
    fault(pair)
    path = pair / "proposed_rois_source.png"
    labels = read_slide(path).pixels
    labels[labels == 1] = 0
    labels[0, 60:70, 30:42] = 1
    write_slide(path, labels)
    prepare(str(pair.parent), str(pair.parents[1] / "data"), approve=True)
    facts = json.loads((pair.parents[1] / "data" / "preparation.json").read_text())["pairs"]["one"]
    assert facts["roi_px"]["source"][0] == 120


def test_drawn_mask_is_left_out(pair):
    drawn = np.full((1, *SIZE), 255, np.uint8)
    drawn[:, :, 90:] = 0
    write_slide(pair / "mask_torn.png", drawn)
    (pair / "rois.json").write_text(json.dumps(ROIS))
    prepare(str(pair.parent), str(pair.parents[1] / "data"))
    mask = read_slide(pair.parents[1] / "data" / "mask" / "one.png").pixels[0]
    assert mask[:, :90].any()
    assert not mask[:, 90:].any()


def test_palette_image_is_read_by_its_indices(tmp_path):
    labels = np.zeros((8, 9), np.uint8)
    labels[0], labels[1] = 1, 2
    image = Image.fromarray(labels, "P")
    image.putpalette([0, 0, 0, 250, 20, 20, 20, 20, 250])
    image.save(tmp_path / "rois.png")
    found = drawn_rois(tmp_path, (8, 9))
    assert set(found) == {"source", "target"}
    assert np.array_equal(found["source"].labels, labels)


def test_replace(pair):
    (pair / "rois.json").write_text(json.dumps(ROIS))
    output = pair.parents[1] / "data"
    prepare(str(pair.parent), str(output))
    with pytest.raises(InputError, match="is not empty; name a new folder, or pass --replace true"):
        prepare(str(pair.parent), str(output))
    prepare(str(pair.parent), str(output), replace=True, c=3)
    assert json.loads((output / "preparation.json").read_text())["c"] == 3
    (output / "preparation.json").unlink()
    with pytest.raises(InputError, match=r"holds no preparation\.json"):
        prepare(str(pair.parent), str(output), replace=True)


def edit(pair: Path, **changes) -> None:
    path = pair / "registration.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def labels_of(path: Path, *values: int, shape: tuple[int, int] = SIZE) -> None:
    labels = np.zeros((1, *shape), np.uint8)
    for place, value in enumerate(values):
        labels[0, 20 + place] = value
    write_slide(path, labels)


def source_of(pair: Path, pixels: np.ndarray) -> None:
    tifffile.imwrite(pair / "source.tif", pixels)


def nan_source(pair: Path) -> None:
    pixels = tifffile.imread(pair / "source.tif")
    pixels[50, 50] = np.nan
    source_of(pair, pixels)


def say(pair: Path, text) -> None:
    (pair / "rois.json").write_text(text if isinstance(text, str) else json.dumps(text))


def rectangle(name: str, *values) -> dict:
    return {**ROIS, name: [list(values)]}


FAULTS = {
    "no registration": (lambda p: (p / "registration.json").unlink(), "registration.json does not exist; register"),
    "no json": (lambda p: (p / "registration.json").write_text("{"), "registration.json is not valid JSON"),
    "no object": (lambda p: (p / "registration.json").write_text("[]"), "holds a list; it must be one object"),
    "voxel": (lambda p: edit(p, voxel_um=None), "voxel_um is None; give the pixel size in µm"),
    "accepted": (lambda p: edit(p, accepted="yes"), "accepted is 'yes'; it must be true or false"),
    "shear": (lambda p: edit(p, shear="small"), "shear is 'small'; it must be a number"),
    "none accepted": (lambda p: edit(p, accepted=False), "no pair is left: one were not accepted"),
    "no target": (lambda p: (p / "target.png").unlink(), "target.png does not exist"),
    "field": (lambda p: write_slide(p / "field.png", np.zeros((1, *SIZE), np.uint8)), "field.png is empty"),
    "size": (lambda p: source_of(p, np.ones((9, 8), np.uint16)), "target.png is 160×160 px but source.tif is 9×8 px"),
    "colour source": (lambda p: source_of(p, np.ones((*SIZE, 3), np.uint8)), "it must be one grey channel"),
    "grey target": (lambda p: labels_of(p / "target.png", 1), "1 channels of uint8; it must be 8-bit RGB"),
    "nan": (nan_source, "has 1 NaN or infinite pixels where field.png says it has data"),
    "mask size": (lambda p: labels_of(p / "mask.png", 1, shape=(30, 30)), "mask.png is 30×30 px but source.tif"),
    "two kinds": (lambda p: (say(p, ROIS), labels_of(p / "rois.png", 1, 2)), "holds rois.json and rois.png"),
    "two images": (lambda p: [labels_of(p / f"{n}.png", 1, 2) for n in ("rois", "rois_target")], "both for the target"),
    "roi size": (lambda p: labels_of(p / "rois.png", 1, 2, shape=(30, 31)), "rois.png is 30×31 px but the image is"),
    "roi values": (lambda p: labels_of(p / "rois.png", 1, 7), "rois.png has values 0, 1, 7; 1 is bone"),
    "one region": (lambda p: labels_of(p / "rois.png", 1), "rois.png has no background (value 2); draw both"),
    "roi rgb": (
        lambda p: shutil.copy(p / "target.png", p / "rois.png"),
        "rois.png has 3 channels; save the regions as one grey",
    ),
    "rois json": (lambda p: say(p, "{"), "rois.json is not valid JSON"),
    "rois list": (lambda p: say(p, []), "rois.json holds a list"),
    "rois key": (lambda p: say(p, {"sauce": ROIS}), "unknown key 'sauce'; known are source, target"),
    "rois both": (lambda p: say(p, {**ROIS, "source": ROIS}), "bone and background stand beside source and target"),
    "rois form": (lambda p: say(p, {"source": 7}), 'rois.json, source: is 7; give {"bone"'),
    "no bone": (lambda p: say(p, {**ROIS, "bone": []}), "bone is []; give at least one [top, left, height, width]"),
    "half px": (lambda p: say(p, rectangle("bone", 1, 1, 0.5, 3)), "bone has [1, 1, 0.5, 3]; give [top, left"),
    "outside": (lambda p: say(p, rectangle("bone", 150, 1, 20, 3)), "[150, 1, 20, 3] reaches outside the image of"),
    "no field": (
        lambda p: say(p, rectangle("bone", 0, 1, 3, 3)),
        "one, source (regions: rois.json): the region of bone",
    ),
    "means": (lambda p: say(p, {"source": {"means": {"bone": 1}}}), "means is {'bone': 1}; give"),
    "same": (
        lambda p: say(p, {"bone": [[60, 30, 9, 9]], "background": [[60, 30, 9, 9]]}),
        "the region of bone is empty",
    ),
    "swapped": (
        lambda p: say(p, {"bone": ROIS["background"], "background": ROIS["bone"]}),
        "one, target (regions: rois.json): bone has mean RGB",
    ),
    "all air": (
        lambda p: (source_of(p, np.full(SIZE, 7, np.uint8)), None),
        "one: no bone found in the source; draw it (rois.json or rois_source.png), or give the means",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_refusals(pair, case):
    spoil, message = FAULTS[case]
    spoil(pair)
    assert message in fault(pair)


def test_all_faults_at_once(pair, phantoms):
    other = write_pair(pair.parent / "two", phantoms["Ti"])
    (pair / "target.png").unlink()
    (other / "field.png").unlink()
    say(other, ROIS)
    said = fault(pair).splitlines()
    assert len(said) == 2
    assert "one/target.png does not exist" in said[0]
    assert "two/field.png does not exist" in said[1]


def test_pixel_sizes_must_agree(pair, phantoms):
    write_pair(pair.parent / "two", phantoms["Ti"], voxel_um=5.0)
    assert "pixel sizes differ (µm: one 8, two 5)" in fault(pair)


def test_empty_mask(pair):
    drawn = np.zeros((1, *SIZE), np.uint8)
    drawn[:, :5, :5] = 255
    write_slide(pair / "mask.png", drawn)
    say(pair, ROIS)
    assert "one: the mask is empty; bone or screw was found in source and target." in fault(pair)


OPTIONS = {
    "pairs": ({"pairs": "nowhere"}, "pairs nowhere is not a folder"),
    "c": ({"c": -1}, "c is -1; it must be a number, 0 or more"),
    "margin": ({"margin_px": "wide"}, "margin_px is 'wide'"),
    "approve": ({"approve": "perhaps"}, "approve is 'perhaps'; it must be true or false"),
    "keep": ({"keep": ["three"]}, "keep names three; the pairs are one"),
    "keep, as fire leaves it": ({"keep": "[02, 03]"}, "keep names 02, 03; the pairs are one"),
    "table": ({"table": "none.csv"}, "table none.csv does not exist"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_refused(pair, case):
    options, message = OPTIONS[case]
    with pytest.raises(InputError) as error:
        prepare(**{"pairs": str(pair.parent), "output": str(pair.parents[1] / "data"), **options})
    assert message in str(error.value)


def test_output_not_among_the_pairs(pair):
    with pytest.raises(InputError, match="lies in pairs"):
        prepare(str(pair.parent), str(pair.parent / "data"))
    (pair.parents[1] / "none").mkdir()
    with pytest.raises(InputError, match="has no folder with source"):
        prepare(str(pair.parents[1] / "none"), str(pair.parents[1] / "data"))


def test_scan_beyond_16_bit_is_flagged(pair):
    pixels = tifffile.imread(pair / "source.tif")
    pixels[60:100, 70:90] = 1e6
    source_of(pair, pixels)
    say(pair, ROIS)
    prepare(str(pair.parent), str(pair.parents[1] / "data"))
    assert "one: 3.2% of the µCT is clipped" in (pair.parents[1] / "data" / "dataset.html").read_text()


TABLES = {
    "columns": ("pair,animal\na,1", "has columns ['pair', 'animal']; give pair,specimen,group,split,fold"),
    "unknown": ("pair\na\nb\nc", "line 4: pair 'c' is not there; the pairs are a, b"),
    "twice": ("pair\na\nb\na", "line 4: pair 'a' has a line already"),
    "missing": ("pair\na", "pair 'b' has no line; add one"),
    "split": ("pair,split\na,train\nb,", "line 2: split is 'train'; it is training or testing"),
    "fold": ("pair,fold\na,x\nb,", "line 2: fold is 'x'; it must be a whole number"),
    "test fold": ("pair,split,fold\na,testing,1\nb,,1", "line 2: a test pair has fold 1"),
    "some folds": ("pair,fold\na,1\nb,", "b have no fold but other training pairs do"),
    "two sides": ("pair,specimen,split\na,rat,testing\nb,rat,", "specimen 'rat' is in training and in testing (a, b)"),
    "two folds": ("pair,specimen,fold\na,rat,0\nb,rat,1", "specimen 'rat' is in more than one fold (a, b)"),
    "no training": ("pair,split\na,testing\nb,testing", "no pair is for training"),
    "too many cells": ("pair,group\na,Mg,7\nb", "line 2: has more cells than columns"),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_refused(tmp_path, case):
    text, message = TABLES[case]
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError) as error:
        read_table(tmp_path / "t.csv", ["a", "b"])
    assert message in str(error.value)


def test_table_of_a_spreadsheet(tmp_path):
    """Semicolons, a byte-order mark, empty cells, and a line for a pair that was left out."""
    (tmp_path / "t.csv").write_text("pair;specimen;group;split;fold\na;;Mg;;1\nb;rat 2;;testing;\nc;;;;\n", "utf-8-sig")
    rows = read_table(tmp_path / "t.csv", ["a", "b"], ["c"])
    assert (rows["a"].specimen, rows["a"].group, rows["a"].split, rows["a"].fold) == ("a", "Mg", "training", 1)
    assert (rows["b"].specimen, rows["b"].group, rows["b"].split, rows["b"].fold) == ("rat 2", None, "testing", None)
