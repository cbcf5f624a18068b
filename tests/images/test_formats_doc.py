"""What docs/formats.md says of scans is what happens, trait by trait; other libraries are the judges."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bundle.common.errors import InputError
from bundle.images.volumes.volume import open_volume
from tests.conftest import ROOT
from tests.helpers.scan_cases import folders  # noqa: F401  it adds its cases
from tests.helpers.scan_cases.case import CASES
from tests.helpers.scan_cases.grids import attributes, bare, hdf5
from tests.helpers.scan_cases.headers import no_unit
from tests.helpers.scan_cases.stacks import several_files

ROWS = re.findall(
    r"^\| ([^|]+?) \| ([^|]+?) \| (read|converted|refused) \| ([^|]*?) ?\|$",
    (ROOT / "docs" / "formats.md").read_text(encoding="utf-8").split("\n## Scans\n")[1].split("\n## ")[0],
    flags=re.MULTILINE,
)


def test_every_row_has_its_file_and_every_file_its_row():
    assert sorted((form, trait) for form, trait, _, _ in ROWS) == sorted(CASES)


@pytest.mark.parametrize(("form", "trait", "outcome", "how"), ROWS, ids=[f"{row[0]}: {row[1]}" for row in ROWS])
def test_what_happens(form, trait, outcome, how, tmp_path):
    for number, each in enumerate(CASES[form, trait]):
        folder = tmp_path / str(number)
        folder.mkdir()
        given = each.write(folder)
        if outcome == "refused":
            _, words, _ = how.split("`")
            with pytest.raises(InputError) as caught:
                open_volume(given, None if "size" in words or "slices" in words else (7, 6, 5))
            assert words in str(caught.value)
            assert str(folder) in str(caught.value)
            assert "\n" not in str(caught.value)
            continue
        assert each.voxels is not None
        size = (7.0, 7.0, 7.0) if each.write is no_unit else (7.0, 6.0, 5.0)
        volume = open_volume(str(given), size if each.spacing_um is None else None)
        expected = each.voxels(Path(given))
        pixels = volume.read(0, volume.shape[0])
        assert np.array_equal(pixels, expected.astype(pixels.dtype), equal_nan=pixels.dtype.kind == "f")
        assert pixels.astype(float) == pytest.approx(expected.astype(float), nan_ok=True)
        assert np.array_equal(volume.read(1, 3), pixels[1:3], equal_nan=pixels.dtype.kind == "f")
        assert volume.geometry.spacing_um == pytest.approx(each.spacing_um or size, rel=1e-5)
        assert volume.geometry.origin_mm == pytest.approx(each.origin_mm, abs=1e-6)


def test_a_copy_of_a_file_over_several_is_no_second_scan(tmp_path):
    scan = several_files(tmp_path)
    shutil.copy(scan / "z0.ome.tif", scan / "z0 (1).ome.tif")
    with pytest.raises(InputError, match=r"an OME-TIFF of 6 files, and z0 \(1\).ome.tif; move these away"):
        open_volume(scan)


def test_numbers_that_are_none(tmp_path):
    for name, value in (("scale_factor", "big"), ("add_offset", [1.0, 2.0]), ("scale_factor", float("nan"))):
        path = hdf5(attributes(**{name: value}))(tmp_path)
        with pytest.raises(InputError, match=f"has {name} .*, which is no number"):
            open_volume(path, 5)
    path = bare(3, scale_factor=json.dumps({}))(tmp_path)
    with pytest.raises(InputError, match="has scale_factor"):
        open_volume(path, 5)


def test_the_cases(shared):
    voxels, cases = np.load(shared / "cases" / "volumes" / "truth.npy"), shared / "cases" / "volumes"
    for name in ("multifile_ome", "savu.nxs", "bf.zarr/0"):
        volume = open_volume(cases / name)
        assert np.array_equal(volume.read(0, 6), voxels)
        assert volume.geometry.spacing_um == (5, 5, 5)
    assert np.array_equal(open_volume(cases / "arr.zarr", 5).read(0, 6), voxels)
    assert open_volume(cases / "unk2.nii", 5).geometry.origin_mm == (-1, 0, 0)
    stored = tifffile.imread(cases / "ijsigned.tif").astype(int)
    assert np.array_equal(open_volume(cases / "ijsigned.tif").read(0, 6), stored - 32768)
    refused = {"ij2.tif": "no distance", "two_series.ome.tif": "2 images", "two_sequences": "several sequences"}
    refused |= {"with_spr": "rat_rec_spr.tif", "with_copy": r"s_3 \(1\).tif", "bf.zarr": "bf.zarr/0"}
    for name, words in refused.items():
        with pytest.raises(InputError, match=words):
            open_volume(cases / name)
    for name in ("miniswhite.tif", "orient_folder"):
        with pytest.raises(InputError, match="MINISWHITE|Orientation 4"):
            open_volume(shared / "cases" / "images" / name, 5)
