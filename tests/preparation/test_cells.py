"""Synthetic cells: what was planted in them is found again by other programs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.ndimage import mean as mean_of
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops
from skimage.segmentation import clear_border

from bundle.common.errors import InputError
from bundle.images.slides import read_slide
from bundle.images.stain_vectors import densities, mixed
from bundle.preparation.phantom.cell_dataset import make_cells
from bundle.preparation.phantom.cell_staining import fluoresce, membranes, nuclei, stain_cells
from bundle.preparation.phantom.cells import grow_cells
from tests.conftest import ROOT
from tests.helpers.forked import run_module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of three training and two testing tiles of each kind."""
    return make_cells(str(tmp_path_factory.mktemp("cells") / "data"), tiles=3, testing=2, size=192)


def listed(path: Path) -> dict:
    return json.loads((path / "datalist.json").read_text(encoding="utf-8"))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_cells(tmp_path: Path) -> None:
    one, two, other = (
        make_cells(str(tmp_path / name), tiles=1, testing=1, seed=seed, size=64)
        for name, seed in (("one", 3), ("two", 3), ("other", 4))
    )
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in files)
    assert all((one / name).read_bytes() != (other / name).read_bytes() for name in files if name.suffix == ".png")


def test_more_tiles_leave_the_first_as_they_were(folder: Path, tmp_path: Path) -> None:
    fewer = make_cells(str(tmp_path / "fewer"), tiles=1, testing=1, size=192)
    for name in (
        "membrane/images/training/training_000.png",
        "if/training_000.tif",
        "nuclear/labels/testing/testing_000.png",
    ):
        assert (fewer / name).read_bytes() == (folder / name).read_bytes()


def test_training_is_unpaired_and_testing_shows_the_same_cells_twice(folder: Path) -> None:
    data = listed(folder)
    assert data["target"]["channel_names"] == ["DAPI", "membrane"]
    assert [sorted(entry.keys() & {"source", "target"}) for entry in data["training"]] == 3 * [["source"]] + 3 * [
        ["target"]
    ]
    of_cells = {entry["specimen"] for split in ("training", "testing") for entry in data[split]}
    assert len(of_cells) == len(data["training"]) + len(data["testing"])
    for entry in data["testing"]:
        nuclear = read_slide(folder / entry["target"]).pixels[0].astype(float)
        image = read_slide(folder / entry["source"]).pixels
        hematoxylin = densities(image)[0]
        assert np.corrcoef(gaussian_filter(nuclear, 1).ravel(), gaussian_filter(hematoxylin, 1).ravel())[0, 1] > 0.7
    dapi = read_slide(folder / data["training"][3]["target"]).pixels[0].astype(float)
    ihc = densities(read_slide(folder / data["training"][0]["source"]).pixels)[0]
    assert abs(np.corrcoef(dapi.ravel(), ihc.ravel())[0, 1]) < 0.3  # other cells


def test_stains_that_were_planted_are_recovered_from_the_tile(folder: Path) -> None:
    for entry in listed(folder)["testing"]:
        name = Path(entry["source"]).stem
        planted = read_slide(folder / "truth" / f"{name}_stains.tif").pixels
        ideal = np.clip(rgb2hed(mixed(planted).transpose(1, 2, 0)), 0, None)  # scikit-image, in units of its own
        for channel in (0, 2):
            found = ideal[..., channel]
            assert np.corrcoef(found.ravel(), planted[channel].ravel())[0, 1] > 0.999
        seen = densities(read_slide(folder / entry["source"]).pixels)
        for channel, name_of in ((0, "hematoxylin"), (2, "DAB")):
            smooth = gaussian_filter(seen[channel], 1), gaussian_filter(planted[channel], 1)
            slope, offset = np.polyfit(smooth[1].ravel(), smooth[0].ravel(), 1)
            assert slope == pytest.approx(1, abs=0.1), name_of
            assert abs(offset) < 0.06, name_of  # light that is not quite white


