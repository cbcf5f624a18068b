"""Proposed regions, masks (§2.8) and a scan's intensities against the truth of phantoms."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from bundle.common.errors import InputError
from bundle.images.parts import main_parts
from bundle.images.slides import read_slide, write_slide
from bundle.preparation.pairs.intensities import intensities, propose_alone
from bundle.preparation.pairs.masks import correspondence, hull
from bundle.preparation.pairs.normalisation import normalise_source, normalise_stain, source_scale, stain_scale
from bundle.preparation.pairs.proposal import BACKGROUND, BONE, propose
from bundle.preparation.phantom.block import Tissue
from tests.helpers.registered_pairs import GAIN, MATERIALS, OFFSET, Truth, make_phantoms, spoilt_source, spoilt_target

CONTRAST = 20000.0


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Truth]:
    return make_phantoms(tmp_path_factory.mktemp("phantoms"))


def means(truth: Truth) -> tuple[float, float]:
    """Mean grey of bone in this slice, and of background in the scan."""
    return float(truth.source[np.isin(truth.labels, (Tissue.BONE, Tissue.YOUNG_BONE))].mean()), 10000.0


@pytest.mark.parametrize("material", MATERIALS)
def test_proposed_regions_and_mask(phantoms, material):
    truth = phantoms[material]
    source, target = spoilt_source(truth.source), spoilt_target(truth.target)
    field = np.ones(source.shape, bool)
    regions, colours = propose(source, target, field)
    scale = source_scale(source[regions == BONE], source[regions == BACKGROUND])
    bone, background = means(truth)
    assert abs((scale.bone - OFFSET) / GAIN - bone) < 0.03 * CONTRAST
    assert abs((scale.background - OFFSET) / GAIN - background) < 0.03 * CONTRAST
    screw = np.isin(truth.labels, (Tissue.MG, Tissue.TI, Tissue.PEEK))
    assert (regions == BONE)[screw].sum() < 0.005 * (regions == BONE).sum()  # screw and section are not quite in place
    assert np.isin(truth.labels[regions == BACKGROUND], (Tissue.BACKGROUND,)).mean() > 0.99
    stain = stain_scale(target[:, colours == BONE], target[:, colours == BACKGROUND])
    made = correspondence(
        normalise_source(source, scale), normalise_stain(target, stain), field, field, colours == BONE
    ).mask
    assert (made & truth.mask).sum() / (made | truth.mask).sum() > 0.9


def test_mask_keeps_to_field_and_drawn_masks(phantoms):
    truth = phantoms["Mg"]
    field, drawn = np.ones((2, *truth.mask.shape), bool)
    field[:80], drawn[:, :70] = False, False
    _, colours = propose(truth.source, truth.target, field)
    made = correspondence(truth.source, truth.target, field, drawn, colours == BONE).mask
    assert made.any()
    assert not made[:80].any()
    assert not made[:, :70].any()


def test_main_parts_drop_specks_and_the_wall():
    rows, columns = np.mgrid[:200, :200]
    away = np.hypot(rows - 100, columns - 100)
    bone, wall = away < 40, np.abs(away - 92) < 3
    area = bone | wall
    area[5:7, 5:7] = True
    assert (main_parts(area) ^ bone).sum() <= 4  # single pixels at the ends of the disk


def test_hull_has_its_margin():
    area = np.zeros((60, 60), bool)
    area[20:40, 20:40] = True
    assert hull(area, 4)[16:44, 30].all()
    assert hull(area, 4).sum(0)[30] == 28
    assert not hull(np.zeros((5, 5), bool), 4).any()


def test_background_must_not_be_a_spot_of_lost_tissue(phantoms):
    """A slice that is sample all over has no air, so none is proposed."""
    truth = phantoms["Ti"]
    inside = np.s_[40:120, 40:120]
    regions, _ = propose(truth.source[inside], truth.target[:, 40:120, 40:120], np.ones((80, 80), bool))
    assert not (regions == BACKGROUND).any()


@pytest.mark.parametrize("material", MATERIALS)
def test_intensities_of_a_scan_alone(phantoms, material):
    truth = phantoms[material]
    found = propose_alone(spoilt_source(truth.source)[None])
    bone, background = means(truth)
    assert found.metal == (material == "Ti")
    assert abs((found.scale.bone - OFFSET) / GAIN - bone) < 0.04 * CONTRAST
    assert abs((found.scale.background - OFFSET) / GAIN - background) < 0.03 * CONTRAST


def test_intensities_of_a_volume(tmp_path, phantoms):
    slices = np.stack([phantoms["PEEK"].source] * 12)
    nibabel.save(nibabel.Nifti1Image(slices.transpose(2, 1, 0), np.diag([0.008, 0.008, 0.008, 1])), tmp_path / "s.nii")
    said = intensities(str(tmp_path / "s.nii"), output=str(tmp_path / "picture.png"))
    one = propose_alone(phantoms["PEEK"].source[None])
    words = said.splitlines()[-1].split()
    assert words[::2] == ["--bone_intensity", "--background_intensity"]
    assert [float(word) for word in words[1::2]] == pytest.approx([one.scale.bone, one.scale.background], rel=0.005)
    assert "slices 1, 2, 3, 4, 6, 7, 8, 9, 10" in said
    assert "if the scan shows a titanium screw, pass --metal true" in said
    assert read_slide(tmp_path / "picture.png").pixels.shape == (3, 160, 480)
    drawn = tmp_path / "rois.json"
    drawn.write_text(json.dumps({"slice": 11, "bone": [[60, 30, 9, 9]], "background": [[0, 0, 9, 9]]}))
    said = intensities(str(tmp_path / "s.nii"), rois=str(drawn), output=str(tmp_path / "picture.png"))
    assert f"slices 11, regions of {drawn}" in said
    assert f"--bone_intensity {slices[11, 60:69, 30:39].mean():.6g}" in said
    drawn.write_text(json.dumps({"slice": 99, "bone": [[60, 30, 9, 9]], "background": [[0, 0, 9, 9]]}))
    with pytest.raises(InputError, match="slice is 99, but .* has slices 0 to 11"):
        intensities(str(tmp_path / "s.nii"), rois=str(drawn), output=str(tmp_path / "p.png"))


def test_intensities_of_drawn_regions(tmp_path):
    scan = np.full((1, 40, 50), 100, np.uint16)
    scan[0, 10:20, 10:20] = 900
    write_slide(tmp_path / "scan.png", scan)
    drawn = tmp_path / "rois.json"
    drawn.write_text(json.dumps({"bone": [[10, 10, 10, 10]], "background": [[30, 0, 10, 50]]}))
    said = intensities(str(tmp_path / "scan.png"), rois=str(drawn), output=str(tmp_path / "p.png"))
    assert said.endswith("--bone_intensity 900 --background_intensity 100")
    assert "from 5.00% of the voxels read" in said
    labels = np.where(scan == 900, 1, 2).astype(np.uint8)
    write_slide(tmp_path / "labels.png", labels)
    said = intensities(str(tmp_path / "scan.png"), rois=str(tmp_path / "labels.png"), output=str(tmp_path / "p.png"))
    assert said.endswith("--bone_intensity 900 --background_intensity 100")


def refuse(folder: Path, message: str, **options) -> None:
    usual = {"input": str(folder / "scan.png"), "output": str(folder / "p.png")}
    with pytest.raises(InputError) as error:
        intensities(**{**usual, **options})
    assert message in str(error.value)
    assert not (folder / "p.png").exists()


def test_intensities_refusals(tmp_path):
    write_slide(tmp_path / "scan.png", np.full((1, 30, 30), 7, np.uint8))
    write_slide(tmp_path / "colour.png", np.zeros((3, 30, 30), np.uint8))
    (tmp_path / "bad.json").write_text('{"slice": "a", "bone": []}')
    (tmp_path / "empty.json").write_text('{"bone": []}')
    refuse(tmp_path, "hold one grey value only")
    refuse(tmp_path, "name a .png file", output="picture.jpg")
    refuse(tmp_path, "the folder of output /proc/none cannot be written", output="/proc/none/picture.png")
    refuse(tmp_path, "does not exist", input=str(tmp_path / "none.png"))
    refuse(tmp_path, "has 3 channels; a scan has one", input=str(tmp_path / "colour.png"))
    refuse(tmp_path, "rois", rois=str(tmp_path / "none.json"))
    refuse(tmp_path, "slice is 'a'", rois=str(tmp_path / "bad.json"))
    refuse(tmp_path, "bone is []; give at least one", rois=str(tmp_path / "empty.json"))
    refuse(tmp_path, "metal is 'perhaps'; it must be true or false", metal="perhaps")
