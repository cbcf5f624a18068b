"""Raw scans and slides: the truth that is written beside them is what they show."""

import csv
import hashlib
import json
from dataclasses import fields

import itk
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates
from skimage.metrics import peak_signal_noise_ratio

from bundle.common.errors import InputError
from bundle.images.slides import read_slide
from bundle.images.whole_slides import open_section
from bundle.preparation.phantom.block import Tissue, make_block
from bundle.preparation.phantom.laboratory import FINER, make_laboratory, own_colours, own_greys
from bundle.preparation.phantom.slides import Distortion, draw_cut, draw_distortion, photograph_slide
from bundle.preparation.phantom.spoiling import Spoiling
from bundle.preparation.phantom.staining import stain_block

SMALL = {"size": 72, "voxel_um": 10.0, "screw_mm": 0.36}
NONE = Spoiling(**{field.name: 0.0 for field in fields(Spoiling)})
MATERIAL = {"Mg": Tissue.MG, "Ti": Tissue.TI, "PEEK": Tissue.PEEK}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_laboratory(str(tmp_path_factory.mktemp("laboratory") / "raw"), 3, seed=4, **SMALL)


@pytest.fixture(scope="module")
def block():
    return make_block(np.random.default_rng(0), "Mg", **SMALL)


def checksums(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def truth_of(made, name):
    return json.loads((made / "truth" / f"{name}.json").read_text())


def test_files_are_scans_slides_truth_and_two_tables(made):
    names = ["01", "02", "03"]
    expected = {f"{folder}/{name}{suffix}" for name in names for folder, suffix in FOLDERS} | {"pairs.csv", "study.csv"}
    assert set(checksums(made)) == expected
    rows = list(csv.DictReader((made / "study.csv").open()))
    assert [row["pair"] for row in rows] == names
    assert len({row["specimen"] for row in rows}) == 3
    assert [row["group"] for row in rows] == [truth_of(made, name)["material"] for name in names]
    assert [row["split"] for row in rows] == ["training", "training", "testing"]
    assert [row["fold"] for row in rows] == ["0", "1", ""]
    pairs = list(csv.DictReader((made / "pairs.csv").open()))
    assert [row["pair"] for row in pairs] == names
    assert all((made / row[column]).is_file() for row in pairs for column in ("volume", "section"))


def test_planes_are_noted_by_three_corners_off_by_ten_degrees_and_a_fifth_of_a_millimetre(made):
    for row in csv.DictReader((made / "pairs.csv").open()):
        truth, corners = truth_of(made, row["pair"]), np.array(json.loads(row["guess"]), float)
        down, right = corners[2] - corners[0], corners[1] - corners[0]
        normals = np.cross(down, right), np.cross(truth["down"], truth["right"])
        cosine = np.dot(*normals) / np.prod([np.linalg.norm(normal) for normal in normals])
        assert np.degrees(np.arccos(cosine)) < 12
        middle = corners[0] + (down + right) / 2
        assert np.linalg.norm(middle - truth["centre"]) * SMALL["voxel_um"] == pytest.approx(200, abs=20)
        assert np.linalg.norm(down) == pytest.approx(truth["rows_columns"][0] - 1, abs=2)


FOLDERS = (("scans", ".nii.gz"), ("slides", ".png"), ("truth", ".json"))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(made, tmp_path):
    again = checksums(make_laboratory(str(tmp_path / "again"), 3, seed=4, **SMALL))
    other = checksums(make_laboratory(str(tmp_path / "other"), 3, seed=5, **SMALL))
    assert again == checksums(made)
    assert [name for name in again if other[name] == again[name]] == ["study.csv"]


@pytest.mark.parametrize("name", ["01", "02", "03"])
def test_bone_and_background_of_a_scan_are_what_its_truth_says(made, name):
    number, truth = int(name), truth_of(made, name)
    scan = itk.array_from_image(itk.imread(made / "scans" / f"{name}.nii.gz"))
    labels = make_block(np.random.default_rng([4, number, 1]), truth["material"], **SMALL).labels
    assert scan.dtype == np.uint16
    assert scan[labels == Tissue.BONE].mean() == pytest.approx(truth["scan"]["bone"], rel=0.002)
    assert scan[labels == Tissue.BACKGROUND].mean() == pytest.approx(truth["scan"]["background"], rel=0.002)


def test_files_state_their_sizes(made):
    slide = open_section(made / "slides" / "01.png")
    assert slide.pixel_um == pytest.approx(10.0 / FINER, rel=1e-3)
    assert slide.shape == (72 * FINER, 72 * FINER)
    assert list(itk.imread(made / "scans" / "01.nii.gz").GetSpacing()) == pytest.approx([0.01] * 3)
    truth = truth_of(made, "01")
    assert truth["rows_columns"] == [72, 72]
    assert truth["pixel_um"] == 10.0 / FINER


@pytest.mark.parametrize("name", ["01", "02", "03"])
def test_the_slide_shows_the_scan_where_its_truth_says(made, name):
    """The black screw of the slide lies where the block of the same seed has its screw, and nowhere else as well."""
    truth = truth_of(made, name)
    labels = make_block(np.random.default_rng([4, int(name), 1]), truth["material"], **SMALL).labels
    slide = open_section(made / "slides" / f"{name}.png").read(10.0)
    steps = np.arange(72) - 35.5
    rows, columns = np.meshgrid(steps, steps, indexing="ij")

    def overlap(down, right):
        centre, down, right = (np.array(vector)[:, None, None] for vector in (truth["centre"], down, right))
        screw = map_coordinates(labels, centre + down * rows + right * columns, order=0) == MATERIAL[truth["material"]]
        black = slide.mean(0) < 60
        return 2 * (screw & black).sum() / (screw.sum() + black.sum())

    down, right = np.array(truth["down"]), np.array(truth["right"])
    assert overlap(down, right) > 0.8
    assert overlap(right, down) < 0.8


def test_own_greys_are_undone_by_the_two_that_are_told():
    rng = np.random.default_rng(1)
    scan = rng.integers(2000, 48000, (20, 21, 22)).astype(np.uint16)
    greys, levels = own_greys(scan, np.random.default_rng(2))
    back = (greys.astype(float) - levels["background"]) / (levels["bone"] - levels["background"]) * 20000 + 10000
    assert back == pytest.approx(scan.astype(float), abs=2)  # rounded to a grey of its own, of 0.4 and more
    assert greys.dtype == np.uint16
    assert abs(levels["bone"] - 30000) > 100


def test_own_greys_end_at_16_bits():
    ends = np.full((2, 2, 2), 65535, np.uint16)
    for seed in range(20):
        greys, levels = own_greys(ends, np.random.default_rng(seed))
        gain = (levels["bone"] - levels["background"]) / 20000
        assert greys.max() == min(65535, round(65535 * gain + levels["background"] - 10000 * gain))


def test_own_colours_are_undone_by_what_is_told():
    pixels = np.random.default_rng(1).integers(0, 256, (3, 30, 31)).astype(np.uint8)
    changed, told = own_colours(pixels, np.random.default_rng(2))
    low, high = told["low_high"]
    back = (changed - low) / (high - low) / np.array(told["cast"])[:, None, None] * 255
    assert changed.dtype == np.uint8
    assert back == pytest.approx(pixels.astype(float), abs=1)
    assert np.abs(changed - pixels.astype(float)).max() > 5


def photographed(block, distortion=None, seed=3, pixel_um=None, **strengths):
    rng = np.random.default_rng(seed)
    stained = stain_block(block, "toluidine", rng)
    plane = draw_cut(block, rng)
    spoiling = Spoiling(**{**{field.name: 0.0 for field in fields(Spoiling)}, **strengths})
    return stained, photograph_slide(block, stained, plane, distortion or Distortion(), spoiling, rng, pixel_um)


def in_plane(array, plane, rows, columns, order):
    """Values of scipy at rows and columns (px of the block, from the plane's middle)."""
    down, right = plane.down[:, None, None], plane.right[:, None, None]
    where = plane.centre[:, None, None] + down * rows + right * columns
    return map_coordinates(array, where, order=order, mode="nearest")


@pytest.mark.parametrize("finer", [1, 2])
def test_without_faults_the_slide_is_the_perfect_stain_in_its_plane(block, finer):
    stained, slide = photographed(block, pixel_um=10.0 / finer)
    steps = (np.arange(72 * finer) + 0.5) / finer - 36
    rows, columns = np.meshgrid(steps, steps, indexing="ij")
    assert slide.pixel_um == 10.0 / finer
    assert np.array_equal(slide.labels, in_plane(block.labels, slide.plane, rows, columns, 0))
    assert slide.places == pytest.approx(np.stack([rows, columns]) + 35.5)
    perfect = np.stack([in_plane(stained[..., c].astype(float), slide.plane, rows, columns, 1) for c in range(3)])
    blurred = gaussian_filter(perfect, (0, 0.4, 0.4))  # the microscope's
    assert peak_signal_noise_ratio(blurred, slide.pixels.astype(float), data_range=255) > 32


@pytest.mark.parametrize(
    "distortion", [Distortion((1.1, 1.0)), Distortion((1.0, 0.9)), Distortion((1.0, 1.0), 0.2), Distortion(warp_px=4)]
)
def test_places_say_what_each_pixel_shows(block, distortion):
    stained, slide = photographed(block, distortion)
    rows, columns = slide.places - 35.5
    assert np.array_equal(slide.labels, in_plane(block.labels, slide.plane, rows, columns, 0))
    perfect = np.stack([in_plane(stained[..., c].astype(float), slide.plane, rows, columns, 1) for c in range(3)])
    blurred = gaussian_filter(perfect, (0, 0.4, 0.4))
    assert peak_signal_noise_ratio(blurred, slide.pixels.astype(float), data_range=255) > 32


def test_scale_shows_structures_larger_and_shear_moves_columns_along_rows(block):
    steps = np.arange(72) - 35.5
    rows, columns = np.meshgrid(steps, steps, indexing="ij")
    taller, sheared = photographed(block, Distortion((1.25, 1.0)))[1], photographed(block, Distortion(shear=0.1))[1]
    assert taller.places - 35.5 == pytest.approx(np.stack([rows / 1.25, columns]))
    assert sheared.places - 35.5 == pytest.approx(np.stack([rows, columns - 0.1 * rows]))


def test_a_warp_is_smooth_and_as_large_as_said(block):
    places = photographed(block, Distortion(warp_px=3.0))[1].places
    grid = photographed(block)[1].places
    assert np.hypot(*(places - grid)).max() == pytest.approx(3.0)
    assert np.abs(np.gradient(places - grid, axis=(1, 2))).max() < 0.25


def test_soft_tissue_drifts_and_the_screw_stays(block):
    still, drifted = photographed(block)[1], photographed(block, soft_shift_px=4.0)[1]
    moved = np.hypot(*(drifted.places - still.places))
    core = gaussian_filter((still.labels == Tissue.MG).astype(float), 4) > 0.9
    soft = gaussian_filter(np.isin(still.labels, [Tissue.SOFT, Tissue.MARROW, Tissue.BACKGROUND]).astype(float), 4)
    assert core.any()
    assert moved[core].mean() < 0.3
    assert moved[soft > 0.9].mean() > 2


def test_distortions_are_one_to_two_per_cent_and_two_to_four_pixels():
    drawn = [draw_distortion(np.random.default_rng(seed)) for seed in range(200)]
    for values in ([d.scale[0] - 1 for d in drawn], [d.scale[1] - 1 for d in drawn], [d.shear for d in drawn]):
        sizes = np.abs(values)
        assert 0.01 <= sizes.min() < 0.011
        assert 0.019 < sizes.max() <= 0.02
        assert 0.3 < (np.array(values) > 0).mean() < 0.7
    warps = [d.warp_px for d in drawn]
    assert 2 <= min(warps) < 2.1
    assert 3.9 < max(warps) <= 4


@pytest.mark.parametrize("lying", [True, False])
def test_cuts_hold_the_screws_axis(block, lying):
    planes = [draw_cut(block, np.random.default_rng(seed), lying) for seed in range(60)]
    middle = (72 - 1) / 2
    turns = []
    for plane in planes:
        frame = np.stack([plane.down, plane.right, plane.normal])
        assert frame @ frame.T == pytest.approx(np.eye(3), abs=1e-12)
        assert abs(plane.normal @ block.axis) < 0.25  # 0.05 a component is 3° or so
        assert np.linalg.norm(plane.centre - middle) < 4 * 0.12 * 36
        turns.append(plane.down @ block.axis)
    if lying:
        assert min(turns) < -0.9
        assert max(turns) > 0.9
    else:
        assert min(turns) > 0.95
    # the normals go all around the axis
    sides = np.array([plane.normal for plane in planes])
    assert np.linalg.norm(sides.mean(0)) < 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"specimens": 0}, "specimens is 0; give a whole number of at least 1"),
        ({"specimens": True}, "specimens is True"),
        ({"specimens": 1.5}, "specimens is 1.5"),
        ({"seed": -1}, "seed is -1; give a whole number of at least 0"),
        ({"stain": "congo"}, "stain is 'congo'; the stains are toluidine, he"),
        ({"size": 60}, "too small for a screw of 0.36 mm .* set --size of at least"),
        ({"voxel_um": 0}, "voxel_um is 0"),
        ({"screw_mm": -1}, "screw_mm is -1"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        make_laboratory(str(tmp_path / "raw"), **{"specimens": 1, **SMALL, **arguments})
    assert not list(tmp_path.iterdir())


def test_every_fault_has_its_line(tmp_path):
    with pytest.raises(InputError) as caught:
        make_laboratory(str(tmp_path / "raw"), specimens=0, seed=-1, stain="congo")
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("name", ["thesis.docx", "."])
def test_what_is_there_is_left_alone(tmp_path, name):
    (tmp_path / "thesis.docx").write_text("dear")
    with pytest.raises(InputError, match="is there and not empty; name a new folder"):
        make_laboratory(str(tmp_path / name), 1, **SMALL)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["dear"]


def test_an_empty_folder_is_filled(tmp_path):
    made = make_laboratory(str(tmp_path), 1, lying=False, **SMALL)
    pixels = read_slide(made / "slides" / "01.png").pixels
    assert pixels.shape == (3, 144, 144)
    assert pixels.std() > 10
