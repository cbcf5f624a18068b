"""A scan with NaN or infinite values is refused by each way to stain it, wherever they are in whatever format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import itk
import numpy as np
import pytest
from monai.bundle import ConfigParser

from bundle.common.errors import InputError
from tests.conftest import ROOT
from tests.helpers.volumes import make_voxels, stain, write_scan
from tests.hospital.pacs_parts import make_bundle

CASES = ROOT.parent / "shared" / "cases" / "dicom" / "label_nan"
LEVELS = {"bone_intensity": 30000, "background_intensity": 10000}
BAD = {"NaN inside": ((2, 20, 20), np.nan), "NaN at a corner": ((0, 0, 0), np.nan), "infinite": ((2, 20, 20), np.inf)}


def spoilt(path: Path, place: tuple[int, int, int], value: float) -> Path:
    """A scan of floating point values with one that is none."""
    voxels = make_voxels((6, 40, 48)).astype(np.float32)
    voxels[place] = value
    if path.suffix == ".nrrd":
        image = itk.image_from_array(voxels)
        image.SetSpacing([0.005] * 3)
        itk.imwrite(image, str(path))
    else:
        write_scan(path, voxels)
    return path


@pytest.fixture(scope="module")
def transforms(tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """What ``configs/series.json`` does to a scan before it is stained."""
    bundle = make_bundle(tmp_path_factory.mktemp("transforms") / "bundle")
    parser = ConfigParser()
    parser.read_config([str(bundle / "configs" / name) for name in ("inference.json", "series.json")])
    parser.update({"bundle_root": str(bundle), "device": "cpu", **LEVELS})
    return parser.get_parsed_content("preprocessing")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd"])
@pytest.mark.parametrize(("place", "value"), BAD.values(), ids=list(BAD))
def test_the_config_of_monai_s_own_parts_refuses_it(
    transforms: Callable, place: tuple[int, int, int], value: float, suffix: str, tmp_path: Path
) -> None:
    good = spoilt(tmp_path / f"good{suffix}", place, 20000.0)
    assert np.isfinite(transforms({"image": str(good)})["image"]).all()
    with pytest.raises(RuntimeError) as fault:
        transforms({"image": str(spoilt(tmp_path / f"bad{suffix}", place, value))})
    assert "must not contain infs or NaNs" in str(fault.value.__cause__)


@pytest.mark.skipif(not CASES.is_dir(), reason="NOT TESTED: ../shared is not here")
def test_the_scan_as_it_was_met(transforms: Callable) -> None:
    assert np.isfinite(transforms({"image": str(CASES / "full.nii.gz")})["image"]).all()
    with pytest.raises(RuntimeError):
        transforms({"image": str(CASES / "nan_outside_circle.nii.gz")})


def test_the_config_for_volumes_refuses_it_in_a_line(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    bad = spoilt(tmp_path / "bad.nii.gz", (2, 20, 20), np.nan)
    with pytest.raises(InputError, match=r"slice 2, has 1 NaN or infinite pixels; fill or crop them\."):
        stain(bundle, bad, tmp_path / "out", **LEVELS)
