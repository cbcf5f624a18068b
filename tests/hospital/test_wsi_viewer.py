"""A stained slide in Orthanc's viewer of whole slides, in a browser: its tiles and what is seen, in numbers."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

import bundle.images.stained_slides.dicom  # noqa: F401  makes the format known
from bundle.images.dicom.marks import DESCRIPTION
from bundle.images.stained_slides.formats import Packing
from bundle.images.stained_slides.pyramid import TILE, Pyramid
from tests.helpers.pages import browse
from tests.helpers.stained_slides import LEVELS, far, pyramid_of, written
from tests.hospital.conftest import needs
from tests.hospital.orthanc import PLUGIN, WSI_PLUGIN, Orthanc

SLACK = 2.5  # grey levels on the mean: JPEG twice, as it is stored and as the viewer is sent it
PLACES = {  # in parts of height and width: the marks of three corners, the ramp in the fourth and in the middle
    (0.07, 0.1): (250, 20, 30),
    (0.04, 0.85): (10, 230, 60),
    (0.97, 0.04): (20, 40, 240),
    (0.97, 0.97): (206, 216, 226),
    (0.5, 0.5): (150, 160, 170),
}


@pytest.fixture(scope="module", params=["jpeg", "lossless"])
def viewed(request, own_network, tmp_path_factory) -> Iterator[tuple[Orthanc, str, Pyramid]]:
    """An Orthanc with the viewer and one slide, the slide's series, and its pyramid."""
    needs("Orthanc", "viewer of whole slides")
    folder = tmp_path_factory.mktemp("viewed")
    pyramid, _ = pyramid_of(folder / "pyramid", "rgb")
    slide = written(folder / "a.dicom", "dicom", pyramid, Packing(request.param, 95))
    plugins = [str(PLUGIN), str(WSI_PLUGIN)]
    with Orthanc(folder / "orthanc", Plugins=plugins, AuthenticationEnabled=False) as server:
        server.upload(*sorted(slide.iterdir()))
        (series,) = server.get("/series")
        yield server, series, pyramid


def test_it_takes_the_levels_for_one_pyramid(viewed):
    server, series, _ = viewed
    seen = server.get(f"/wsi/pyramids/{series}")
    assert seen["Sizes"] == [[width, height] for height, width in LEVELS]
    assert seen["Resolutions"] == pytest.approx([1, 2, 4], rel=0.01)
    assert seen["TilesSizes"] == [[TILE, TILE]] * 3
    assert server.get(f"/series/{series}")["MainDicomTags"]["SeriesDescription"] == DESCRIPTION


def test_every_tile_is_where_it_belongs(viewed):
    server, series, pyramid = viewed
    for level in range(3):
        for rows, columns in pyramid.tiles(level):
            address = f"/wsi/tiles/{series}/{level}/{columns.start // TILE}/{rows.start // TILE}"
            tile = np.asarray(Image.open(io.BytesIO(server.request(address))).convert("RGB"))
            planted = pyramid.read(level, rows, columns)
            assert far(tile[: planted.shape[0], : planted.shape[1]], planted) < SLACK


def test_a_browser_shows_it_upright_and_in_its_colours(viewed, chromium, tmp_path):
    server, series, _ = viewed
    screen = tmp_path / "screen.png"
    options = ["--hide-scrollbars", "--window-size=1200,900", "--virtual-time-budget=30000", f"--screenshot={screen}"]
    browse(chromium, tmp_path, *options, f"{server.http}/wsi/app/viewer.html?series={series}")
    shown = np.asarray(Image.open(screen).convert("RGB")).astype(int)[5:, 5:]  # without the page's own edge
    dark = shown.min(-1) < 245  # the page is white
    across, down = (np.flatnonzero(line) for line in (dark[shown.shape[0] // 2], dark[:, shown.shape[1] // 2]))
    height, width = down[-1] + 1 - down[0], across[-1] + 1 - across[0]
    assert min(height, width) > 300
    assert width / height == pytest.approx(LEVELS[0][1] / LEVELS[0][0], rel=0.01)
    for (row, column), colour in PLACES.items():
        found = shown[down[0] + int(row * height), across[0] + int(column * width)]
        assert found == pytest.approx(colour, abs=8), json.dumps([row, column])
