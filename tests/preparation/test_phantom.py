"""Phantoms: what is written can be found again, and looks like what it stands for where that can be counted."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import fields, replace
from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
from skimage.measure import label
from skimage.metrics import peak_signal_noise_ratio
from skimage.transform import AffineTransform, warp

from bundle.common.errors import InputError
from bundle.data.load import load_datalist
from bundle.evaluation.paired import evaluate
from bundle.evaluation.tables import ROWS
from bundle.images.slides import read_labels, read_slide
from bundle.preparation.phantom.block import BONES, MATERIALS, Block, Tissue, make_block
from bundle.preparation.phantom.dataset import make_dataset, plan
from bundle.preparation.phantom.fields import paint_ellipsoids, smooth_noise
from bundle.preparation.phantom.sectioning import cut, draw_plane
from bundle.preparation.phantom.spoiling import Spoiling, spoiling_of
from bundle.preparation.phantom.staining import stain_block
from bundle.preparation.phantom.tomography import Scan, draw_scan, scan_block
from tests.conftest import ROOT
from tests.helpers.forked import run_module

SMALL = {"size": 112, "screw_mm": 0.2}  # of 5 µm: the least block for its screw
NONE = Spoiling(**{field.name: 0.0 for field in fields(Spoiling)})


def grown(material: str = "Mg", seed: int = 0) -> Block:
    return make_block(np.random.default_rng(seed), material, **SMALL)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_dataset(str(tmp_path_factory.mktemp("phantom") / "data"), pairs=7, seed=3, **SMALL)


@pytest.fixture(scope="module")
def block() -> Block:
    return grown()


def checksum(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_dataset_keeps_the_contract_and_lists_every_tissue(made):
    data = load_datalist(str(made), fold=0)
    assert (len(data.training), len(data.validation), len(data.testing)) == (4, 2, 1)
    assert data.source.bone_intensity == 30000
    assert {value for values in data.tissues.values() for value in values} == set(map(int, Tissue))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_specimen(made, tmp_path):
    again = make_dataset(str(tmp_path / "again"), pairs=7, seed=3, **SMALL)
    assert checksum(again) == checksum(made)
    other = checksum(make_dataset(str(tmp_path / "other"), pairs=7, seed=4, **SMALL))
    assert not {name for name, value in checksum(made).items() if other[name] == value}


def test_specimens_of_one_dataset_differ(made):
    sums = checksum(made)
    assert len({value for name, value in sums.items() if name.startswith("labels/")}) == 7


@pytest.mark.parametrize(
    ("pairs", "counts"), [(10, (7, 1, 2)), (53, (37, 5, 11)), (1, (1, 0, 0)), (12, (9, 1, 2)), (20, (14, 2, 4))]
)
def test_materials_are_shared_out_seven_to_one_to_two(pairs, counts):
    parts = plan(pairs)
    assert tuple(sum(part.material == name for part in parts) for name in ("Mg", "Ti", "PEEK")) == counts
    assert [part.number for part in parts] == list(range(1, pairs + 1))


def test_test_pairs_are_in_no_fold_and_folds_keep_materials_in_proportion():
    parts = plan(53)
    assert all((part.fold is None) == (part.split == "testing") for part in parts)
    training = [part for part in parts if part.split == "training"]
    for material in ("Mg", "Ti", "PEEK"):
        share = sum(part.material == material for part in training) / 5
        for fold in range(5):
            count = sum(part.material == material and part.fold == fold for part in training)
            assert abs(count - share) < 1, (material, fold)
    assert [part.material for part in parts if part.split == "testing"][:3] == ["Mg", "PEEK", "Mg"]


def test_the_screw_has_the_proportions_of_an_m2_screw():
    block = grown("Ti", seed=1)
    size, middle = block.labels.shape[0], (block.labels.shape[0] - 1) / 2
    steps = np.arange(size) - middle
    away = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)
    along = away @ block.axis
    outward = np.linalg.norm(away - along[..., None] * block.axis, axis=-1)
    metal = block.labels == Tissue.TI
    shaft = np.abs(along + 5) < 20  # without slot and tip
    diameter = 2 * outward[metal & shaft].max() * 5
    assert diameter == pytest.approx(200, abs=12)
    core = 2 * outward[~metal & shaft].min() * 5
    assert core == pytest.approx(200 * (1 - 2 * 0.1225), abs=15)
    # the thread's pitch, 0.2 diameters: 8 voxels between turns along one side
    side = np.cross(block.axis, [1.0, 0, 0])
    side /= np.linalg.norm(side)
    places = middle + np.multiply.outer(np.arange(-24, 24), block.axis)
    profile = [
        metal[tuple(np.rint(place + np.multiply.outer(np.arange(30), side)).astype(int).T)].sum() for place in places
    ]
    power = np.abs(np.fft.rfft(np.asarray(profile) - np.mean(profile)))
    assert 48 / power.argmax() == pytest.approx(8, abs=1.5)


def test_only_magnesium_degrades_and_its_layer_holds_no_cell(block):
    assert {Tissue.LAYER, Tissue.NEW_BONE, Tissue.MG} <= set(np.unique(block.labels))
    for material in ("Ti", "PEEK"):
        found = set(np.unique(grown(material).labels))
        assert MATERIALS[material] in found
        assert not {Tissue.LAYER, Tissue.NEW_BONE, Tissue.MG} & found
    lacunae = block.labels == Tissue.LACUNA
    grid = np.argwhere(lacunae)
    beside = [block.labels[tuple((grid + step).clip(0, 111).T)] for step in ((0, 0, 1), (0, 1, 0), (1, 0, 0))]
    bony = np.isin(np.concatenate(beside), [*BONES, Tissue.LACUNA, Tissue.VESSEL])
    assert bony.mean() > 0.85  # they lie in bone; some touch its surface


def test_lacunae_are_a_few_voxels_wide(block):
    sizes = np.bincount(label(block.labels == Tissue.LACUNA).ravel())[1:]
    assert sizes.size > 50
    assert 4 <= np.median(sizes) <= 40


def test_bone_and_background_have_the_published_means(block):
    rng = np.random.default_rng(0)
    tomogram = scan_block(block, draw_scan(rng), rng)
    assert tomogram[block.labels == Tissue.BONE].mean() == pytest.approx(30000, abs=5)
    assert tomogram[block.labels == Tissue.BACKGROUND].mean() == pytest.approx(10000, abs=5)


@pytest.mark.parametrize("energy", [25.0, 45.0])
def test_screws_attenuate_less_alike_and_more_than_bone_but_are_all_black(energy):
    scan = Scan(energy, 4.0, 0.2, 0.05, 0.01, 1.0)
    means, colours = {}, {}
    for material, tissue in MATERIALS.items():
        block, rng = grown(material), np.random.default_rng(0)
        screw = block.labels == tissue
        means[material] = scan_block(block, scan, rng)[screw].mean()
        colours[material] = stain_block(block, "toluidine", rng)[screw].max()
    assert means["PEEK"] < 20000
    assert abs(means["Mg"] - 30000) < 2000
    assert means["Ti"] > 40000
    assert max(colours.values()) < 30


def test_one_grey_means_several_tissues(block):
    """The best threshold on grey tells magnesium from bone in far fewer voxels than a stain must."""
    rng = np.random.default_rng(0)
    tomogram = scan_block(block, draw_scan(rng), rng)
    bone, screw = (np.sort(tomogram[block.labels == tissue]) for tissue in (Tissue.BONE, Tissue.MG))
    thresholds = np.linspace(20000, 40000, 200)
    below = np.searchsorted(bone, thresholds) / bone.size
    above = 1 - np.searchsorted(screw, thresholds) / screw.size
    assert np.abs((below + above) / 2 - 0.5).max() < 0.3


def test_the_recorded_plane_and_the_volume_give_the_slice_again_with_itk(made):
    """ITK resamples the NIfTI volume at the plane of truth.json; the pair's source must be what it finds."""
    number = 1
    folder = made / "specimens" / f"{number:02d}"
    truth = json.loads((folder / "truth.json").read_text())
    plane, voxel = truth["plane"], truth["voxel_um"] / 1000
    volume = itk.imread(str(folder / "ct.nii.gz"), itk.F)
    np.testing.assert_allclose(itk.array_from_matrix(volume.GetDirection()), np.eye(3))
    np.testing.assert_allclose(volume.GetSpacing(), voxel, rtol=1e-6)
    down, right, centre = (np.array(plane[key])[::-1] for key in ("down", "right", "centre"))  # to x, y, z
    rows, columns = plane["rows_columns"]
    corner = centre - (rows - 1) / 2 * down - (columns - 1) / 2 * right
    corner = corner + plane["pair_corner"][0] * down + plane["pair_corner"][1] * right
    source = read_slide(made / "ct" / f"{number:02d}.png").pixels[0]
    seen = itk.resample_image_filter(
        volume,
        size=[source.shape[1], source.shape[0], 1],
        output_spacing=[voxel] * 3,
        output_origin=(corner * voxel).tolist(),
        output_direction=itk.matrix_from_array(np.stack([right, down, np.cross(right, down)], axis=1)),
        interpolator=itk.LinearInterpolateImageFunction.New(volume),
    )
    found = itk.array_from_image(seen)[0]
    inside = found > 0  # ITK leaves 0 outside the volume
    assert inside.mean() > 0.8
    np.testing.assert_allclose(found[inside], source[inside], atol=2)


