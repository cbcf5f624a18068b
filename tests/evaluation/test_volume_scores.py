"""Volumes are scored as they were spoiled: the truth is perfect; blur, stripes and what lies outside are told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from skimage.metrics import peak_signal_noise_ratio

from bundle.common.errors import InputError
from bundle.evaluation.resolution import detail_ratio, resolution_px, ring_correlation
from bundle.evaluation.volumes import compare, inner_square, read_colour, read_tissues, table, volume_psnr
from bundle.evaluation.volumes_command import volume_scores
from bundle.images.stained.spec import StainSpec
from bundle.images.stained.stored import DEPTH, create, finish, write_slab
from bundle.images.volumes.geometry import Geometry
from bundle.preparation.phantom.dataset import write_volume

SIDE = 64
SOFT, BONE, NEW_BONE, LACUNA, LAYER = 2, 6, 8, 9, 11  # labels of the phantom
COLOURS = {0: (235, 235, 235), SOFT: (150, 172, 206), BONE: (190, 156, 202), NEW_BONE: (84, 132, 220)}
COLOURS |= {LACUNA: (46, 30, 96), LAYER: (112, 104, 110)}


def labels() -> np.ndarray:
    """Bone with lacunae, new bone and a layer side by side in a sample that fills all but an edge."""
    tissue = np.zeros((SIDE,) * 3, np.uint8)
    tissue[:, 4:60, 4:60] = SOFT
    tissue[:, 4:60, 8:36] = BONE
    tissue[:, 4:60, 36:46] = NEW_BONE
    tissue[:, 4:60, 46:54] = LAYER
    z, y, x = np.meshgrid(*(np.arange(SIDE),) * 3, indexing="ij")
    spots = ((z - 4) % 8) ** 2 + ((y - 4) % 8) ** 2 + ((x - 4) % 8) ** 2 <= 0
    tissue[np.isin(tissue, BONE) & gaussian_filter(spots.astype(float), 0.8).__gt__(0.04)] = LACUNA
    return tissue


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A truth, its labels and scan, and stained volumes: perfect, blurred along z, striped along z."""
    folder = tmp_path_factory.mktemp("volumes")
    rng = np.random.default_rng(0)
    tissue = labels()
    colour = np.array([COLOURS.get(value, (0, 0, 0)) for value in range(16)], float)[tissue]
    true = np.clip(np.rint(colour + rng.normal(0, 4, (*tissue.shape, 1))), 0, 255).astype(np.uint8)
    write_volume(folder / "stain.nii.gz", true, 5.0)
    write_volume(folder / "labels.nii.gz", tissue, 5.0)
    write_volume(
        folder / "ct.nii.gz", (1000 + 50 * colour[..., 0] + rng.normal(0, 100, tissue.shape)).astype("u2"), 5.0
    )
    noise = rng.normal(0, 1, true.shape)
    stripes = 6 * rng.standard_normal((SIDE, 1, 1, 1))
    made = {
        "perfect": true,
        "blurred": np.clip(np.rint(gaussian_filter1d(true.astype(float), 1.5, axis=0) + noise), 0, 255),
        "striped": np.clip(np.rint(true + stripes), 0, 255),
    }
    for name, volume in made.items():
        write_stain(folder / name / "stained.nii", volume.astype(np.uint8))
    return folder


def write_stain(path: Path, volume: np.ndarray, voxel_um: tuple[float, float, float] = (5.0, 5.0, 5.0)) -> Path:
    path.parent.mkdir(exist_ok=True)
    spec = StainSpec(volume.shape[:3], volume.shape[3], Geometry(voxel_um, (0.0, 0.0, 0.0), np.eye(3)), {})
    create(path, "nii", spec)
    for start in range(0, len(volume), DEPTH):
        write_slab(path, "nii", spec, start, np.ascontiguousarray(volume[start : start + DEPTH]))
    finish(path, "nii", spec)
    return path


def test_a_part_is_scored_alone(folder):
    true = read_colour(folder / "stain.nii.gz")
    half = true.copy()
    half[32:] = 255 - half[32:]
    path = write_stain(folder / "half" / "stained.nii", half)
    psnrs = []
    for between in ((0, 32), (32, 64), None):
        scored = compare([path], folder / "stain.nii.gz", folder / "labels.nii.gz", between=between)
        psnrs.append(scored[str(path)]["psnr"])
    assert psnrs[0] == np.inf
    assert psnrs[1] < psnrs[2] == pytest.approx(psnrs[1] + 10 * np.log10(2), abs=0.2)
    with pytest.raises(InputError, match="between is 60 to 70, but the volume has 64 slices along z"):
        compare([path], folder / "stain.nii.gz", between=(60, 70))


