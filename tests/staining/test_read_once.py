"""A scan is read to be checked and to be stained, and what its page and stripes need is taken then."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bundle.images.stained.stored import open_stain
from bundle.images.volumes.volume import Volume, open_volume
from bundle.staining import run as run_module
from bundle.staining.page import PAGE, write_volume_report
from bundle.staining.seen import Shown
from bundle.staining.stripes import measure_stripes
from tests.helpers.volumes import SHAPE, result, stain


@pytest.fixture
def reads(monkeypatch) -> Counter[int]:
    """How often each slice of any scan has been read."""
    counts: Counter[int] = Counter()
    read = Volume.read

    def counted(self: Volume, start: int, stop: int) -> np.ndarray:
        counts.update(range(start, stop))
        return read(self, start, stop)

    monkeypatch.setattr(Volume, "read", counted)
    return counts


@pytest.mark.parametrize("axes", ["z", "zyx"])
def test_each_slice_is_read_twice(bundle, scan, tmp_path, reads, axes):
    stain(bundle, scan, tmp_path, window=None, axes=axes)
    assert reads == dict.fromkeys(range(SHAPE[0]), 2)


@pytest.mark.parametrize(
    "ids", [{}, {"axes": "y"}, {"axes": "zyx"}, {"axes": "zyx", "fusion": "median", "alpha": True}]
)
def test_stripes_are_those_of_the_whole_volumes(bundle, scan, voxels, tmp_path, ids):
    stain(bundle, scan, tmp_path / "out", window=None, **ids)
    axes, fusion = ids.get("axes", "z"), ids.get("fusion", "mean")
    volumes = {fusion: result(tmp_path / "out")} if len(axes) > 1 else {}
    for axis in axes:
        stain(bundle, scan, tmp_path / axis, window=None, axes=axis)
        volumes[f"stained across {axis}"] = result(tmp_path / axis)
    smooth = gaussian_filter(voxels.astype(np.float32), 1.0, mode="nearest")
    found = json.loads((tmp_path / "out" / "volume.json").read_text())["stripes"]
    assert found.keys() == volumes.keys()
    part = lambda volume, start, stop: volume[start:stop]
    for name, volume in volumes.items():
        expected = measure_stripes(partial(part, volume), partial(part, smooth), SHAPE, depth=SHAPE[0])
        assert found[name] == {key: list(values) for key, values in vars(expected).items()}


def test_stripes_count_inside_the_hull_alone(levelled, sample, tmp_path):
    scan, _ = sample
    ids = {"window": None, "hull": True, "background_rgb": [235, 236, 237]}
    hulls, go = [], run_module.Run.go
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module.Run, "go", lambda run, *given: (go(run, *given), hulls.append(run.hull)))
        stain(levelled, scan, tmp_path, **ids)
    stained, grey = result(tmp_path), open_volume(scan)
    smooth = gaussian_filter(grey.read(0, 64).astype(np.float32), 1.0, mode="nearest")
    inside = hulls[0].slab("z", 0, 64, grey.shape)
    part = lambda volume, start, stop: volume[start:stop]
    expected = measure_stripes(*(partial(part, each) for each in (stained, smooth)), grey.shape, partial(part, inside))
    found = json.loads((tmp_path / "volume.json").read_text())["stripes"]["stained across z"]
    assert found == {key: list(values) for key, values in vars(expected).items()}
    assert None not in found["flicker_levels"]


def test_the_page_of_a_run_is_that_of_the_files(bundle, scan, tmp_path):
    stain(bundle, scan, tmp_path, window=None)
    names = [PAGE, "views.png", "rendering.png"]
    before = [(tmp_path / name).read_bytes() for name in names]
    write_volume_report(tmp_path, open_stain(tmp_path / "stained.ome.zarr"), open_volume(scan))
    assert [(tmp_path / name).read_bytes() for name in names] == before


def test_what_is_shown_does_not_depend_on_the_slabs():
    voxels = np.random.default_rng(1).integers(0, 65536, (40, 30, 20), np.uint16)
    whole, parts = (Shown(voxels.shape, (5.0, 5.0, 5.0), 1) for _ in range(2))
    whole.add(0, voxels)
    for start in range(0, 40, 8):
        parts.add(start, voxels[start : start + 8])
    for axis in range(3):
        np.testing.assert_array_equal(whole.grey().frames[axis], parts.grey().frames[axis])