def test_volumes_hold_what_the_sections_show(made):
    folder = made / "specimens" / "01"
    labels = np.asarray(nibabel.load(folder / "labels.nii.gz").dataobj).transpose()
    stain = np.asarray(nibabel.load(folder / "stain.nii.gz").dataobj).transpose()
    screw = labels == Tissue.MG
    assert max(stain[name][screw].max() for name in "RGB") < 30
    assert read_labels(made / "labels" / "01.png").max() <= max(Tissue)


def section(block: Block, seed: int = 5, **strengths):
    rng = np.random.default_rng(seed)
    tomogram = scan_block(block, draw_scan(rng), rng)
    stained = stain_block(block, "toluidine", rng)
    return cut(block, tomogram, stained, draw_plane(block, rng), replace(NONE, **strengths), rng)


def test_without_faults_the_section_is_the_perfect_stain(block):
    clean = section(block)
    assert peak_signal_noise_ratio(clean.perfect, clean.target, data_range=255) > 24  # blur, noise
    np.testing.assert_array_equal(clean.transform, np.eye(2, 3))


@pytest.mark.parametrize("fault", [field.name for field in fields(Spoiling)])
def test_every_fault_has_a_strength_and_a_switch(block, fault):
    strong = {"shift_px": 6.0, "rotation_deg": 3.0, "shear": 0.1, "thickness_um": 60.0, "cracks": 8.0, "drops": 8.0}
    strong |= {"soft_shift_px": 8.0, "soft_missing": 0.6, "saw_marks": 0.3, "illumination": 0.4}
    strong |= {"stain_variation": 0.4, "partial": 1.0}
    clean, spoiled = section(block), section(block, **{fault: strong[fault]})
    if fault == "partial":
        assert spoiled.target.shape == (3, 90, 50)  # 4.5 mm × 2.5 mm of a 2 mm screw, for one of 0.2 mm
        return
    np.testing.assert_array_equal(spoiled.source, clean.source)
    np.testing.assert_array_equal(spoiled.labels, clean.labels)
    changed = np.abs(spoiled.target.astype(float) - clean.target).mean(0)
    assert changed.mean() > 1.5 * np.abs(section(block, seed=5).target.astype(float) - clean.target).mean() + 0.3
    if fault == "soft_missing":
        assert spoiled.mask.sum() < clean.mask.sum()


