"""Whole slides to stain, and staining them as a user does it, but without starting Python anew each time."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import skimage.data
import tifffile
import torch

from bundle.images.stained_slides.pyramid import Pyramid
from bundle.images.stained_slides.spec import SlideSpec
from bundle.networks import ResnetGenerator
from tests.conftest import ROOT
from tests.helpers.volumes import stain

WINDOWS = {"window": 64, "step": 32}
NO_LEVELS = {"bone_intensity": None, "background_intensity": None}


def tissue(height: int = 200, width: int = 300, left: int = 100, right: int = 0) -> np.ndarray:
    """A section between white glass, (H, W, 3), uint8: in rows 30 to −20, columns ``left`` to −``right``."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    section = np.tile(skimage.data.immunohistochemistry()[100:], (1, 2, 1))
    pixels[30 : height - 20, left : width - right] = section[: height - 50, : width - left - right]
    return pixels


def write_slide(path: Path, pixels: np.ndarray, pixel_um: float | None = 0.5, **options) -> Path:
    """Write (H, W, 3) or (C, H, W) as a tiled TIFF."""
    size = {} if pixel_um is None else {"resolution": (1e4 / pixel_um,) * 2, "resolutionunit": 3}
    kind = "rgb" if pixels.shape[-1] == 3 else "minisblack"
    tifffile.imwrite(path, pixels, photometric=kind, tile=(64, 64), compression="zlib", **size, **options)
    return path


def make_bundle(folder: Path, source: dict, target: dict, pixel_um: float | None = 0.5, **ids) -> Path:
    """A trained bundle with the smallest networks of random weights, there and back."""
    config = json.loads((ROOT / "configs" / "inference.json").read_text(encoding="utf-8"))
    size = {"width": 4, "blocks": 1, "upsampling": "nearest"}
    ways = [side["channels"] for side in (source, target)]
    inputs, outputs = (f"${one} if @forward else {other}" for one, other in (ways, ways[::-1]))
    network = {"_target_": "bundle.networks.ResnetGenerator", "in_channels": inputs, "out_channels": outputs, **size}
    config |= {"source": source | NO_LEVELS, "target": target | NO_LEVELS, **NO_LEVELS, **WINDOWS, **ids}
    (folder / "models").mkdir(parents=True)
    (folder / "configs").mkdir()
    (folder / "configs" / "inference.json").write_text(json.dumps(config | {"network_def": network}))
    (folder / "configs" / "metadata.json").write_text(json.dumps({"pixel_um": pixel_um}))
    (folder / "configs" / "logging.conf").write_text((ROOT / "configs" / "logging.conf").read_text())
    torch.manual_seed(0)
    for name, (one, other) in (("models/model.pt", ways), ("reverse.pt", ways[::-1])):
        torch.save(ResnetGenerator(one, other, **size).state_dict(), folder / name)
    return folder


HE = {"name": "H&E", "channels": 3, "range": [0, 255]}
KI67 = {"name": "Ki-67", "channels": 3, "range": [0, 255]}
IF = {"name": "IF", "channels": 2, "range": [0, 4095], "channel_names": ["DAPI", "CD3"]}


SMALL = {  # blocks of 128 px, three a strip, and tiles of 32 px, so that a small slide has several of each
    "bundle.images.stained_slides.pyramid.TILE": 32,
    "bundle.images.stained_slides.tiff.TILE": 32,
    "bundle.images.stained_slides.sharded.TILE": 32,
    "bundle.images.stained_slides.spec.SMALL": 32,
    "bundle.staining.whole_slides.outcome.TILE": 32,
    "bundle.staining.whole_slides.blocks.BLOCK": 128,
    "bundle.staining.whole_slides.blocks.STRIP": 3,
}


def make_blocks_small() -> None:
    """For the whole of a process; the fixture ``small_blocks`` does it for a test."""
    for name, value in SMALL.items():
        module, _, attribute = name.rpartition(".")
        setattr(importlib.import_module(module), attribute, value)


def stain_slide(bundle: Path, slide: Path, folder: Path, **ids) -> Pyramid:
    """Run ``configs/slide.json``, by default into OME-Zarr without a page; the result.

    Raises:
        InputError: what a user would read.
    """
    given = {"output_format": "ome-zarr", "viewer": False, **ids}
    stain(bundle, slide, folder, "slide.json", **given)
    return read_pyramid(folder / "stained.ome.zarr") if given["output_format"] == "ome-zarr" else None


def read_pyramid(folder: str | Path) -> Pyramid:
    """A finished stain in OME-Zarr, opened again."""
    path = Path(folder)
    told = json.loads((path / ".zattrs").read_text(encoding="utf-8"))
    array = json.loads((path / "0" / ".zarray").read_text(encoding="utf-8"))
    stamp, omero = told["virtual_staining"], told["omero"]
    names = tuple(each["label"] for each in omero["channels"])
    window = omero["channels"][0]["window"]
    spec = SlideSpec(
        omero["name"],
        tuple(array["shape"][1:]),
        np.dtype(array["dtype"]),
        stamp["pixel_um"],
        names,
        bool(stamp["rgb"]),
        tuple(stamp["background"]),
        (window["start"], window["end"]),
        stamp["about"],
    )
    return Pyramid(path, spec)


def whole(pyramid: Pyramid, level: int = 0) -> np.ndarray:
    """A level, (H, W, C)."""
    height, width = pyramid.spec.levels[level]
    return pyramid.read(level, slice(0, height), slice(0, width))


def record_of(folder: Path) -> dict:
    """What is said of a stained slide."""
    return json.loads((folder / "slide.json").read_text(encoding="utf-8"))