@pytest.fixture(scope="module")
def results(folder) -> dict:
    stained = [folder / name / "stained.nii" for name in ("perfect", "blurred", "striped")]
    scored = compare(stained, folder / "stain.nii.gz", folder / "labels.nii.gz", folder / "ct.nii.gz")
    return dict(zip(("perfect", "blurred", "striped", "truth"), scored.values(), strict=True))


def test_a_perfect_stain_scores_as_the_truth(results):
    assert results["perfect"] == results["truth"]
    assert results["perfect"]["psnr"] == float("inf")
    for view in results["perfect"]["views"].values():
        assert view["ssim"] == pytest.approx(1)
        assert view["psnr"] == float("inf")
        assert view["resolution_um"] == 10  # two voxels
        assert view["lacunae_recall"] == 1
        assert view["new_bone_recall"] > 0.8
        assert view["new_bone_precision"] > 0.9
        assert view["layer_boundary_um"] < 15
        assert view["detail"] == view["gradient_correlation"] == pytest.approx(1)
        assert view["lpips"] is None
        assert view["correlation"] == pytest.approx(1)


def test_blur_along_z_shows(results):
    views = results["blurred"]["views"]
    assert max(view["ssim"] for view in views.values()) < 0.98
    assert views["yz"]["detail"] < 0.9  # fewer borders across x, which this blur leaves, than in the other views
    assert results["blurred"]["psnr"] < 35


def test_detail_tells_blur_that_correlation_does_not():
    real = np.random.default_rng(0).integers(50, 200, (64, 64)).astype(np.float32)
    mask = np.ones((64, 64), bool)
    blurred = gaussian_filter(real, 1)
    assert resolution_px(*ring_correlation(blurred, real)) == 2
    assert detail_ratio(blurred, real, mask) < 0.5
    assert detail_ratio(real, real, mask) == 1
    assert detail_ratio(real, np.full_like(real, 7), mask) is None


def test_stripes_show_along_their_axis(results):
    plain, striped = results["perfect"], results["striped"]
    assert striped["flicker_levels"]["z"] == pytest.approx(6, rel=0.35)  # of 64 slices, with rounding
    assert striped["stripe_index"]["z"] > 3 * plain["stripe_index"]["z"]
    assert striped["stripe_index"]["x"] <= plain["stripe_index"]["x"]


def test_without_labels_all_of_the_volume_counts_and_without_scan_no_stripes(folder):
    scored = compare([folder / "striped" / "stained.nii"], folder / "stain.nii.gz", every=16)
    one, truth = scored.values()
    true, striped = read_colour(folder / "stain.nii.gz"), read_colour(folder / "striped" / "stained.nii")
    assert one["psnr"] == pytest.approx(peak_signal_noise_ratio(true, striped, data_range=255))
    assert one["views"]["xy"]["lacunae_recall"] is None
    assert one["stripe_index"] == {"z": None, "y": None, "x": None}
    assert truth["views"]["yz"]["slices"] == 4
    assert "lacunae" not in table(scored)
    assert "stripe index" not in table(scored)


def test_nothing_outside_the_sample_counts(folder, tmp_path):
    spoiled = read_colour(folder / "stain.nii.gz")
    spoiled[labels() == 0] = 0
    path = write_stain(tmp_path / "stained.nii", spoiled)
    files = folder / "stain.nii.gz", folder / "labels.nii.gz", folder / "ct.nii.gz"
    one, truth = compare([path], *files, every=16).values()
    assert one == truth


def test_the_psnr_of_a_volume_is_scikit_images():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 256, (2, 5, 6, 7, 3), dtype=np.uint8)
    inside = rng.random((5, 6, 7)) > 0.5
    expected = peak_signal_noise_ratio(other[inside], one[inside], data_range=255)
    assert volume_psnr(one, other, inside) == pytest.approx(expected)