def test_the_recorded_transform_leads_back_to_the_unspoiled_section(block):
    clean = section(block)
    moved = section(block, shift_px=4.0, rotation_deg=2.0, shear=0.08)
    rows_columns = np.vstack([moved.transform, [0, 0, 1]])
    swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    back = warp(
        clean.target.transpose(1, 2, 0).astype(float), AffineTransform(swap @ rows_columns @ swap), mode="edge"
    ).transpose(2, 0, 1)
    inner = (slice(None), slice(20, -20), slice(20, -20))
    before = peak_signal_noise_ratio(clean.target[inner], moved.target[inner], data_range=255)
    after = peak_signal_noise_ratio(back[inner], moved.target[inner].astype(float), data_range=255)
    assert after > before + 5


def test_bone_stays_where_soft_tissue_moves(block):
    clean, moved = section(block), section(block, soft_shift_px=6.0)
    change = np.abs(moved.target.astype(float) - clean.target).mean(0)
    soft = np.isin(clean.labels, [Tissue.SOFT, Tissue.MARROW, Tissue.FAT])
    screw = clean.labels == Tissue.MG
    assert change[soft].mean() > 3 * change[screw].mean()


def test_he_sections_hold_no_screw_and_shear_more():
    block, rng = grown(), np.random.default_rng(0)
    stained = stain_block(block, "he", rng)
    assert stained[block.labels == Tissue.MG].min() > 230
    assert spoiling_of("he").shear == 0.035
    red, green, blue = stained[block.labels == Tissue.BONE].mean(0)
    assert red > blue > green  # pink


def test_toluidine_darkens_young_bone_and_makes_new_bone_blue(block):
    stained = stain_block(block, "toluidine", np.random.default_rng(0))
    bone, young, new = (stained[block.labels == tissue].mean(0) for tissue in BONES)
    assert young.mean() < bone.mean()
    assert new[2] > 1.8 * new[0]
    assert abs(bone[0] - bone[2]) < 40 < bone[2] - bone[1]  # purple


