"""Volumes stained with the statistics of the one region that is most like the training's sections."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import torch

from bundle.common.errors import InputError
from bundle.images.slides import read_slide
from bundle.networks import ResnetGenerator
from bundle.networks.sections import Sections
from bundle.networks.specimen_norm import SpecimenNetwork, statistics_of
from bundle.staining import run as run_module
from bundle.staining.job import RECORD
from bundle.staining.model import load_model
from bundle.staining.page import PAGE
from tests.conftest import run_bundle
from tests.helpers.firm import PLACE, make_firm, prepared, write_faint
from tests.helpers.volumes import files_of, make_voxels, result, stain, write_scan
from tests.staining.test_interrupted import StoppedError, stop_after


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    return write_faint(tmp_path_factory.mktemp("scan") / "scan.nii.gz")


@pytest.fixture(scope="module")
def firm(trained, tmp_path_factory) -> Path:
    return make_firm(trained / "bundle", tmp_path_factory.mktemp("firm") / "bundle")


def stained_by(bundle: Path, voxels: np.ndarray, reference: np.ndarray, axis: int = 0) -> np.ndarray:
    """Each slice alone, with the statistics of one."""
    model = load_model(bundle, normalisation="window", window=None, speed="stock")
    assert isinstance(model.network, ResnetGenerator)
    specimen = SpecimenNetwork(model.network)
    specimen.settle(specimen.learn(prepared(reference)))
    with torch.inference_mode():
        made = [specimen(prepared(each))[0] for each in np.moveaxis(voxels, axis, 0)]
    pixels = [((each.clamp(-1, 1) + 1) * 127.5).round().numpy().astype(np.uint8).transpose(1, 2, 0) for each in made]
    return np.moveaxis(np.stack(pixels), 0, axis)


def voxels_of(scan: Path) -> np.ndarray:
    return np.asarray(nibabel.load(scan).dataobj).transpose(2, 1, 0)


def levels_apart(one: np.ndarray, other: np.ndarray) -> tuple[int, float]:
    """The largest difference, and the share of values that differ."""
    apart = np.abs(one.astype(int) - other)
    return int(apart.max()), float((apart > 0).mean())


def test_the_slice_that_is_like_the_sections_is_found_and_decides(firm, scan, tmp_path, capsys):
    stain(firm, scan, tmp_path, sigma=0)
    most, share = levels_apart(result(tmp_path), stained_by(firm, voxels_of(scan), voxels_of(scan)[PLACE]))
    assert most <= 1
    assert share < 1e-3  # the engine's Winograd rounds otherwise
    record = json.loads((tmp_path / RECORD).read_text())
    assert record["reference"]["slice"] == PLACE
    assert (record["reference"]["axis"], record["reference"]["region"]) == ("z", [0, 0, 48, 40])
    assert re.search(r"statistics of slice 16 across z, 48×40 px at 0, 0: \S+ from the near", capsys.readouterr().out)
    assert "slice 16 across z" in (tmp_path / PAGE).read_text()


def test_windows_of_every_size_and_a_killed_run_give_the_same_bytes(firm, scan, tmp_path, monkeypatch):
    stain(firm, scan, tmp_path / "whole", sigma=0)
    stain(firm, scan, tmp_path / "small", sigma=0, window=48)
    monkeypatch.setattr("bundle.networks.halo.LEAST_READ", 1)
    with monkeypatch.context() as patch:
        stop_after(patch, 40, StoppedError())
        with pytest.raises(RuntimeError):
            stain(firm, scan, tmp_path / "killed", sigma=0)
    with monkeypatch.context() as patch:  # what was found is not looked for again
        patch.setattr(run_module, "reference_of", None)
        stain(firm, scan, tmp_path / "killed", sigma=0)
    kept = [files_of(tmp_path / name / "stained.ome.zarr") for name in ("whole", "killed", "small")]
    assert kept[0] == kept[1]
    assert np.array_equal(result(tmp_path / "whole"), result(tmp_path / "small"))


def test_a_slice_that_is_named_decides(firm, scan, tmp_path, capsys):
    stain(firm, scan, tmp_path / "a", sigma=0, reference_slice=3)
    assert levels_apart(result(tmp_path / "a"), stained_by(firm, voxels_of(scan), voxels_of(scan)[3]))[0] <= 1
    assert "statistics of slice 3 across z, 48×40 px at 0, 0, as asked for" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"reference_slice: nothing|reference_slice was|other things"):
        stain(firm, scan, tmp_path / "a", sigma=0, reference_slice=4)
    with pytest.raises(InputError, match="reference_slice is 70, but slices across z are 0 to 69; name one of them"):
        stain(firm, scan, tmp_path / "b", reference_slice=70)
    with pytest.raises(InputError, match="reference_slice is given, but normalisation is 'window'"):
        stain(firm, scan, tmp_path / "b", reference_slice=3, normalisation="window", window=256, step=64)
    assert not (tmp_path / "b").exists()


def test_a_slice_that_shows_nothing_is_no_reference(firm, tmp_path, capsys):
    voxels = make_voxels()
    voxels[3], voxels[4] = 10000, np.random.default_rng(0).integers(9990, 10010, voxels.shape[1:])
    scan = write_scan(tmp_path / "scan.nii.gz", voxels)
    with pytest.raises(InputError, match="reference_slice is 3, but all values of slice 3 across z are 10000; name "):
        stain(firm, scan, tmp_path / "flat", sigma=0, reference_slice=3)
    stain(firm, scan, tmp_path / "air", sigma=0, reference_slice=4)
    assert re.search(r"slice 4 across z is unlike every section of the training: \S+ from the", capsys.readouterr().out)
    record = json.loads((tmp_path / "air" / RECORD).read_text())["reference"]
    assert record["distance"] > 2 * record["usual"]


def test_other_sections_make_another_stain(firm, scan, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(firm, bundle)
    stain(bundle, scan, tmp_path / "out", sigma=0)
    path = bundle / "models" / "sections.npz"
    with np.load(path) as content:
        Sections(torch.from_numpy(content["statistics"][:2]), content["sizes"][:2]).save(path)
    with pytest.raises(InputError, match=r"holds a stain made of other things \(sections: "):
        stain(bundle, scan, tmp_path / "out", sigma=0)
    stain(bundle, scan, tmp_path / "named", sigma=0, reference_slice=PLACE)  # by which they do not matter


def test_an_older_bundle_needs_a_slice_by_name(trained, scan, tmp_path):
    ids = {"normalisation": "specimen", "window": 256, "sigma": 0}
    old = tmp_path / "old"
    shutil.copytree(trained / "bundle", old)
    (old / "models" / "sections.npz").unlink()
    with pytest.raises(InputError, match=r"no models/sections.npz to find a slice by; .* --reference_slice N"):
        stain(old, scan, tmp_path / "out", **ids)
    assert not (tmp_path / "out").exists()
    stain(old, scan, tmp_path / "out", **ids, reference_slice=PLACE)
    expected = stained_by(old, voxels_of(scan), voxels_of(scan)[PLACE])
    assert levels_apart(result(tmp_path / "out"), expected)[0] <= 1


def test_across_three_axes_one_region_decides(firm, scan, tmp_path):
    stain(firm, scan, tmp_path, sigma=0, axes="zyx", fusion="median", reference_slice=PLACE)
    voxels = voxels_of(scan)
    each = [stained_by(firm, voxels, voxels[PLACE], axis) for axis in range(3)]
    assert levels_apart(result(tmp_path), np.median(each, 0))[0] <= 1


def test_a_user_is_told_which(firm, scan, tmp_path):
    ids = {"input": scan, "output_dir": tmp_path, "sigma": 0, "device": "cpu"}
    configs = f"['{firm}/configs/inference.json','{firm}/configs/volume.json']"
    done = run_bundle("inference", configs, bundle_root=firm, **ids)
    assert done.returncode == 0, done.stderr
    assert "statistics of slice 16" in done.stdout


def test_monai_alone_makes_the_same_of_it(firm, scan, tmp_path):
    configs = f"['{firm}/configs/inference.json','{firm}/configs/series.json']"
    ids = {"input": scan, "output_dir": tmp_path / "series", "sigma": 0, "device": "cpu"}
    done = run_bundle("inference", configs, bundle_root=firm, **ids)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (tmp_path / "series").iterdir()
    made = nrrd.read(str(path))[0]
    stain(firm, scan, tmp_path / "ours", sigma=0, speed="stock")
    ours = result(tmp_path / "ours")
    most, share = levels_apart(np.moveaxis(made, 0, -1).transpose(2, 1, 0, 3), ours)
    assert most <= 1
    assert share < 1e-4


def test_a_training_publishes_its_sections(trained):
    model = load_model(trained / "bundle")
    known = Sections.load(trained / "bundle" / "models" / "sections.npz", statistics_of(model.network))
    specimen = SpecimenNetwork(model.network)
    listed = json.loads((trained.parent / "data" / "datalist.json").read_text())["training"]
    assert len(known.statistics) == len(listed)
    for entry, statistics in zip(listed, known.statistics, strict=True):
        pixels = read_slide(trained.parent / "data" / entry["source"]).pixels[0]
        torch.testing.assert_close(specimen.learn(prepared(pixels)), statistics, atol=1e-4, rtol=0)
