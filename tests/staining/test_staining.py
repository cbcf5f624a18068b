"""Volumes stained slab by slab equal volumes stained whole, whatever stops or shares the work."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import torch
from monai.transforms import Compose
from scipy.ndimage import gaussian_filter

from bundle.common.errors import InputError
from bundle.images.slides import write_slide
from bundle.images.stained.stored import open_stain
from bundle.images.volumes.volume import open_volume
from bundle.report.run import remake
from bundle.staining import run as run_module
from bundle.staining.hull import Hull, find_hull
from bundle.staining.job import WORK
from bundle.staining.model import load_model
from bundle.staining.slices import SliceStore
from bundle.staining.stainer import Stainer, Windows
from tests.helpers.volumes import SHAPE, files_of, make_voxels, stain, write_scan

ALL = (slice(None),) * 3


@pytest.fixture(scope="module")
def bundle(trained) -> Path:
    return trained / "bundle"


@pytest.fixture(scope="module")
def voxels() -> np.ndarray:
    return make_voxels()


@pytest.fixture(scope="module")
def scan(voxels, tmp_path_factory) -> Path:
    return write_scan(tmp_path_factory.mktemp("scan") / "scan.nii.gz", voxels)


def stained_whole(bundle: Path, voxels: np.ndarray, axis: int, sigma: float = 1.0, **ids) -> np.ndarray:
    """The Gaussian over the whole volume, then each slice on its own: (Z, Y, X, 3)."""
    model = load_model(bundle, **ids)
    smooth = gaussian_filter(voxels.astype(np.float32), sigma, mode="nearest") if sigma else voxels
    slices = [model(each[None]).transpose(1, 2, 0) for each in np.moveaxis(smooth, axis, 0)]
    return np.moveaxis(np.stack(slices), 0, axis)


def result(folder: Path, name: str = "stained.ome.zarr") -> np.ndarray:
    return open_stain(folder / name).read(ALL)


def test_slabs_equal_the_whole_volume_across_their_borders(bundle, scan, voxels, tmp_path):
    stain(bundle, scan, tmp_path, window=32, step=16)
    expected = stained_whole(bundle, voxels, 0, window=32, step=16)
    assert np.array_equal(result(tmp_path), expected)
    assert not np.array_equal(expected, stained_whole(bundle, voxels, 0, sigma=0, window=32, step=16))
    assert not (tmp_path / WORK).exists()


def test_geometry_is_the_scans(bundle, scan, tmp_path):
    stain(bundle, scan, tmp_path, voxel_um=[7.0, 5.0, 5.0])
    stained = open_stain(tmp_path / "stained.ome.zarr")
    assert (stained.shape, stained.channels) == (SHAPE, 3)
    assert stained.geometry.spacing_um == (7.0, 5.0, 5.0)


@pytest.mark.parametrize("fusion", ["mean", "median"])
def test_three_axes_are_fused(bundle, scan, voxels, tmp_path, fusion):
    stain(bundle, scan, tmp_path, axes="zyx", fusion=fusion)
    each = np.stack([stained_whole(bundle, voxels, axis) for axis in range(3)])
    # float32 copies of the Gaussian along other axes differ in the last bit, so a rounding may fall the other way
    expected = np.rint(each.mean(0)) if fusion == "mean" else np.median(each, axis=0)
    difference = np.abs(result(tmp_path).astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize(("file_format", "name"), [("tif", "stained.ome.tif"), ("nii", "stained.nii")])
def test_other_formats_hold_the_same_and_alpha_is_the_inverted_mean(bundle, scan, voxels, tmp_path, file_format, name):
    stain(bundle, scan, tmp_path, output_format=file_format, alpha=True, window=None)
    stained = result(tmp_path, name)
    expected = stained_whole(bundle, voxels, 0, window=None)
    assert np.array_equal(stained[..., :3], expected)
    assert np.abs(stained[..., 3] - (255 - expected.mean(-1))).max() <= 0.5


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> tuple[Path, np.ndarray]:
    """A bright ball and a speck in a dark volume."""
    z, y, x = np.mgrid[:64, :96, :96] + 0.5
    ball = (z - 30) ** 2 + (y - 40) ** 2 + (x - 44) ** 2 < 14**2
    voxels = np.where(ball, 30000, 10000).astype(np.uint16)
    voxels[60, 90, 90] = 30000
    return write_scan(tmp_path_factory.mktemp("sample") / "scan.nii.gz", voxels), ball


LEVELS = {"bone_intensity": 30000, "background_intensity": 10000}


@pytest.fixture(scope="module")
def levelled(trained, tmp_path_factory) -> Path:
    """The same bundle, as if its dataset had declared the two grey values."""
    folder = tmp_path_factory.mktemp("levelled") / "bundle"
    shutil.copytree(trained / "bundle", folder)
    path = folder / "configs" / "inference.json"
    content = json.loads(path.read_text())
    content["source"] |= LEVELS
    path.write_text(json.dumps({**content, **LEVELS}))
    return folder


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
    assert windows.wanted == [False, True]


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


def test_sizes_that_disagree_are_told(bundle, scan, tmp_path, capsys):
    stain(bundle, scan, tmp_path / "given", window=None, voxel_um=[10.0, 4.0, 4.0])
    told = capsys.readouterr().out
    assert "scan.nii.gz states voxels of 5×5×5 µm (z×y×x); the 10×4×4 µm given are used" in told
    assert "has pixels of 4 µm, but the model was trained on pixels of 5 µm" in told
    stain(bundle, scan, tmp_path / "thick", window=None, voxel_um=[10.0, 5.0, 5.0])
    assert "the scan's pixels" not in capsys.readouterr().out


def test_a_second_start_finds_the_result(bundle, scan, tmp_path, capsys):
    stain(bundle, scan, tmp_path, window=None)
    with pytest.raises(InputError, match=r"name the volume itself, .*stained.ome.zarr"):
        open_stain(tmp_path)
    before = files_of(tmp_path / "stained.ome.zarr")
    capsys.readouterr()
    stain(bundle, scan, tmp_path, window=None)
    assert "is there already" in capsys.readouterr().out
    assert files_of(tmp_path / "stained.ome.zarr") == before


def test_the_page_can_be_made_again_also_without_the_scan(bundle, voxels, tmp_path):
    scan = write_scan(tmp_path / "scan.nii.gz", voxels)
    stain(bundle, scan, tmp_path / "out", window=None)
    page = tmp_path / "out" / "report.html"
    before = page.read_bytes()
    page.unlink()
    assert remake(str(tmp_path / "out")) == str(page)
    assert page.read_bytes() == before
    scan.unlink()
    remake(str(tmp_path / "out"))
    assert "The scan is not shown" in page.read_text()


def test_another_scan_model_or_setting_is_refused(bundle, scan, voxels, tmp_path):
    folder = tmp_path / "out"
    stain(bundle, scan, folder, window=None)
    other = voxels.copy()
    other[69, 47, 39] += 1
    with pytest.raises(InputError, match=r"other things \(scan: \S+scan.nii.gz, now \S+other.nii.gz\); choose another"):
        stain(bundle, write_scan(tmp_path / "other.nii.gz", other), folder, window=None)
    with pytest.raises(InputError, match=r"other things \(speed: exact, now fast\)"):
        stain(bundle, scan, folder, window=None, speed="fast")
    with pytest.raises(InputError, match=r"sigma: 1.0, now 0.5"):
        stain(bundle, scan, folder, window=None, sigma=0.5)
    changed = tmp_path / "changed"
    shutil.copytree(bundle, changed)
    weights = torch.load(changed / "models" / "model.pt", weights_only=True)
    next(iter(weights.values())).mul_(1.0001)
    torch.save(weights, changed / "models" / "model.pt")
    with pytest.raises(InputError, match=r"other things \(model: "):
        stain(changed, scan, folder, window=None)


class StoppedError(Exception):
    """What a kill is to a test."""


def stop_after(monkeypatch, slices: int, error: BaseException) -> None:
    """Let a process fail when it has written so many slices."""
    write, count = SliceStore.write, [0]

    def failing(self, *arguments):
        if count[0] == slices:
            raise error
        count[0] += 1
        write(self, *arguments)

    monkeypatch.setattr(SliceStore, "write", failing)


@pytest.mark.parametrize("axes", ["z", "zyx"])
def test_what_was_done_is_not_done_again(bundle, scan, tmp_path, monkeypatch, axes):
    stain(bundle, scan, tmp_path / "whole", window=None, axes=axes)
    with monkeypatch.context() as patch:
        stop_after(patch, 40, StoppedError())
        with pytest.raises(RuntimeError):
            stain(bundle, scan, tmp_path / "stopped", window=None, axes=axes)
    assert not (tmp_path / "stopped" / "stained.ome.zarr").exists()
    stained = []
    write = SliceStore.write
    monkeypatch.setattr(SliceStore, "write", lambda self, *args: stained.append(args[:2]) or write(self, *args))
    stain(bundle, scan, tmp_path / "stopped", window=None, axes=axes)
    total = sum(SHAPE["zyx".index(axis)] for axis in axes)
    assert len(stained) == total - 40
    spent = json.loads((tmp_path / "stopped" / "volume.json").read_text())["spent"]
    assert spent["slices"] == total
    assert total - 40 < spent["windows"] <= total  # those of the slices that were cut short are not counted
    whole, stopped = (files_of(tmp_path / name / "stained.ome.zarr") for name in ("whole", "stopped"))
    assert whole == stopped


def test_a_full_disk_stops_with_one_line_and_keeps_what_is_done(bundle, scan, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 10, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(InputError, match=r"the disk of output_dir .* is full .*; make room: what is done is kept"):
            stain(bundle, scan, tmp_path, window=None)
    assert len(list((tmp_path / WORK / "slices" / "z").glob("*.rgb"))) == 10


def test_a_torn_slice_is_stained_again(bundle, scan, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 10, StoppedError())
        with pytest.raises(RuntimeError):
            stain(bundle, scan, tmp_path / "torn", window=None)
    torn = tmp_path / "torn" / WORK / "slices" / "z" / "000003.rgb"
    torn.write_bytes(torn.read_bytes()[:100])
    stain(bundle, scan, tmp_path / "torn", window=None)
    stain(bundle, scan, tmp_path / "whole", window=None)
    assert np.array_equal(result(tmp_path / "torn"), result(tmp_path / "whole"))


def test_a_slice_that_cannot_be_read_is_named(bundle, voxels, tmp_path):
    folder = tmp_path / "slices"
    for number, each in enumerate(voxels[:20]):
        write_slide(folder / f"slice_{number:03d}.tif", each[None], 5.0)
    bad = folder / "slice_013.tif"
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    with pytest.raises(InputError, match=r"slice_013\.tif"):
        stain(bundle, folder, tmp_path / "out", voxel_um=5.0)
    assert not (tmp_path / "out" / "stained.ome.zarr").exists()


def test_a_slice_that_rots_while_it_is_stained_is_named_and_what_is_done_is_kept(bundle, voxels, tmp_path, monkeypatch):
    folder, out = tmp_path / "slices", tmp_path / "out"
    for number, each in enumerate(voxels):
        write_slide(folder / f"slice_{number:03d}.tif", each[None], 5.0)
    bad, go = folder / "slice_050.tif", run_module.Run.go
    whole = bad.read_bytes()

    def rotting(run):
        bad.write_bytes(whole[: len(whole) // 2])
        go(run)

    with monkeypatch.context() as patch:
        patch.setattr(run_module.Run, "go", rotting)
        with pytest.raises(InputError, match=r"slice_050\.tif cannot be read"):
            stain(bundle, folder, out, window=None, voxel_um=5.0)
    assert (out / WORK / "tasks" / "join-0000" / "done.json").exists()
    assert not (out / "stained.ome.zarr").exists()
    bad.write_bytes(whole)
    stain(bundle, folder, out, window=None, voxel_um=5.0)
    assert np.array_equal(result(out), stained_whole(bundle, voxels, 0, window=None))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ({"axes": "zz"}, "axes is 'zz'; it must be 'z', or several of z, y and x"),
        ({"axes": "w"}, "axes is 'w'"),
        ({"fusion": "max"}, "fusion is 'max'; it must be one of mean, median"),
        ({"fusion": "median"}, "a median needs all three: --axes zyx"),
        ({"sigma": -1}, "sigma is -1; it must be a number from 0 to 10"),
        ({"output_format": "png"}, "output_format is 'png'; it must be one of nii, ome-zarr, tif."),
        ({"voxel_um": "5um"}, "voxel_um is '5um'; it must be a number above 0, or three in the order z, y, x"),
        ({"alpha": "maybe"}, "alpha is 'maybe'; it must be true or false"),
        ({"background_rgb": [999, 0, 0]}, "background_rgb is [999, 0, 0]; it must be 3 numbers from 0 to 255"),
        ({"hull": True, "background_rgb": None}, "hull is true but background_rgb is not set"),
        ({"hull": True}, "hull is true but the scan's grey values are not known"),
        ({"direction": "reverse"}, "a volume is stained forward only"),
        ({"mask": "m.png"}, "it goes with slides; a volume's sample is found with --hull true"),
        ({"step": 0}, "step is 0; it must be a whole number of at least 1"),
        ({"speed": "warp"}, "speed is 'warp'; it must be one of exact, fast, preview"),
        ({"target": {"name": "IF", "channels": 2, "range": [0, 255]}}, "this model makes IF (2 channel(s), 0 to 255)"),
        ({"voxel_um": [5.0, 5.0, 6.0]}, "slices across z have pixels of 5×6 µm; the network needs square ones"),
    ],
)
def test_settings_that_make_no_sense_are_refused(bundle, scan, tmp_path, ids, message):
    with pytest.raises(InputError) as caught:
        stain(bundle, scan, tmp_path / "out", **ids)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_values_the_model_was_not_trained_on_are_refused_before_anything_is_stained(bundle, voxels, tmp_path):
    scan = write_scan(tmp_path / "float.nii.gz", voxels.astype(np.float32) * 2)
    with pytest.raises(InputError, match=r"slice \d+, has values from .* outside the declared range"):
        stain(bundle, scan, tmp_path / "out")
    holes = voxels.astype(np.float32)
    holes[7, 3, 3] = np.nan
    with pytest.raises(InputError, match=r"slice 7, has 1 NaN"):
        stain(bundle, write_scan(tmp_path / "nan.nii.gz", holes), tmp_path / "out")


def test_nan_outside_the_circle_becomes_what_it_is_told(bundle, tmp_path):
    voxels = make_voxels((8, 64, 64))
    rows, columns = np.mgrid[:64, :64]
    outside = np.hypot(rows - 31.5, columns - 31.5) > 31
    scan = write_scan(tmp_path / "s.nii.gz", np.where(outside, np.nan, voxels).astype(np.float32))
    with pytest.raises(InputError, match=r"slice 0, has .* NaN(.|\n)*--fill_nan VALUE, the grey value of air"):
        stain(bundle, scan, tmp_path / "out")
    stain(bundle, scan, tmp_path / "out", fill_nan=10000, sigma=0, window=None)
    air = np.where(outside, 10000, voxels).astype(np.float32)
    assert np.array_equal(result(tmp_path / "out"), stained_whole(bundle, air, 0, sigma=0, window=None))


def test_a_fill_is_noted(bundle, tmp_path, capsys):
    voxels = make_voxels((8, 64, 64))
    rows, columns = np.mgrid[:64, :64]
    voxels[:, np.hypot(rows - 31.5, columns - 31.5) > 31] = 0
    stain(bundle, write_scan(tmp_path / "s.nii.gz", voxels), tmp_path / "out", sigma=0, window=None)
    said = capsys.readouterr().out
    assert "note: the scan holds 0 outside the reconstruction circle (" in said
    assert "s.nii.gz: 8×64×64 voxels (z×y×x) of 5×5×5 µm, uint16, values 0 to " in said


def test_a_scan_outside_the_two_intensities_is_refused(levelled, voxels, tmp_path):
    scan = write_scan(tmp_path / "s.nii.gz", (voxels // 256).astype(np.uint8))
    with pytest.raises(InputError, match=r"0.00% of them between background_intensity .*scripts.intensities finds"):
        stain(levelled, scan, tmp_path / "out")
    high = (voxels // 4 + 49000).astype(np.uint16)
    with pytest.raises(InputError, match=r"values from 49\d+ to 6\d+, 0.00% of them between"):
        stain(levelled, write_scan(tmp_path / "t.nii.gz", high), tmp_path / "out")
    assert not (tmp_path / "out" / "volume.json").exists()


def test_a_scan_without_a_voxel_size_is_refused(bundle, voxels, tmp_path):
    tifffile.imwrite(tmp_path / "scan.tif", voxels)
    with pytest.raises(InputError, match=r"states no voxel size; give it in µm with --voxel_um"):
        stain(bundle, tmp_path / "scan.tif", tmp_path / "out")
    with pytest.raises(InputError, match="input is not set; pass --input SCAN"):
        stain(bundle, "null", tmp_path / "out")
    with pytest.raises(InputError, match=r"nowhere.tif does not exist"):
        stain(bundle, tmp_path / "nowhere.tif", tmp_path / "out")


def test_a_dataset_in_an_hdf5_file(bundle, voxels, tmp_path):
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_dataset("entry/data", data=voxels, chunks=(16, 48, 40))
    scan = f"{tmp_path / 'scan.h5'}:/entry/data"
    with pytest.raises(InputError, match="states no voxel size; give it in µm with --voxel_um"):
        stain(bundle, scan, tmp_path / "out", window=None)
    stain(bundle, scan, tmp_path / "out", window=None, voxel_um=5.0)
    assert np.array_equal(result(tmp_path / "out"), stained_whole(bundle, voxels, 0, window=None))


def test_one_slice_is_a_volume_too(bundle, voxels, tmp_path):
    tifffile.imwrite(tmp_path / "slice.tif", voxels[0])
    stain(bundle, tmp_path / "slice.tif", tmp_path / "out", voxel_um=5.0, sigma=0)
    assert np.array_equal(result(tmp_path / "out"), stained_whole(bundle, voxels[:1], 0, sigma=0))
    with pytest.raises(InputError, match="slices across y are 1×40 px; the network needs at least 8×8"):
        stain(bundle, tmp_path / "slice.tif", tmp_path / "none", voxel_um=5.0, axes="zy")


@pytest.mark.parametrize(
    ("name", "shape", "um"),
    [("trabecular_bone/volume.tif", (200, 200, 200), 19.5), ("implant_slice/implant.tiff", (1, 512, 512), 5.0)],
)
def test_real_scans_go_through(levelled, shared, tmp_path, name, shape, um):
    levels = {"bone_intensity": 170, "background_intensity": 40, "background_rgb": [250, 240, 230]}
    stain(levelled, shared / "data" / name, tmp_path, voxel_um=um, window=None, hull=True, **levels)
    stained = result(tmp_path)
    assert stained.shape == (*shape, 3)
    outside = (stained == [250, 240, 230]).all(-1).mean()
    assert outside < 0.9
    assert open_stain(tmp_path / "stained.ome.zarr").geometry.spacing_um == (um, um, um)


def test_a_disk_that_is_really_full(bundle, scan, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small disk could be mounted here, so a really full one was not tried")
    try:
        with pytest.raises(InputError, match=r"the disk of output_dir .* is full"):
            stain(bundle, scan, disk, window=None)
        assert any((disk / WORK / "slices" / "z").glob("0*.rgb"))
        assert not (disk / "stained.ome.zarr").exists()
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        stain(bundle, scan, disk, window=None)
        stain(bundle, scan, tmp_path / "whole", window=None)
        assert files_of(disk / "stained.ome.zarr") == files_of(tmp_path / "whole" / "stained.ome.zarr")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_two_processes_of_torchrun_share_the_work_and_give_the_same(trained, scan, tmp_path):
    bundle = shutil.copytree(trained / "bundle", tmp_path / "moved")  # its own code runs, and leaves its caches there
    stain(bundle, scan, tmp_path / "one", window=32, step=16)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "monai.bundle", "run", "inference", "--config_file"]
    command += [str([str(bundle / "configs" / name) for name in ("inference.json", "volume.json")])]
    command += ["--bundle_root", str(bundle)]
    command += ["--input", str(scan), "--output_dir", str(tmp_path / "two"), "--window", "32", "--step", "16"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert files_of(tmp_path / "one" / "stained.ome.zarr") == files_of(tmp_path / "two" / "stained.ome.zarr")
    assert "70/70" in done.stderr
    assert not (tmp_path / "two" / WORK).exists()