def test_ellipsoids_and_noise_are_what_they_say():
    labels = np.zeros((21, 21, 21), np.uint8)
    paint_ellipsoids(labels, np.full((1, 3), 10.0), np.array([[4.0, 3.0, 6.0]]), np.eye(3), 7, over=(0,))
    z, y, x = np.ogrid[-10:11, -10:11, -10:11]
    np.testing.assert_array_equal(labels == 7, (z / 4) ** 2 + (y / 3) ** 2 + (x / 6) ** 2 <= 1)
    field = smooth_noise((96, 96, 96), 4, np.random.default_rng(0))
    assert field.std() == pytest.approx(1, abs=0.1)
    near, far = ((field * np.roll(field, lag, axis)).mean() for lag, axis in ((2, 0), (20, 2)))
    assert near == pytest.approx(np.exp(-(2**2) / (2 * 4**2)), abs=0.06)  # a Gaussian of scale 4, with itself
    assert abs(far) < 0.06


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pairs": 0}, "pairs is 0; give a whole number of at least 1"),
        ({"pairs": 2.5}, "pairs is 2.5"),
        ({"seed": -1}, "seed is -1"),
        ({"size": 100, "screw_mm": 0.4}, "too small for a screw of 0.4 mm .* set --size of at least 148"),
        ({"size": "big"}, "size is 'big'"),
        ({"size": 1_000_000}, "size is 1000000; give the block's side as a whole number of voxels, at most 1024"),
        ({"voxel_um": [5]}, "voxel_um is .5.; it must be more than 0"),
        ({"screw_mm": float("inf")}, "screw_mm is inf; it must be more than 0"),
        ({"voxel_um": 0}, "voxel_um is 0"),
        ({"material": "Zn"}, "material is 'Zn'; the screws are of Mg, Ti, PEEK"),
        ({"material": ["Mg", "Ti"]}, r"material is \['Mg', 'Ti'\]"),
        ({"spoiling": {"shear": 50}}, "spoiling shear is 50; it is a share"),
        ({"stain": "congo"}, "stain is 'congo'; the stains are toluidine, he"),
        ({"spoiling": {"crack": 1}}, "spoiling has no 'crack'; it has shift_px"),
        ({"spoiling": {"cracks": -1}}, "spoiling cracks is -1"),
        ({"spoiling": {"partial": 1.5}}, "spoiling partial is 1.5; it is a share"),
        ({"spoiling": 3}, "spoiling is 3"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        make_dataset(str(tmp_path / "data"), **{"pairs": 1, **arguments})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_empty_is_refused_in_one_line(tmp_path):
    (tmp_path / "thesis.docx").touch()
    done = run_module(["scripts.phantom", "--output", str(tmp_path), "--pairs", "1"], ROOT)
    assert done.returncode == 1
    assert done.stderr.strip() == f"error: output {tmp_path} is not empty; name a new folder, or empty this one first."
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


def test_a_mistyped_option_is_refused_before_anything_is_made(tmp_path):
    done = run_module(["scripts.phantom", "--output", str(tmp_path / "data"), "--pairs=1", "--sed", "3"], ROOT)
    assert (done.returncode, done.stderr.strip()) == (1, "error: --sed is not an option; did you mean --seed?")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("word", "written"), [("false", False), (False, False), ("True", True)])
def test_volumes_are_left_out_when_asked(tmp_path, word, written):
    folder = make_dataset(str(tmp_path / "data"), pairs=1, volumes=word, **SMALL)
    assert any(folder.rglob("*.nii.gz")) is written
    with pytest.raises(InputError, match="volumes is 'perhaps'; it must be true or false"):
        make_dataset(str(tmp_path / "other"), pairs=1, volumes="perhaps", **SMALL)


def test_the_perfect_stain_is_judged_beside_the_section(made, trained, tmp_path):
    data = load_datalist(str(made))
    data.target = replace(data.target, name="toluidine blue")
    data.source = replace(data.source, name="µCT", bone_intensity=None, background_intensity=None)
    evaluate(data, str(trained / "bundle"), str(tmp_path), "cpu", 32, 32, 0.5, ["testing"], None)
    with (tmp_path / "evaluation" / "truth.csv").open(newline="") as file:
        rows = {row["row"]: row for row in csv.DictReader(file)}
    assert set(rows) == {*ROWS, "real section", "perfect stain"}
    assert float(rows["perfect stain"]["lacunae_recall"]) > float(rows["real section"]["lacunae_recall"])
    assert float(rows["perfect stain"]["lacunae_recall"]) > 0.8 > 0.5 > float(rows["perfect stain"]["lacunae_chance"])
    assert (tmp_path / "evaluation" / "slides" / "testing_000_07" / "perfect.png").exists()
