"""A source of any number of channels is declared once, in the datalist, and goes through all of the house."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
import zarr

from bundle.common.errors import InputError
from bundle.data.load import load_datalist
from bundle.hospital.pacs.staining import Wanted
from bundle.images.slides import read_slide, write_slide
from bundle.images.stained.stored import open_stain
from bundle.images.volumes.volume import open_volume
from bundle.staining.model import load_model
from bundle.staining.page import remake
from bundle.training.export import export
from scripts.deploy.package import package
from scripts.deploy.settings import check_levels
from scripts.label import __main__ as label
from tests.conftest import TINY, make_dataset, run_bundle
from tests.helpers.volumes import make_voxels, stain, write_scan

METHODS = {2: "cyclegan", 5: "one_way"}  # by number of channels


def channels_of(grey: np.ndarray, number: int) -> np.ndarray:
    """(1, H, W) → (number, H, W), each weaker and lighter than the one before."""
    return np.concatenate([(grey * (1 - place / 10) + 3000 * place).astype(np.uint16) for place in range(number)])


def make_channels(folder: Path, number: int) -> Path:
    """A dataset of which the source has several channels, a page each in a TIFF."""
    make_dataset(folder)
    listed = json.loads((folder / "datalist.json").read_text())
    for entry in listed["training"] + listed["testing"]:
        grey = folder / entry["source"]
        entry["source"] = entry["source"].replace("source/", "ct/").replace(".png", ".tif")
        write_slide(folder / entry["source"], channels_of(read_slide(grey).pixels, number), 5.0)
    listed["source"] = {"name": "energies", "channels": number, "range": [0, 65535]}
    (folder / "datalist.json").write_text(json.dumps(listed))
    return folder


@pytest.fixture(scope="module", params=METHODS)
def run(request, tmp_path_factory) -> tuple[int, Path]:
    """How many channels, and the folder of a tiny run that was evaluated; its dataset is ``data`` beside it."""
    folder = tmp_path_factory.mktemp("channels")
    make_channels(folder / "data", request.param)
    configs = ["configs/train.json", f"configs/methods/{METHODS[request.param]}.json"]
    ids = {"dataset_dir": folder / "data", "output_dir": folder / "run", "fold": 0}
    only = {"validate_every": 1, "lambda_identity": 0, **TINY, "epochs": 1}
    done = run_bundle("training", configs, **ids, **only)
    assert done.returncode == 0, done.stdout + done.stderr
    done = run_bundle("evaluation", [configs[0], "configs/evaluate.json"], **ids, eval_patch=32)
    assert done.returncode == 0, done.stdout + done.stderr
    return request.param, folder / "run"


def test_a_network_learns_from_them(run):
    number, folder = run
    bundle = folder / "bundle"
    network = load_model(bundle).network
    assert network.layers[1].in_channels == number
    described = json.loads((bundle / "configs/metadata.json").read_text())["network_data_format"]["inputs"]["image"]
    assert described["num_channels"] == number
    assert described["channel_def"] == {str(place): f"channel {place}" for place in range(number)}
    assert (bundle / "reverse.pt").exists() == (METHODS[number] == "cyclegan")
    assert (folder / "samples/epoch_0001.png").exists()


def test_they_are_evaluated_beside_the_baselines(run):
    number, folder = run
    table = (folder / "evaluation/table.md").read_text(encoding="utf-8")
    for row in ("network", "colour table", "mean colour", "inverted source", "raw source"):
        assert f"| testing | {row} |" in table
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "source: energies, 72 × 64 px" in page
    (slide,) = (folder / "evaluation/slides").glob("testing_*")
    assert read_slide(slide / "source.png").pixels.shape == (3, 64, 72)  # false colours
    back = [read_slide(path).pixels.shape for path in slide.glob("patch_*/generated_source.png")]
    assert bool(back) == (number == 2)
    assert set(back) <= {(3, 32, 32)}


def test_slides_of_them_are_stained_and_of_others_are_not(run, tmp_path):
    number, folder = run
    ids = {"bundle_root": folder / "bundle", "output_dir": tmp_path}
    config, image = folder / "bundle/configs/inference.json", folder.parent / "data/ct/02.tif"
    done = run_bundle("inference", config, **ids, input=image)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = load_model(folder / "bundle")(read_slide(image).pixels)
    assert np.array_equal(read_slide(tmp_path / "02_stained.tif").pixels, expected)
    done = run_bundle("inference", config, **ids, input=folder.parent / "data/source/02.png")
    assert f"02.png has 1 channels but energies declares {number}" in done.stderr
    if number == 2:
        stain = folder.parent / "data/target/02.png"
        done = run_bundle("inference", config, **ids, input=stain, direction="reverse")
        assert done.returncode == 0, done.stdout + done.stderr
        assert read_slide(tmp_path / "02_source.tif").pixels.shape == (2, 64, 72)


def energies(folder: Path, number: int) -> list[str]:
    """A scan of several channels, a file each."""
    voxels = channels_of(make_voxels((12, 48, 40))[None], number)
    return [str(write_scan(folder / f"{place}.nii.gz", channel)) for place, channel in enumerate(voxels)]


def test_a_volume_of_them_is_stained_slice_by_slice_to_its_page(run, tmp_path, capsys):
    number, folder = run
    scans, bundle = energies(tmp_path, number), folder / "bundle"
    stain(bundle, scans, tmp_path / "out", sigma=0)
    made = open_stain(tmp_path / "out" / "stained.ome.zarr").read((slice(None),) * 3)
    channels = np.stack([np.transpose(nibabel.load(path).get_fdata()) for path in scans], axis=1)
    model = load_model(bundle)
    expected = np.stack([model(each).transpose(1, 2, 0) for each in channels])
    assert np.array_equal(made, expected)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert f"{number} channels, of which the first is shown" in page
    assert f"{number - 1}.nii.gz</code>" in page
    assert json.loads((tmp_path / "out" / "volume.json").read_text())["input"] == scans
    remake(tmp_path / "out")
    assert "The scan is not shown" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    channel_zarr(tmp_path / "scan.ome.zarr", channels.swapaxes(0, 1).astype(np.uint16))
    stain(bundle, tmp_path / "scan.ome.zarr", tmp_path / "of_zarr", sigma=0)
    assert np.array_equal(open_stain(tmp_path / "of_zarr" / "stained.ome.zarr").read((slice(None),) * 3), made)
    flat = str(write_scan(tmp_path / "flat.nii.gz", np.full((12, 48, 40), 9000, np.uint16)))  # as a material's level
    capsys.readouterr()
    stain(bundle, [*scans[:-1], flat], tmp_path / "of_flat", sigma=0)
    assert "note: one channel is flat: " in capsys.readouterr().out
    moved = nibabel.load(scans[-1])
    moved.affine[:3, 3] += 1
    nibabel.save(nibabel.Nifti1Image(moved.dataobj, moved.affine, moved.header), tmp_path / "moved.nii.gz")
    stain(bundle, [*scans[:-1], str(tmp_path / "moved.nii.gz")], tmp_path / "of_moved", sigma=0)
    assert "moved.nii.gz begins 1 mm from where" in capsys.readouterr().out
    given = {"axes": "zyx", "window": None}
    stain(bundle, scans, tmp_path / "fused", **given)
    stain(bundle, tmp_path / "scan.ome.zarr", tmp_path / "fused_too", **given)
    fused, too = (
        open_stain(tmp_path / name / "stained.ome.zarr").read((slice(None),) * 3) for name in ("fused", "fused_too")
    )
    assert np.array_equal(fused, too)


def channel_zarr(path: Path, voxels: np.ndarray) -> None:
    """Write (C, Z, Y, X) of 5 µm."""
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    group.create_array("0", data=voxels, chunks=(1, 4, 48, 40))
    axes = [
        {"name": "c", "type": "channel"},
        *({"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"),
    ]
    scale = [{"type": "scale", "scale": [1, 5, 5, 5]}]
    level = {"path": "0", "coordinateTransformations": scale}
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [level]}]


def test_volumes_that_are_not_those_channels_are_refused(run, trained, tmp_path):
    number, folder = run
    scans = energies(tmp_path, number)
    with pytest.raises(
        InputError, match=rf"0\.nii\.gz has 1 channel\(s\), but this model takes energies \({number} .*list a"
    ):
        stain(folder / "bundle", scans[0], tmp_path / "out")
    with pytest.raises(
        InputError, match=rf"has {number} channel\(s\), but this model takes µCT .* give the µCT itself"
    ):
        stain(trained / "bundle", scans, tmp_path / "out")
    other = str(write_scan(tmp_path / "other.nii.gz", make_voxels((12, 48, 41))))
    with pytest.raises(
        InputError, match=r"other\.nii\.gz is 12×48×41 voxels of 5×5×5 µm, but .*0\.nii\.gz is 12×48×40"
    ):
        stain(folder / "bundle", [*scans[:-1], other], tmp_path / "out")
    fine = str(write_scan(tmp_path / "fine.nii.gz", make_voxels((12, 48, 40)), 4.0))
    with pytest.raises(InputError, match=r"of 4×4×4 µm, but .* share one grid"):
        stain(folder / "bundle", [*scans[:-1], fine], tmp_path / "out")
    turned = nibabel.load(scans[-1])
    axes = turned.affine @ np.diag([-1, 1, 1, 1])
    nibabel.save(nibabel.Nifti1Image(turned.dataobj, axes, turned.header), tmp_path / "turned.nii.gz")
    with pytest.raises(InputError, match=r"turned\.nii\.gz has axes x, y, z along \(-1, 0, 0\).* share one grid"):
        stain(folder / "bundle", [*scans[:-1], str(tmp_path / "turned.nii.gz")], tmp_path / "out")
    with pytest.raises(InputError, match=r"input is \('a\.nii',\); a list of scans is written --input"):
        stain(folder / "bundle", "('a.nii',)", tmp_path / "out")
    with pytest.raises(InputError, match=r"input is \[\]; it must be a path, or a list of paths, or null"):
        stain(folder / "bundle", [], tmp_path / "out")
    with pytest.raises(InputError, match=r"input is \[a\.nii,b\.nii\]; a list of scans is written --input .*'A','B'"):
        stain(folder / "bundle", "[a.nii,b.nii]", tmp_path / "out")
    channel_zarr(tmp_path / "scan.ome.zarr", np.zeros((number, 4, 48, 40), np.uint16))
    with pytest.raises(InputError, match=f"has {number} channels; a scan is grey, so give the µCT itself"):
        open_volume(tmp_path / "scan.ome.zarr")
    assert not (tmp_path / "out").exists()


def test_a_volume_that_says_nothing_is_refused(run, tmp_path):
    number, folder = run
    scans = energies(tmp_path, number)
    with pytest.raises(InputError, match=rf"channel {number - 1}, .* is the same as .*0\.nii\.gz, channel 0; list the"):
        stain(folder / "bundle", [*scans[:-1], scans[0]], tmp_path / "twice")
    flat = [
        str(write_scan(tmp_path / f"flat{place}.nii", np.full((4, 48, 40), place, np.uint8))) for place in range(number)
    ]
    with pytest.raises(InputError, match=r"flat0\.nii has values from 0 to 0, less than one of 256 grey levels"):
        stain(folder / "bundle", flat, tmp_path / "flat")
    write_slide(tmp_path / "flat.tif", np.full((number, 48, 40), 9, np.uint16), 5.0)
    done = run_bundle(
        "inference",
        folder / "bundle/configs/inference.json",
        bundle_root=folder / "bundle",
        input=tmp_path / "flat.tif",
        output_dir=tmp_path / "slides",
    )
    assert "flat.tif has values from 9 to 9, less than one of 256 grey levels" in done.stderr
    assert not list(tmp_path.rglob("*stained*"))


def test_nan_outside_the_circle_of_some_channels_is_filled(run, tmp_path):
    number, folder = run
    rows, columns = np.mgrid[:48, :48]
    voxels = channels_of(make_voxels((4, 48, 48))[None], number).astype(np.float32)
    voxels[0, :, np.hypot(rows - 23.5, columns - 23.5) > 23] = np.nan
    scans = [str(write_scan(tmp_path / f"{place}.nii.gz", channel)) for place, channel in enumerate(voxels)]
    stain(folder / "bundle", scans, tmp_path / "out", sigma=0, fill_nan=10000)
    assert (tmp_path / "out/stained.ome.zarr").exists()
    with pytest.raises(InputError, match=r"fill_nan is 10000, but .*1\.nii\.gz has no NaN outside"):
        stain(folder / "bundle", [scans[1]] * number, tmp_path / "none", fill_nan=10000)


@pytest.mark.slow
def test_the_zip_stains_a_volume_of_them_with_monai_alone(run, tmp_path):
    number, folder = run
    said = export(str(folder / "bundle"), str(tmp_path / "zoo.zip"))
    assert "models/model.onnx gives it within" in said
    assert "stained a volume, from an empty folder" in said


def test_a_series_has_one_value_a_voxel(run, tmp_path):
    number, folder = run
    bundle = folder / "bundle"
    asked = [
        lambda: Wanted(bundle, None, None).settings(),
        lambda: package(str(bundle), str(tmp_path)),
        lambda: check_levels(bundle, tmp_path, None, None),
        lambda: label.main(str(bundle), str(tmp_path)),
    ]
    for ask in asked:
        with pytest.raises(InputError, match=f"takes {number} channels of energies, but a CT series has one value a"):
            ask()
    assert not list(tmp_path.iterdir())


def test_what_has_no_meaning_is_refused_by_its_id(tmp_path):
    data = make_channels(tmp_path / "data", 5)
    done = run_bundle("training", "configs/train.json", dataset_dir=data, output_dir=tmp_path / "run", **TINY)
    assert done.stderr.strip().splitlines()[-2:] == [
        "error: lambda_identity is 3, but energies has 5 channel(s) and toluidine blue 3, so a generator cannot take "
        "what it makes; set it to 0.",
        "lambda_grey is 1, but energies has 5 channel(s) and toluidine blue 3, so energies need not be grey; set it to "
        "0.",
    ]
    assert not (tmp_path / "run").exists()


def test_pages_that_are_turned_or_not_there_are_refused(tmp_path):
    pages = np.arange(2 * 30 * 40, dtype=np.uint16).reshape(2, 30, 40)
    with tifffile.TiffWriter(tmp_path / "turned.tif") as file:
        for page, orientation in zip(pages, (1, 3), strict=True):
            file.write(page, metadata=None, contiguous=False, extratags=[(274, 3, 1, orientation, True)])
    with pytest.raises(InputError, match=r"turned\.tif has pages of different Orientation"):
        read_slide(tmp_path / "turned.tif")
    tifffile.imwrite(tmp_path / "slices.tif", pages, imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(InputError, match=r"volumes go through .* As channels, save them with the axis C"):
        read_slide(tmp_path / "slices.tif")
    whole = tmp_path / "whole.ome.tif"
    tifffile.imwrite(whole, pages, photometric="minisblack", metadata={"axes": "CYX"})
    (tmp_path / "lacking.ome.tif").write_bytes(whole.read_bytes().replace(b'SizeC="2"', b'SizeC="3"'))
    with pytest.raises(InputError, match=r"lacking\.ome\.tif lacks 1 of the 3 planes it names"):
        read_slide(tmp_path / "lacking.ome.tif")


def test_targets_of_pairs_are_rgb(tmp_path):
    data = make_dataset(tmp_path, target={"name": "stain", "channels": 2, "range": [0, 255]})
    with pytest.raises(InputError, match=r"target\.channels is 2; it must be 3 \(RGB\) for a method that learns"):
        load_datalist(str(data))
