"""Which version of NGFF a run writes: as text or as a number, and what a run of an earlier version is."""

import json
import shutil

import numpy as np
import pytest
import zarr

from bundle.common.errors import InputError
from bundle.staining.job import Settings
from tests.helpers.slide_staining import HE, KI67, make_bundle, stain_slide, tissue, whole, write_slide
from tests.helpers.volumes import files_of, result, stain


@pytest.fixture(scope="module")
def plain(bundle, scan, tmp_path_factory):
    """A volume in NGFF 0.4."""
    folder = tmp_path_factory.mktemp("plain")
    stain(bundle, scan, folder, window=None)
    return folder


@pytest.mark.parametrize("version", [0.5, "0.5"])
def test_shards_hold_the_same_voxels(bundle, scan, plain, tmp_path, version):
    stain(bundle, scan, tmp_path, window=None, ngff=version)
    assert np.array_equal(result(tmp_path), result(plain))
    group = zarr.open_group(tmp_path / "stained.ome.zarr", mode="r")
    assert group.metadata.zarr_format == 3
    assert np.array_equal(np.moveaxis(group["0"][:], 0, -1), result(plain))
    one, other = (json.loads((folder / "volume.json").read_text())["fingerprint"] for folder in (plain, tmp_path))
    assert other == one | {"ngff": "0.5"}
    assert "ngff" not in one


def test_a_run_of_before_there_was_a_choice_is_the_same_run(bundle, scan, plain, tmp_path, capsys):
    shutil.copytree(plain, tmp_path, dirs_exist_ok=True)
    for version in (0.4, "0.4"):
        stain(bundle, scan, tmp_path, window=None, ngff=version)
        assert "is there already, made of the same scan" in capsys.readouterr().out
    assert files_of(tmp_path) == files_of(plain)
    with pytest.raises(InputError, match="ngff: 0.4, now 0.5"):
        stain(bundle, scan, tmp_path, window=None, ngff=0.5)


@pytest.mark.parametrize("version", [0.6, "0.40", 1, "null", True, "zarr3"])
def test_there_is_no_other(bundle, scan, tmp_path, version):
    with pytest.raises(InputError, match="^ngff is .*; it must be 0.4 or 0.5.$"):
        stain(bundle, scan, tmp_path / "out", ngff=version)


def test_other_formats_have_none(bundle, scan, tmp_path):
    with pytest.raises(InputError, match="^ngff is 0.5, but output_format is 'nii', .* --output_format ome-zarr"):
        stain(bundle, scan, tmp_path / "out", ngff=0.5, output_format="nii")
    stain(bundle, scan, tmp_path / "out", ngff=0.4, output_format="nii", window=None)


def test_settings_of_a_bundle_of_before():
    """Its ``volume.json`` names no version."""
    settings = Settings("z", "mean", 1.0, "ome-zarr", False, False)
    assert settings.faults() == []
    assert "ngff" not in settings.described()
    assert Settings("z", "mean", 1.0, "ome-zarr", False, False, 0.5).described()["ngff"] == "0.5"


def test_slides(tmp_path, small_blocks):
    model = make_bundle(tmp_path / "bundle", HE, KI67)
    slide = write_slide(tmp_path / "a.tif", tissue())
    given = {"output_format": "ome-zarr", "viewer": True}
    pyramid = stain_slide(model, slide, tmp_path / "plain", **given)
    with pytest.raises(FileNotFoundError):  # which is how the helper reads NGFF 0.4
        stain_slide(model, slide, tmp_path / "sharded", ngff=0.5, **given)
    group = zarr.open_group(tmp_path / "sharded" / "stained.ome.zarr", mode="r", zarr_format=3)
    for level in range(len(pyramid.spec.levels)):
        assert np.array_equal(np.moveaxis(group[str(level)][:], 0, -1), whole(pyramid, level))
    one, other = (
        json.loads((tmp_path / name / "slide.json").read_text())["fingerprint"] for name in ("plain", "sharded")
    )
    assert other == one | {"ngff": "0.5"}
    assert (tmp_path / "sharded" / "report.html").exists()
    with pytest.raises(InputError, match="ngff is 0.5, but output_format is 'ome-tiff'"):
        stain_slide(model, slide, tmp_path / "other", ngff=0.5, output_format="ome-tiff")