def test_labels_are_where_the_stain_is(folder: Path) -> None:
    for marker in ("membrane", "nuclear"):
        for split in ("training", "testing"):
            for entry in listed(folder / marker)[split]:
                labels = read_slide(folder / marker / entry["labels"]).pixels
                assert labels.dtype == np.uint16
                assert labels.shape == (1, 192, 192)
                assert set(np.unique(labels)) == set(range(labels.max() + 1))
                stain = densities(read_slide(folder / marker / entry["image"]).pixels)
                seen = gaussian_filter(stain[0] + (stain[2] if marker == "nuclear" else 0), 0.7)
                inside, outside = seen[labels[0] > 0], seen[labels[0] == 0]
                assert np.median(inside) > np.quantile(outside, 0.9)
    planted = grow_cells(np.random.default_rng(0), 192)
    seen = nuclei(planted) > threshold_otsu(nuclei(planted))
    truth = planted.labels > 0
    assert (seen & truth).sum() / (seen | truth).sum() > 0.9


def test_nuclei_are_of_the_size_that_the_manual_says_at_any_pixel_size() -> None:
    for pixel_um, size in ((0.5, 192), (0.25, 384)):
        cells = grow_cells(np.random.default_rng(1), size, pixel_um)
        whole = regionprops(clear_border(cells.labels.astype(int)))
        diameters = np.array([region.equivalent_diameter_area for region in whole]) * pixel_um
        assert len(diameters) > 20
        assert 6.0 <= np.median(diameters) <= 9.0
        assert np.quantile(diameters, 0.95) < 9.3  # a nucleus may be cut off by its neighbours, not grow
        parts = [label(cells.labels == region.label).max() for region in whole]
        assert np.mean(np.array(parts) == 1) > 0.97


def test_the_labelling_index_is_what_the_files_hold(folder: Path, tmp_path: Path) -> None:
    given = make_cells(str(tmp_path / "given"), tiles=2, testing=1, labelling_index=0.25, size=192)
    for where, expected in ((folder, None), (given, 0.25)):
        truth = json.loads((where / "truth.json").read_text(encoding="utf-8"))["nuclear"]
        assert len(truth) == sum(len(listed(where / "nuclear")[split]) for split in ("training", "testing"))
        for name, said in truth.items():
            labels = read_slide(where / name.replace("images", "labels")).pixels[0]
            dab = densities(read_slide(where / name).pixels)[2]
            numbers = np.arange(1, labels.max() + 1)
            positive = numbers[mean_of(dab, labels, numbers) > 0.2]
            assert said["nuclei"] == labels.max()
            assert said["labelling_index"] == len(said["positive"]) / said["nuclei"]
            assert len(set(positive) ^ set(said["positive"])) <= 0.02 * said["nuclei"]
            if expected is not None:
                assert abs(said["labelling_index"] - expected) <= 0.5 / said["nuclei"] + 1e-9


def test_membrane_stain_is_on_membranes_and_some_cells_have_none() -> None:
    rng = np.random.default_rng(2)
    cells = grow_cells(rng, 192)
    antigen = membranes(cells, rng)
    tumour = (cells.tissue == 2) & (cells.expression > 0)
    assert antigen[tumour & (cells.wall_um < 0.5)].mean() > 2 * antigen[tumour & (cells.wall_um > 2)].mean()
    assert antigen[cells.tissue != 2].max() == 0
    negative = 1 - len(np.unique(cells.territory[tumour])) / len(np.unique(cells.territory[cells.tissue == 2]))
    assert 0 < negative < 0.45
    stains = stain_cells(cells, antigen, rng, "membrane").stains
    light = fluoresce(cells, antigen, rng)
    assert np.corrcoef(stains[2].ravel(), light[1].ravel())[0, 1] > 0.9
    assert np.corrcoef(stains[0].ravel(), light[0].ravel())[0, 1] > 0.9


def test_what_makes_no_sense_is_said_in_one_line_each(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError) as caught:
        make_cells(str(tmp_path / "full"), tiles=0, testing=1.5, seed=-1, size=8, pixel_um=3, labelling_index=1.2)  # type: ignore[arg-type]
    lines = str(caught.value).splitlines()
    assert [line.split()[0] for line in lines] == [
        "tiles",
        "testing",
        "seed",
        "size",
        "pixel_um",
        "labelling_index",
        "output",
    ]


def test_a_tile_that_is_none_is_refused_before_memory_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="size is 1000000; a tile has a side of at most 4096 px"):
        make_cells(str(tmp_path / "new"), size=1_000_000)


def test_the_command_says_what_is_wrong_without_a_traceback(tmp_path: Path) -> None:
    done = run_module(["scripts.cells", "--output", str(tmp_path / "new"), "--tiles", "none"], ROOT)
    assert done.returncode == 1
    assert "error: tiles is 'none'; it must be a whole number." in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "new").exists()
