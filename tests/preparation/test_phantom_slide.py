"""A whole slide of synthetic cells: what other readers make of it, and that it is what was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from openslide import OpenSlide
from scipy.ndimage import binary_closing, binary_opening, gaussian_filter
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops
from skimage.transform import downscale_local_mean

from bundle.common.errors import InputError
from bundle.preparation.phantom import section_of_cells
from bundle.preparation.phantom.cell_slide import make_cell_slide
from bundle.preparation.phantom.section_of_cells import TILE, WHITE, SectionOfCells
from tests.conftest import ROOT
from tests.helpers.forked import run_module

SHAPE = (1100, 1500)


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A slide of H&E in both compressions, and the same cells with DAB."""
    folder = tmp_path_factory.mktemp("slides")
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(section_of_cells, "FIELDS", 2)
        for name, stain, packed in (("jpeg", "he", "jpeg"), ("deflate", "he", "deflate"), ("ki67", "ki67", "deflate")):
            path = str(folder / f"{name}.tif")
            made[name] = make_cell_slide(path, *SHAPE, 0.4, stain=stain, seed=3, compression=packed)
    return made


def test_openslide_reads_every_level_and_the_pixel_size(slides: dict[str, Path]) -> None:
    for name in ("jpeg", "deflate"):
        with OpenSlide(slides[name]) as slide:
            assert slide.level_dimensions == ((1500, 1100), (750, 550), (375, 275))
            assert float(slide.properties["openslide.mpp-x"]) == float(slide.properties["openslide.mpp-y"]) == 0.5
            exact = tifffile.imread(slides["deflate"], level=0)
            seen = np.asarray(slide.read_region((700, 400), 0, (500, 300)))[..., :3]
            error = np.abs(seen.astype(int) - exact[400:700, 700:1200])
            assert error.mean() < (4 if name == "jpeg" else 1e-9)


def test_a_level_is_the_mean_of_the_finer_one(slides: dict[str, Path]) -> None:
    with tifffile.TiffFile(slides["deflate"]) as file:
        assert file.is_bigtiff
        levels = [page.asarray() for page in file.pages]
        assert [page.is_reduced for page in file.pages] == [False, True, True]
        assert "computed, not measured" in file.pages[0].description
    for fine, coarse in zip(levels, levels[1:], strict=False):
        even = fine[: fine.shape[0] // 2 * 2, : fine.shape[1] // 2 * 2]
        mean = downscale_local_mean(even.astype(float), (2, 2, 1))
        assert np.abs(mean - coarse[: mean.shape[0], : mean.shape[1]]).max() <= 0.5


def tissue_of(picture: np.ndarray) -> np.ndarray:
    """What is not glass; small holes are tissue too."""
    coloured = np.ptp(gaussian_filter(picture.astype(float), (1, 1, 0)), axis=2) > 12
    return binary_closing(binary_opening(coloured), iterations=4)


def test_so_much_is_tissue_and_the_rest_is_white_with_little_noise(slides: dict[str, Path]) -> None:
    picture = tifffile.imread(slides["deflate"], level=0)
    tissue = tissue_of(picture)
    assert tissue.mean() == pytest.approx(0.4, abs=0.04)
    corner = picture[:100, :100]  # the outline falls off outwards
    assert np.abs(corner.mean((0, 1)) - WHITE).max() < 0.2
    assert 0.5 < corner.std((0, 1)).max() < 2


def test_nuclei_have_the_size_of_nuclei(slides: dict[str, Path]) -> None:
    blue = rgb2hed(tifffile.imread(slides["deflate"], level=0))[..., 0]
    found = label(binary_opening(blue > threshold_otsu(blue[blue > 0.02]), iterations=3))
    across_um = 0.5 * np.sqrt([4 / np.pi * region.area for region in regionprops(found)])
    assert len(across_um) > 300
    assert 5 < np.median(across_um) < 9  # planted: 6 to 9, with a rim that Otsu's threshold takes for cytoplasm


def test_ki67_has_brown_nuclei_and_he_has_none(slides: dict[str, Path]) -> None:
    brown = {}
    for name in ("deflate", "ki67"):
        red, _, blue = np.moveaxis(tifffile.imread(slides[name], level=0).astype(int), -1, 0)
        brown[name] = float(((red - blue > 40) & (red < 190)).mean())
    assert brown["ki67"] > 0.01
    assert brown["deflate"] < 1e-4


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_slide(tmp_path: Path) -> None:
    one, two, other = (
        make_cell_slide(str(tmp_path / f"{name}.tif"), 300, 500, 0.5, seed=seed).read_bytes()
        for name, seed in (("one", 1), ("two", 1), ("other", 2))
    )
    assert one == two
    assert one != other
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.tif", "other.tif", "two.tif"]


def test_a_cell_goes_on_across_the_border_of_tiles() -> None:
    """The step across a border is as large as inside tiles but for few pixels; fields laid bluntly have seams."""
    section = SectionOfCells((2 * TILE, 2 * TILE), 0.99, 0.5, "he", 5)
    section._level = -np.inf  # tissue everywhere
    grid = np.concatenate([np.concatenate([section.tile(row, column) for column in (0, 1)], 1) for row in (0, 1)])
    inner = slice(section._margin, -section._margin)
    blunt = np.concatenate([section._laid(1, 1 + column)[0][inner, inner] for column in (0, 1)], 1)
    jump = lambda image: np.abs(np.diff(image[:TILE].astype(int).sum(2), axis=1))
    usual = np.median(jump(grid))
    assert np.median(jump(grid)[:, TILE - 1]) < 2 * usual
    assert np.median(jump(blunt)[:, TILE - 1]) > 3 * usual


def test_what_makes_no_sense_is_said_in_one_line_each(tmp_path: Path) -> None:
    (tmp_path / "there.tif").touch()
    with pytest.raises(InputError) as caught:
        make_cell_slide(str(tmp_path / "there.tif"), 0, 10**9, 1.0, 5, "giemsa", -1, "jxl")  # type: ignore[arg-type]
    names = [line.split()[0] for line in str(caught.value).splitlines()]
    assert names == ["height", "width", "seed", "tissue", "pixel_um", "stain", "compression", "output"]
    with pytest.raises(InputError, match=r"output .*a\.png is no TIFF by its name"):
        make_cell_slide(str(tmp_path / "a.png"))


def test_the_command_says_what_is_wrong_without_a_traceback(tmp_path: Path) -> None:
    done = run_module(["scripts.cell_slide", "--output", str(tmp_path / "new.tif"), "--tissue", "2"], ROOT)
    assert done.returncode == 1
    assert "error: tissue is 2; give the share of the slide, more than 0 and less than 1." in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
