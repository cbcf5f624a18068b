"""Kills at any moment cost nothing but the slice or the block in hand."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from bundle.staining.job import WORK
from tests.helpers.killing import Killing
from tests.helpers.slide_staining import HE, KI67, make_blocks_small, make_bundle, stain_slide, tissue, write_slide
from tests.helpers.volumes import files_of, make_voxels, stain, write_scan


@pytest.mark.parametrize(
    ("kills", "ids"),
    [
        (5, {"axes": "zyx", "fusion": "median", "output_format": "tif"}),
        (5, {"window": 16, "step": 4}),
        (5, {"window": 16, "step": 4, "ngff": 0.5}),
        pytest.param(3, {"window": 16, "step": 4, "workers": 2}, marks=pytest.mark.slow),
        pytest.param(50, {"window": 16, "step": 4}, marks=pytest.mark.slow),
        pytest.param(50, {"axes": "zyx", "window": 16, "step": 8}, marks=pytest.mark.slow),
    ],
)
def test_a_volume_killed_again_and_again_ends_with_the_same_bytes(trained, tmp_path, kills, ids):
    scan = write_scan(tmp_path / "scan.nii.gz", make_voxels())
    modules = ("bundle.staining.command", "bundle.networks.accelerate")
    run = Killing(partial(stain, **ids), (trained / "bundle", scan), tmp_path, f"{WORK}/slices/*/*", modules)
    assert run.killed(kills) >= kills // 2
    name = "stained.ome.tif" if ids.get("output_format") == "tif" else "stained.ome.zarr"
    assert files_of(tmp_path / "whole" / name) == files_of(tmp_path / "killed" / name)
    assert not (tmp_path / "killed" / WORK).exists()


def slide_in_small_blocks(bundle: Path, slide: Path, output_dir: Path) -> None:
    make_blocks_small()
    stain_slide(bundle, slide, output_dir, output_format="ome-tiff", viewer=True)


@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=pytest.mark.slow)])
def test_a_slide_killed_again_and_again_ends_with_the_same_bytes(tmp_path, kills):
    bundle = make_bundle(tmp_path / "bundle", HE, KI67, step=16)
    slide = write_slide(tmp_path / "slide.tif", tissue(260, 500, 30))
    modules = ("tests.helpers.slide_staining", "bundle.staining.whole_slides.job")
    run = Killing(slide_in_small_blocks, (bundle, slide), tmp_path, f"{WORK}/steps/stain-*", modules)
    assert run.killed(kills) >= kills // 4  # a busy machine is often done, or not begun, when it is to be killed
    for name in ("stained.ome.tif", "tiles"):
        assert files_of(tmp_path / "whole" / name) == files_of(tmp_path / "killed" / name)
    assert (tmp_path / "killed" / "report.html").is_file()
    assert not (tmp_path / "killed" / WORK).exists()
