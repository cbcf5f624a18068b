"""Outside the hull of a sample is background, and no window is spent there."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from monai.transforms import Compose

from bundle.common.errors import InputError
from bundle.images.volumes.volume import open_volume
from bundle.staining.hull import Hull, find_hull
from bundle.staining.stainer import Stainer, Windows
from tests.helpers.volumes import files_of, result, stain, write_scan


def test_a_hull_turns_the_outside_to_background_and_skips_windows_only_there(levelled, sample, tmp_path):
    scan, ball = sample
    given = {"window": 32, "step": 16, "sigma": 0, "background_rgb": [250, 240, 230]}
    stain(levelled, scan, tmp_path / "hull", hull=True, **given)
    stain(levelled, scan, tmp_path / "all", **given)
    cut, whole = result(tmp_path / "hull"), result(tmp_path / "all")
    outside = (cut == [250, 240, 230]).all(-1)
    assert not outside[ball].any()
    assert 0.02 < (~outside).mean() < 0.12  # the ball has 0.02, with a margin of 4 voxels 0.04
    assert np.array_equal(cut[~outside], whole[~outside])
    spent = json.loads((tmp_path / "hull" / "volume.json").read_text())["spent"]
    assert 0 < spent["windows"] < 0.5 * json.loads((tmp_path / "all" / "volume.json").read_text())["spent"]["windows"]
    assert spent["windows_skipped"] > 0


def test_a_hull_of_known_planes():
    cube = np.array([[1, 0, 0, -3.0], [-1, 0, 0, 1.0], [0, 1, 0, -3], [0, -1, 0, 1], [0, 0, 1, -3], [0, 0, -1, 1]])
    inside = Hull(cube).slab("z", 0, 5, (5, 5, 5))
    expected = np.zeros((5, 5, 5), bool)
    expected[1:3, 1:3, 1:3] = True
    assert np.array_equal(inside, expected)
    for axis, place in (("y", 1), ("x", 2)):
        assert np.array_equal(Hull(cube).slab(axis, 2, 5, (5, 5, 5)), np.moveaxis(expected, place, 0)[2:5])


def test_a_sample_that_reaches_the_ends_is_whole(tmp_path):
    # boxes of 20 voxels; the last 9 across y and x are less than half of one
    volume = open_volume(write_scan(tmp_path / "rod.nii", np.full((1920, 109, 109), 30000, np.uint16)))
    assert find_hull(volume, 30000, 10000).slab("z", 900, 932, volume.shape).all()


def test_no_sample_is_a_clear_line(levelled, tmp_path):
    scan = write_scan(tmp_path / "empty.nii.gz", np.full((16, 16, 16), 10000, np.uint16))
    with pytest.raises(InputError, match=r"no sample is found in .*empty.nii.gz.*leave --hull out"):
        stain(levelled, scan, tmp_path / "out", hull=True, background_rgb=[250, 240, 230])


def test_skipped_windows_cost_no_pass():
    seen = []
    network = lambda batch: seen.append(len(batch)) or batch
    inside = np.zeros((1, 8, 8), bool)
    inside[0, 5, 5] = True
    windows = Windows(network, inside)
    places = [[slice(0, 1), slice(None), slice(a, a + 4), slice(a, a + 4)] for a in (0, 4)]
    batch = torch.rand(2, 3, 4, 4)
    out = windows(batch, places)
    assert seen == [1]
    assert torch.equal(out[1], batch[1])
    assert (windows.done, windows.skipped) == (1, 1)


@pytest.mark.parametrize(
    ("side", "window", "step", "batch", "expected"),
    [(256, 256, 64, 2, 2), (320, 256, 64, 2, 1), (512, 256, 128, 2, 2), (2000, 256, 64, 2, 1), (256, None, 64, 2, 2)],
)
def test_slices_together_fill_whole_batches(side, window, step, batch, expected):
    stainer = Stainer(Compose([]), torch.nn.Identity(), None, None, torch.device("cpu"), window, step, batch)
    assert stainer.at_once((side, side)) == expected  # 1, 4, 9, 784 windows a slice


@pytest.mark.parametrize(
    "ids",
    [
        {"window": 32, "step": 16},
        {"window": 64},
        {"window": None},
        {"window": 32, "step": 32, "normalisation": "dense"},
    ],
)
def test_slices_stained_together_come_out_as_alone(levelled, sample, tmp_path, ids):
    given = {**ids, "hull": True, "background_rgb": [250, 240, 230]}
    stain(levelled, sample[0], tmp_path / "alone", **given, **{"sliding_window#sw_batch_size": 1})
    stain(levelled, sample[0], tmp_path / "together", **given, **{"sliding_window#sw_batch_size": 150})
    alone, together = (files_of(tmp_path / name / "stained.ome.zarr" / "0") for name in ("alone", "together"))
    assert alone == together
