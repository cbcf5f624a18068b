"""What ``scripts.pacs`` makes of a folder with the bundle's own engine, and what it records of how."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bundle.common.errors import InputError
from bundle.common.trained_bundle import read_stock_config, stock_settings
from bundle.hospital.pacs.staining import Wanted, stain_folder
from bundle.staining.job import RECORD
from tests.helpers.firm import make_firm
from tests.helpers.volumes import result
from tests.hospital.deploy_parts import LEVELS, make_bundle, plain_inference
from tests.hospital.pacs_parts import make_ct


@pytest.fixture
def asked(trained: Path, tmp_path: Path) -> Wanted:
    """A stain by a bundle in which one section decides."""
    firm = make_firm(make_bundle(trained, tmp_path / "bundle"), tmp_path / "firm")
    return Wanted(firm, LEVELS["bone_intensity"], LEVELS["background_intensity"], "stock")


@pytest.mark.slow
def test_one_section_decides_as_with_monai_s_own_parts(asked: Wanted, tmp_path: Path) -> None:
    scan, out = tmp_path / "ct", tmp_path / "out"
    make_ct(scan)
    stain_folder(asked, scan, out, lambda: None)
    truth = plain_inference(asked.bundle_root, scan, tmp_path / "truth")
    apart = np.abs(result(out).astype(int) - truth)
    assert apart.max() <= 1
    assert (apart > 0).mean() < 1e-3
    assert "distance" in json.loads((out / RECORD).read_text())["reference"]
    (asked.bundle_root / "models" / "sections.npz").write_bytes(b"none")
    with pytest.raises(InputError, match=r"^\S+sections.npz holds no statistics [^\n]*from the run again.$"):
        stain_folder(asked, scan, tmp_path / "broken", lambda: None)


def test_its_identity_is_that_of_no_other_way_to_stain(asked: Wanted) -> None:
    settings = asked.settings()
    assert (settings["normalisation"], settings["speed"]) == ("specimen", "stock")
    assert (settings["window"], settings["step"]) == (None, None)  # they make no difference
    by_monai = stock_settings(read_stock_config(asked.bundle_root), asked.bone_intensity, asked.background_intensity)
    assert by_monai == settings | {"parts": "MONAI"}
