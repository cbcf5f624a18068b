"""Volumes stained slab by slab equal volumes stained whole; what cannot be stained is refused."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import tifffile

from bundle.common.errors import InputError
from bundle.images.stained.stored import open_stain
from bundle.report.run import remake
from bundle.staining.job import WORK
from tests.helpers.volumes import SHAPE, make_voxels, result, stain, stained_whole, write_scan


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


def test_sizes_that_disagree_are_told(bundle, scan, tmp_path, capsys):
    stain(bundle, scan, tmp_path / "given", window=None, voxel_um=[10.0, 4.0, 4.0])
    told = capsys.readouterr().out
    assert "scan.nii.gz states voxels of 5×5×5 µm (z×y×x); the 10×4×4 µm given are used" in told
    assert "has pixels of 4 µm, but the model was trained on pixels of 5 µm" in told
    stain(bundle, scan, tmp_path / "thick", window=None, voxel_um=[10.0, 5.0, 5.0])
    assert "the scan's pixels" not in capsys.readouterr().out


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
