"""A trained bundle from Python, given what nobody meant: numbers of NumPy's, text that is code, nothing at all."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest

from bundle import load
from bundle.common.errors import InputError
from tests.helpers.volumes import make_voxels


@pytest.fixture(scope="module")
def model(bundle):
    return load(bundle, "cpu")


@pytest.fixture(scope="module")
def voxels():
    return make_voxels()[:3]


@pytest.mark.parametrize("size", [np.int64(5), np.float32(5), np.array(5.0), np.array([5, 5, 5]), (5, np.int32(5), 5)])
def test_numbers_of_numpy_are_numbers(model, voxels, size):
    np.testing.assert_array_equal(model.volume(voxels, size, sigma=np.float32(1)), model.volume(voxels, 5, sigma=1))


@pytest.mark.parametrize("size", [[5, "x", 5], {"z": 5}, (5, None, 5), [[5]], "x", ()])
def test_what_is_no_size_gets_a_line(model, voxels, size):
    with pytest.raises(
        InputError, match=r"^voxel_um is .*; it must be a number above 0, or three in the order z, y, x"
    ):
        model.volume(voxels, size)


@pytest.mark.parametrize("options", [{"voxel_um": "$__import__('os').mkdir('pwned')"}, {"voxel_um": 5, "sigma": "@x"}])
def test_no_argument_is_code(model, voxels, options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="in a config MONAI takes text that begins with"):
        model.volume(voxels, **options)
    with pytest.raises(InputError, match="^speed is .* takes text that begins with"):
        load(model.bundle_root, "cpu", speed="$__import__('os').mkdir('pwned')")
    assert not (tmp_path / "pwned").exists()


def test_no_folder_is_code(model, voxels, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "$__import__('os').mkdir('pwned')"
    shutil.copytree(model.bundle_root, name)
    np.testing.assert_array_equal(load(name, "cpu").volume(voxels, 5), model.volume(voxels, 5))
    assert not (tmp_path / "pwned").exists()


def test_what_holds_nothing_or_has_no_known_size_gets_a_line(model, voxels):
    array = pytest.importorskip("dask.array", reason="Dask is not installed")
    some = array.from_array(voxels, chunks=(1, -1, -1))
    unknown = some[array.from_array(np.array([True, False, True]), chunks=1)]
    with pytest.raises(InputError, match=r"^the array is nan×.*compute_chunk_sizes\(\)"):
        model.volume(unknown, 5)
    for empty in (voxels[:0], voxels[:, :0]):
        with pytest.raises(InputError, match="it must hold something"):
            model.volume(empty, 5)
    with pytest.raises(InputError, match="it must hold something"):
        model(voxels[0, :0])


def test_a_model_goes_through_pickle(model, voxels):
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).volume(voxels, 5), model.volume(voxels, 5))


@pytest.mark.parametrize("device", ["gpu", "", "cuda:x"])
def test_a_device_that_is_none_gets_a_line(model, device):
    with pytest.raises(InputError, match=r"^device is .*; it must be cpu, cuda"):
        load(model.bundle_root, device)
