"""Neuroglancer itself, in Chromium, with the server and the layer of docs/viewing.md: both versions of NGFF."""

import io
import json
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from bundle.images.stained.spec import StainSpec
from bundle.images.stained.stored import create, finish, write_slab
from bundle.images.volumes.geometry import Geometry
from tests.conftest import ROOT
from tests.helpers import browser as browsers
from tests.helpers.browser import Browser

PAGE = (ROOT / "docs" / "viewing.md").read_text(encoding="utf-8")
SIDE = 300
PLACE, STEP = (150, 150, 32), 60  # voxel in the middle of the views (x, y, z), and how far beside it is looked
GL = "--use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader"


def colours():
    """(64, SIDE, SIDE, 3): red grows along x, green along y, blue along z."""
    z, y, x = np.mgrid[:64, :SIDE, :SIDE]
    return np.stack([x * 255 // SIDE, y * 255 // SIDE, z * 4], -1).astype(np.uint8)


@pytest.fixture
def served(tmp_path):
    """The address of a folder with a volume in each version."""
    for version in ("0.4", "0.5"):
        path = tmp_path / "data" / f"{version}.ome.zarr"
        spec = StainSpec((64, SIDE, SIDE), 3, Geometry((5.0,) * 3, (0.0,) * 3, np.eye(3)), {}, version)
        create(path, "ome-zarr", spec)
        for start in (0, 32):
            write_slab(path, "ome-zarr", spec, start, colours()[start : start + 32])
        finish(path, "ome-zarr", spec)
    code = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "do_GET" in block)
    code = code.replace("ThreadingHTTPServer((", "server = ThreadingHTTPServer((").replace("9000", "0")
    code = code.replace(").serve_forever()", ")\nprint(server.server_port, flush=True)\nserver.serve_forever()")
    (tmp_path / "serve.py").write_text(code)
    command = [sys.executable, str(tmp_path / "serve.py"), str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.terminate()


def picture(browser, path):
    browser.shot(path)
    return np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB")).astype(int)


@pytest.mark.slow
def test_both_versions_are_the_same_picture(served, chromium, tmp_path, monkeypatch):
    neuroglancer = pytest.importorskip("neuroglancer")
    monkeypatch.setattr(browsers, "FLAGS", browsers.FLAGS.replace("--disable-gpu", GL))
    neuroglancer.set_server_bind_address("127.0.0.1")
    state = json.loads(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])
    state |= {"position": list(PLACE), "layout": "xy", "showAxisLines": False, "crossSectionScale": 1}
    found = {}
    for version, scheme in (("0.4", "zarr2"), ("0.5", "zarr3")):
        state["layers"][0]["source"]["url"] = f"{scheme}://{served}/{version}.ome.zarr"
        viewer = neuroglancer.Viewer()
        viewer.set_state(neuroglancer.ViewerState(state))
        with Browser(chromium, tmp_path / version, 900, 700) as browser:
            browser.open(str(viewer))
            end, before = time.monotonic() + 60, None
            while time.monotonic() < end:  # until nothing more comes, and something has
                time.sleep(2)
                now = picture(browser, tmp_path / f"{version}.png")
                if before is not None and np.array_equal(now, before) and len(np.unique(now[200:500, 300:600])) > 50:
                    break
                before = now
            found[version] = now
    assert np.array_equal(found["0.4"], found["0.5"])
    shown = found["0.5"]
    red = np.flatnonzero((np.diff(shown[:, :, 0], axis=1) == 1).sum(0) > 100)
    assert red.size > 200  # a step of red at nearly every column of the section
    middle = [tuple(shown[row, column]) for row, column in ((375, 450), (375 - STEP, 450 + STEP))]
    for (down, across), colour in zip(((0, 0), (-STEP, STEP)), middle, strict=True):
        expected = ((PLACE[0] + across) * 255 // SIDE, (PLACE[1] + down) * 255 // SIDE, PLACE[2] * 4)
        assert colour == pytest.approx(expected, abs=4)