def test_the_square_is_inside_and_as_large_as_can_be():
    mask = np.zeros((40, 50), bool)
    mask[3:28, 10:44] = True
    rows, columns = inner_square(mask)
    assert mask[rows, columns].all()
    assert (rows.stop - rows.start, columns.stop - columns.start) == (25, 25)
    assert inner_square(np.ones((20, 9), bool))[1] == slice(0, 9)
    empty = inner_square(np.zeros((5, 5), bool))
    assert mask[empty].size == 0


def test_the_command_prints_a_column_for_each_and_writes_json(folder, tmp_path):
    stained = ",".join(str(folder / name / "stained.nii") for name in ("perfect", "blurred"))
    arguments = (str(folder / "stain.nii.gz"), str(folder / "labels.nii.gz"), str(folder / "ct.nii.gz"))
    shown = volume_scores(stained, *arguments, every=16, output=str(tmp_path / "scores.json"))
    cells = [re.split("  +", line) for line in shown.splitlines()]
    assert cells[0] == ["measure", "perfect", "blurred", "truth"]
    assert set("".join(cells[1])) == {"─"}
    assert "|" not in shown
    measures = [line[0].split(",")[0] for line in cells[2:] if len(line) == 4]
    assert list(dict.fromkeys(measures))[:2] == ["detail (1 = as real)", "gradient correlation ↑"]
    assert measures.index("new bone recall ↑") < measures.index("SSIM ↑") < measures.index("PSNR ↑ (dB)")
    assert re.search(r"^FRC resolution ↓ \(µm\), xy +10\.0 ", shown, re.M)
    listed = volume_scores(f"[{stained}]", *arguments, every=16)  # fire leaves a list of paths as it is
    assert listed == shown
    written = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert list(written) == [*stained.split(","), "truth"]


def test_tissues_come_from_json_or_a_datalist(tmp_path):
    names = ("background", "bone", "new bone", "lacuna", "degradation layer")
    tissues = {name: [number] for number, name in enumerate(names)}
    path = tmp_path / "tissues.json"
    for content in (tissues, {"tissues": tissues, "training": []}):
        path.write_text(json.dumps(content))
        assert read_tissues(path) == tissues
    path.write_text(json.dumps({"bone": [1]}))
    with pytest.raises(InputError, match="no labels for background, new bone, lacuna, degradation layer; give each"):
        read_tissues(path)
    path.write_text("[1]")
    with pytest.raises(InputError, match="holds no tissues"):
        read_tissues(path)
    with pytest.raises(InputError, match=r"none.json does not exist"):
        read_tissues(tmp_path / "none.json")


def test_faults_are_single_lines_that_name_the_file(folder, tmp_path):
    perfect, truth = folder / "perfect" / "stained.nii", folder / "stain.nii.gz"
    small = write_stain(tmp_path / "small.nii", np.zeros((SIDE, SIDE, 60, 3), np.uint8))
    flat = write_stain(tmp_path / "flat.nii", np.zeros((SIDE, SIDE, SIDE, 3), np.uint8), (10.0, 5.0, 5.0))
    write_volume(tmp_path / "void.nii.gz", np.zeros((SIDE,) * 3, np.uint8), 5.0)
    nibabel.save(nibabel.Nifti1Image(np.zeros((SIDE,) * 3, np.float32), np.eye(4)), tmp_path / "real.nii")
    (tmp_path / "cut.nii.gz").write_bytes(truth.read_bytes()[:5000])
    faults = {
        "small.nii is 64×64×60 voxels but the truth .*stain.nii.gz is 64×64×64; they": ([small], truth),
        r"stained.nii does not exist": ([tmp_path / "stained.nii"], truth),
        r"gone.nii.gz does not exist": ([perfect], tmp_path / "gone.nii.gz"),
        r"labels.nii.gz is \(64, 64, 64\) of uint8; a true stain is one volume in colour": (
            [perfect],
            folder / "labels.nii.gz",
        ),
        r"cut.nii.gz cannot be read": ([perfect], tmp_path / "cut.nii.gz"),
        r"flat.nii has voxels of \(10.0, 5.0, 5.0\) µm": ([flat], truth),
        "void.nii.gz is all background": ([perfect], truth, tmp_path / "void.nii.gz"),
        "real.nii holds float32; labels are whole numbers": ([perfect], truth, tmp_path / "real.nii"),
        "names no volume": ([], truth),
    }
    for message, arguments in faults.items():
        with pytest.raises(InputError, match=message) as caught:
            compare(*arguments)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="every is 0; it must be at least 1"):
        volume_scores(str(perfect), str(truth), every=0)
