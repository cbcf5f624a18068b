"""In-silico images: the whole way with translators whose truth is known, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bundle.common.command_line import command
from bundle.common.errors import InputError
from bundle.data.datalist import Modality
from bundle.images.slides import read_slide, write_slide
from bundle.images.stain_vectors import densities
from bundle.networks.likeness import learn
from bundle.nuclei.insilico import models
from bundle.nuclei.insilico.command import insilico
from bundle.nuclei.insilico.sheet import ALARM
from bundle.staining.model import load_model
from bundle.staining.trust import Trust
from tests.conftest import ROOT
from tests.helpers.stain_models import FULL, Analytic, cells, untrained_bundle


@pytest.fixture
def given(tmp_path, monkeypatch) -> dict[str, str]:
    """The options of a call on three tiles, with a stand-in for the trained model."""
    bundle = tmp_path / "bundle"
    for name in ("configs/inference.json", "models/model.pt", "reverse.pt"):
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).write_text("{}")
    monkeypatch.setattr(models, "load_model", lambda root, device, direction="forward", **ids: Analytic(direction))
    for number in range(3):
        image, labels = cells(number)
        write_slide(tmp_path / "tiles" / f"t{number}.png", image, 0.5)
        write_slide(tmp_path / "labels" / f"t{number}.png", labels)
    return {
        "input": str(tmp_path / "tiles"),
        "labels": str(tmp_path / "labels"),
        "edits": str(ROOT / "configs" / "edits" / "membrane.json"),
        "model_bundle": str(bundle),
        "output": str(tmp_path / "out"),
    }


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}


def test_six_variants_a_tile_with_labels_carried_along(given, tmp_path):
    said = insilico(**given)
    out = tmp_path / "out"
    listed = json.loads((out / "datalist.json").read_text())
    assert listed["pixel_um"] == pytest.approx(0.5, rel=1e-3)
    assert listed["image"] == {"name": "IHC", "channels": 3, "range": [0, 255]}
    assert len(listed["training"]) == 18
    assert set(listed) == {"pixel_um", "image", "training"}
    for entry in listed["training"]:
        image, labels = (read_slide(out / entry[key]).pixels for key in ("image", "labels"))
        assert (image.shape, image.dtype, labels.dtype) == ((3, 96, 96), np.uint8, np.uint16)
        assert np.array_equal(labels, read_slide(tmp_path / "labels" / f"{entry['specimen']}.png").pixels)
    assert "18 images of 3 tiles" in said
    assert "no membrane" in said
    rows = table(out / "morphology.csv")
    assert len(rows) == 3 * 7  # the tile itself too
    assert {row["kept"] for row in rows if row["variant"] != "(input)"} == {"yes"}
    assert min(float(row["overlap"]) for row in rows) > 0.95
    record = json.loads((out / "provenance.json").read_text())
    assert record["edits"]["variants"]["unchanged"] == []
    assert record["options"]["seed"] == 0
    assert set(record["model_sha256"]) == {"models/model.pt", "reverse.pt"}
    assert read_slide(out / "contact_sheet.png").pixels.shape[0] == 3
    assert not (out / "left_out.png").exists()


def test_suppressing_the_membrane_takes_the_dab_and_leaves_the_hematoxylin(given, tmp_path):
    insilico(**given)
    lines = {line["variant"]: line for line in table(tmp_path / "out" / "edits.csv")}
    assert float(lines["no membrane"]["dab_ratio"]) < 0.05
    assert float(lines["no membrane"]["hematoxylin_ratio"]) == pytest.approx(1, abs=0.02)
    assert float(lines["no membrane"]["hematoxylin_per_dab"]) < 0.1
    assert float(lines["faint membrane"]["dab_ratio"]) == pytest.approx(0.4, abs=0.02)
    assert float(lines["pale nuclei"]["hematoxylin_ratio"]) == pytest.approx(0.7, abs=0.05)
    assert float(lines["unchanged"]["dab_ratio"]) == 1
    assert float(lines["(input)"]["dab_ratio"]) == pytest.approx(1, abs=0.02)
    image, labels = cells(0)
    marked = densities(read_slide(tmp_path / "out" / "images" / "t0__nuclear_marker.png").pixels)[2]
    brown = [number for number in np.unique(labels)[1:] if marked[labels[0] == number].mean() > 0.4]
    assert len(brown) == round(0.4 * len(np.unique(labels)[1:]))


def test_the_same_again_whatever_the_other_tiles_are(given, tmp_path):
    insilico(**given)
    (tmp_path / "tiles" / "t0.png").unlink()
    (tmp_path / "labels" / "t0.png").unlink()
    insilico(**{**given, "output": str(tmp_path / "again")})
    one, again = files(tmp_path / "out"), files(tmp_path / "again")
    images = [name for name in again if name.startswith(("images", "labels"))]
    assert len(images) == 2 * 7
    assert all(one[name] == again[name] for name in images)
    insilico(**{**given, "output": str(tmp_path / "other"), "seed": 1})
    other = files(tmp_path / "other")
    assert {name for name in images if other[name] != again[name]} == {
        f"images/t{tile}__{variant}.png" for tile in (1, 2) for variant in ("nuclear_marker", "pale_nuclei")
    }


def test_images_whose_nuclei_are_elsewhere_are_left_out(given, tmp_path, capsys):
    edits = tmp_path / "edits.json"
    gone = [{"edit": "suppress", "channel": "DAPI"}]
    edits.write_text(json.dumps({"variants": {"faint": [dict(gone[0], edit="scale", factor=0.5)], "gone": gone}}))
    _, labels = cells(1)
    write_slide(tmp_path / "labels" / "t1.png", np.roll(labels, 48, 2))
    said = insilico(**{**given, "edits": str(edits)})
    out = tmp_path / "out"
    assert sorted(path.name for path in (out / "images").iterdir()) == ["t0__faint.png", "t2__faint.png"]
    assert sorted(path.name for path in (out / "labels").iterdir()) == ["t0.png", "t2.png"]
    assert "2 images of 3 tiles" in said
    rows = {(row["tile"], row["variant"]): row for row in table(out / "morphology.csv")}
    assert rows["t0", "gone"]["kept"] == "no"
    assert "nuclei are not where the labels are" in rows["t0", "gone"]["reason"]
    assert rows["t0", "(unedited)"]["kept"] == ""
    told = capsys.readouterr().err
    assert "t0, gone: left out" in told
    assert "t1, the tile itself: nuclei are not where the labels are" in told
    sheet = read_slide(out / "left_out.png").pixels
    framed = (sheet == np.array(ALARM).reshape(3, 1, 1)).all(0).sum()
    assert framed > 4 * 4 * 3 * 190  # of gone, and of both of t1, but for corners and captions
    assert (
        not (read_slide(out / "contact_sheet.png").pixels[:, :, :400] == np.array(ALARM).reshape(3, 1, 1)).all(0).any()
    )


def test_if_all_are_left_out_there_is_no_dataset_but_what_shows_why(given, tmp_path):
    for number in range(3):
        write_slide(tmp_path / "labels" / f"t{number}.png", np.roll(cells(number)[1], 48, 2))
    with pytest.raises(InputError, match="no image is kept"):
        insilico(**given)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["contact_sheet.png", "edits.csv", "left_out.png", "morphology.csv", "provenance.json"]
    assert "18" in insilico(**given, replace=True, least_overlap=0)
    with pytest.raises(InputError, match=r"Look at .*out_left_out.left_out\.png"):
        insilico(**given, replace=True)
    assert len(list((tmp_path / "out" / "images").iterdir())) == 18  # what was there stays
    assert not (tmp_path / "out_left_out" / "datalist.json").exists()


def test_fluorescence_tiles_need_no_way_forward(given, tmp_path, monkeypatch):
    dapi = Modality("IF", 1, 0.0, 1000.0, channel_names=("DAPI",))
    reverse = Analytic("reverse", target=dapi)
    loaded = []
    monkeypatch.setattr(models, "load_model", lambda root, device, **ids: loaded.append(ids) or reverse)
    reverse.__class__ = type("Scaled", (Analytic,), {"__call__": lambda self, x: Analytic.__call__(self, x * 0.255)})
    for number in range(3):
        _, labels = cells(number)
        glow = np.where(labels > 0, 800, 60).astype(np.uint16)
        write_slide(tmp_path / "glow" / f"t{number}.png", glow)
        write_slide(tmp_path / "glow" / f"t{number}_labels.png", labels)
    edits = tmp_path / "edits.json"
    edits.write_text('{"variants": {"plain": []}}')
    folders = dict.fromkeys(("input", "labels"), str(tmp_path / "glow"))
    insilico(**{**given, **folders, "edits": str(edits)}, domain="target", split="testing")
    assert loaded == [{}, {"direction": "reverse"}]
    listed = json.loads((tmp_path / "out" / "datalist.json").read_text())
    assert [entry["image"] for entry in listed["testing"]] == [f"images/t{n}__plain.png" for n in range(3)]
    assert listed["pixel_um"] is None
    made = densities(read_slide(tmp_path / "out" / "images" / "t0__plain.png").pixels)[0]
    assert made[cells(0)[1][0] > 0].mean() == pytest.approx(0.8 * FULL[0], abs=0.01)


def test_a_table_divides_specimens(given, tmp_path):
    rows = tmp_path / "table.csv"
    rows.write_text("tile,specimen,split\nt0,slide 1,training\nt1,slide 1,\nt2,slide 2,validation\n")
    insilico(**given, table=str(rows))
    listed = json.loads((tmp_path / "out" / "datalist.json").read_text())
    assert {entry["specimen"] for entry in listed["training"]} == {"slide 1"}
    assert (len(listed["training"]), len(listed["validation"])) == (12, 6)
    rows.write_text("tile,specimen,split\nt0,slide 1,training\nt1,slide 1,testing\nt9,,\nt2,,later\n")
    with pytest.raises(InputError) as error:
        insilico(**{**given, "output": str(tmp_path / "other")}, table=str(rows))
    said = str(error.value).splitlines()
    assert len(said) == 3
    assert "'slide 1' is in testing and in training" in said[2]


def write_tile(folder: Path, name: str, pixels: np.ndarray) -> None:
    write_slide(folder / name, pixels)


def test_every_fault_of_the_tiles_is_one_line(given, tmp_path):
    tiles, labels = tmp_path / "tiles", tmp_path / "labels"
    image, own = cells(5)
    write_tile(tiles, "grey.png", image[:1])
    write_tile(labels, "grey.png", own)
    write_tile(tiles, "small.png", image)
    write_tile(labels, "small.png", own[:, :90])
    write_tile(tiles, "mask.png", image)
    write_tile(labels, "mask.png", ((own > 0) * 255).astype(np.uint8))
    write_tile(tiles, "coloured.png", image)
    write_tile(labels, "coloured_labels.png", image)
    write_slide(tiles / "fine.png", image, 0.25)
    write_tile(labels, "fine.png", own)
    with pytest.raises(InputError) as error:
        insilico(**given)
    said = str(error.value).splitlines()
    assert [line for line in said if "grey.png has 1 channels but IHC declares 3" in line]
    assert [line for line in said if "90×96 px but tile" in line]
    assert [line for line in said if "hold one number, 255, in" in line and "a mask" in line]
    assert [line for line in said if "coloured_labels.png is in colour" in line]
    assert [line for line in said if "0.25 µm pixels but" in line]
    assert len(said) == 5
    assert not (tmp_path / "out").exists()


def test_tiles_and_labels_without_the_other(given, tmp_path):
    shutil.move(tmp_path / "labels" / "t0.png", tmp_path / "labels" / "t7.png")
    with pytest.raises(InputError) as error:
        insilico(**given)
    said = str(error.value).splitlines()
    assert "t0.png has no labels; put t0.png or t0_labels.png into" in said[0]
    assert "t7.png have no tile t7" in said[1]


def test_tiles_without_tissue_or_nuclei_are_left_out_with_a_line(given, tmp_path, capsys):
    write_slide(tmp_path / "tiles" / "t0.png", np.full((3, 96, 96), 240, np.uint8), 0.5)
    write_slide(tmp_path / "labels" / "t1.png", np.zeros((1, 96, 96), np.uint16))
    assert "6 images of 1 tiles" in insilico(**given)
    said = capsys.readouterr().err
    assert "tile t0 is left out: no tissue: 100.0% of it is bare glass" in said
    assert "tile t1 is left out: its labels hold no nucleus" in said
    rows = {row["tile"]: row for row in table(tmp_path / "out" / "morphology.csv")}
    assert rows["t0"]["reason"].startswith("no tissue")
    write_slide(tmp_path / "labels" / "t2.png", np.zeros((1, 96, 96), np.uint16))
    with pytest.raises(InputError, match="no tile of .* is left"):
        insilico(**{**given, "output": str(tmp_path / "other")})


def test_options_edits_and_folders_are_checked_together(given, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").touch()
    changes = {
        "edits": "none.json",
        "labels": "nowhere",
        "split": "later",
        "least_overlap": 2,
        "device": "gpu",
        "most_distance": 0,
    }
    with pytest.raises(InputError) as error:
        insilico(**{**given, **changes}, seed=-1)
    said = str(error.value)
    for part in (
        "split is 'later'",
        "least_overlap is 2",
        "most_distance is 0",
        "seed is -1",
        "is not empty",
        "device 'gpu'",
    ):
        assert part in said
    assert "labels nowhere is no folder" in said
    assert "edits none.json does not exist" in said
    with pytest.raises(InputError, match="did not make it"):
        insilico(**given, replace=True)
    assert (tmp_path / "out" / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (Modality("IF", 2, 0.0, 255.0), "has no channel_names"),
        (Modality("IF", 2, 0.0, 255.0, channel_names=("DAPI", "DAPI")), "give each its own name"),
    ],
)
def test_a_bundle_must_name_its_channels(given, monkeypatch, target, said):
    monkeypatch.setattr(models, "load_model", lambda root, device, **ids: Analytic("reverse", target=target))
    with pytest.raises(InputError, match=said):
        insilico(**given)


def test_a_bundle_must_translate_rgb_and_back(given, tmp_path, monkeypatch):
    grey = Modality("µCT", 1, 0.0, 65535.0)
    monkeypatch.setattr(models, "load_model", lambda root, device, **ids: Analytic("reverse", source=grey))
    with pytest.raises(InputError, match="its source is µCT"):
        insilico(**given)
    (tmp_path / "bundle" / "reverse.pt").unlink()
    with pytest.raises(InputError, match="has no reverse.pt"):
        insilico(**given)
    monkeypatch.undo()
    with pytest.raises(InputError, match="is no trained bundle"):
        insilico(**{**given, "model_bundle": str(tmp_path / "labels")})


def test_a_device_without_memory_is_told(given, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Analytic, "__call__", fail)
    with pytest.raises(InputError, match="out of memory at tile .*t0.png of 96×96 px"):
        insilico(**given)


def test_a_stop_leaves_nothing_half_written(given, tmp_path, monkeypatch):
    calls = []

    def stop(self, pixels, real=Analytic.__call__):
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return real(self, pixels)

    monkeypatch.setattr(Analytic, "__call__", stop)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        insilico(**given)
    assert sorted(tmp_path.iterdir()) == before


def test_the_command_line(given, monkeypatch, capsys):
    typed = [part for name, value in given.items() for part in (f"--{name}", value)]
    monkeypatch.setattr(sys, "argv", ["insilico", *typed])
    command(insilico)
    assert "18 images of 3 tiles" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["insilico", *typed, "--least_overlp", "0.8"])
    with pytest.raises(InputError, match="did you mean --least_overlap"):
        command(insilico)


def test_a_bundle_as_a_run_leaves_it(given, tmp_path, monkeypatch):
    monkeypatch.undo()
    root = untrained_bundle(tmp_path / "untrained")
    insilico(**{**given, "model_bundle": str(root)}, least_overlap=0)
    forward, reverse = (load_model(root, direction=way) for way in ("forward", "reverse"))
    channels = forward(read_slide(tmp_path / "tiles" / "t1.png").pixels)
    assert channels.shape == (2, 96, 96)
    faint = channels.astype(np.float64)
    faint[1] *= 0.4
    made = {
        name: read_slide(tmp_path / "out" / "images" / f"t1__{name}.png").pixels
        for name in ("unchanged", "faint_membrane")
    }
    assert np.array_equal(made["unchanged"], reverse(channels))
    assert np.abs(made["faint_membrane"].astype(int) - reverse(faint)).max() <= 1
    assert not np.array_equal(made["unchanged"], made["faint_membrane"])


def test_images_that_do_not_look_as_those_of_the_training_are_left_out(given, tmp_path, monkeypatch, capsys):
    one = Analytic("forward")
    learnt = learn([one.prepared(cells(seed)[0]) for seed in range(10, 16)], range(6))
    rng = np.random.default_rng(0)

    def load(root, device, direction="forward"):
        def noisy(self, pixels, real=Analytic.__call__):
            made = real(self, pixels).astype(np.float64)
            grain = rng.normal(0, 60 * (direction == "reverse" and (pixels[1] == 0).all()), made.shape)
            return np.clip(made + grain, 0, 255).astype(np.uint8)

        return type("Noisy", (Analytic,), {"__call__": noisy})(direction, trust=Trust(learnt))

    monkeypatch.setattr(models, "load_model", load)
    given["edits"] = str(tmp_path / "edits.json")
    gone = [{"edit": "scale", "channel": "membrane", "factor": 0}]  # where it is, the stand-in's images are noise
    Path(given["edits"]).write_text(json.dumps({"variants": {"plain": [], "noise": gone}}))
    image, labels = cells(1)
    write_slide(tmp_path / "tiles" / "t1.png", 255 - image, 0.5)
    with pytest.raises(InputError, match=r"no image is kept.* to --most_distance 0\.01"):
        insilico(**given, least_overlap=0, most_distance=0.01)
    assert "2 images of 3 tiles" in insilico(**given, least_overlap=0, replace=True)
    rows = {(row["tile"], row["variant"]): row for row in table(tmp_path / "out" / "morphology.csv")}
    assert {key for key, row in rows.items() if row["kept"] == "yes"} == {("t0", "plain"), ("t2", "plain")}
    assert rows["t0", "noise"]["reason"].startswith("unlike the training's IHC: distance ")
    given_distance = learnt.distance(one.prepared(read_slide(tmp_path / "tiles" / "t0.png").pixels)) / learnt.usual
    assert float(rows["t0", "(input)"]["distance"]) == pytest.approx(given_distance, abs=1e-3)
    said = capsys.readouterr().err
    assert "t1, the tile itself: unlike the training's IHC" in said
    assert "not judged" not in said


@pytest.mark.parametrize("sources", [0, 2])
def test_a_bundle_that_holds_nothing_to_judge_by_says_so(given, tmp_path, monkeypatch, capsys, sources):
    images = [Analytic("forward").prepared(cells(seed)[0]) for seed in range(sources)]
    trust = Trust(learn(images, range(sources)) if images else None)
    monkeypatch.setattr(
        models, "load_model", lambda root, device, direction="forward": Analytic(direction, trust=trust)
    )
    assert "18 images of 3 tiles" in insilico(**given)
    assert capsys.readouterr().err.count("is not judged: the bundle holds nothing to tell by") == 1
    assert {row["distance"] for row in table(tmp_path / "out" / "morphology.csv")} == {""}
