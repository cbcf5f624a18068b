"""Reading and writing single slides: 8-, 16-bit and float PNG, TIFF, NRRD and NIfTI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel
import nrrd
import numpy as np
import tifffile
from PIL import Image

from bundle.atomic import whole_file
from bundle.errors import InputError

TIFF = (".tif", ".tiff")
NIFTI = (".nii", ".nii.gz")
SUFFIXES = (".png", *TIFF, ".nrrd", *NIFTI)
UM_PER_INCH = 25400.0
UM_PER_TIFF_UNIT = {2: UM_PER_INCH, 3: 10000.0}


@dataclass(frozen=True)
class Slide:
    """One 2D image as it lies in its file.

    Attributes:
        pixels: (C, H, W), the file's own type and values.
        pixel_um: pixel size in µm if the file states one, else None.
    """

    pixels: np.ndarray
    pixel_um: float | None


def suffix_of(path: Path) -> str:
    """The image suffix of a path in lower case, ``.nii.gz`` as one; empty if it is none of ``SUFFIXES``."""
    name = path.name.lower()
    return max((suffix for suffix in SUFFIXES if name.endswith(suffix)), key=len, default="")


def read_slide(path: Path) -> Slide:
    """Read one 2D image, grey or with channels.

    Args:
        path: a PNG, TIFF, NRRD or NIfTI file.

    Returns:
        The pixels, channel first, rows then columns, and the pixel size if the file states one.

    Raises:
        InputError: if the file is missing, of another kind, truncated or corrupt, or not 2D.
    """
    suffix = suffix_of(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist.")
    if not suffix:
        raise InputError(f"{path} is not an image this program reads ({', '.join(SUFFIXES)}).")
    try:
        pixels, pixel_um = READERS[suffix](path)
    except InputError:
        raise
    except Exception as error:  # readers raise a dozen kinds for a broken file: zlib, struct, codecs …
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise InputError(f"{path} cannot be read, it may be truncated or corrupt: {reason}") from error
    return Slide(np.ascontiguousarray(pixels), pixel_um)


def _read_tiff(path: Path) -> tuple[np.ndarray, float | None]:
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        pixels, axes = series.asarray(), series.axes
        tags = file.pages.first.tags
        unit = tags["ResolutionUnit"].value if "ResolutionUnit" in tags else 1
        resolution = tags["XResolution"].value if "XResolution" in tags else (0, 1)
    if len(file.series) > 1 or axes not in ("YX", "YXS", "SYX", "CYX"):
        raise InputError(f"{path} holds axes {axes} of shape {pixels.shape}; a slide is one 2D image.")
    if axes in ("YX", "YXS"):
        pixels = _channel_first(pixels)
    per_um = UM_PER_TIFF_UNIT.get(int(unit))
    if per_um is None or resolution[0] in (0, resolution[1]):  # 1/1 is what writers put when they know none
        return pixels, None
    return pixels, per_um * resolution[1] / resolution[0]


def _read_png(path: Path) -> tuple[np.ndarray, float | None]:
    pixels = imagecodecs.png_decode(path.read_bytes())  # PIL would cut 16-bit colour to 8 bits
    with Image.open(path) as image:
        dpi = image.info.get("dpi")
    return _channel_first(pixels), UM_PER_INCH / dpi[0] if dpi and dpi[0] else None


def _read_nrrd(path: Path) -> tuple[np.ndarray, float | None]:
    pixels, header = nrrd.read(str(path), index_order="C")
    colour = header.get("kinds", ["domain"])[0] not in ("domain", "space")  # the fastest axis holds the channels
    directions = np.asarray(header.get("space directions", np.empty((0, 0))), float)
    spacings = np.linalg.norm(directions[np.isfinite(directions).all(axis=1)], axis=1)
    return _plane(path, pixels, colour, spacings[::-1])


def _read_nifti(path: Path) -> tuple[np.ndarray, float | None]:
    image: Any = nibabel.load(path)
    pixels = np.asarray(image.dataobj)
    if pixels.dtype.names:  # RGB24
        pixels = np.stack([pixels[name] for name in pixels.dtype.names], axis=-1)
    colour = bool(image.get_data_dtype().names) or image.ndim == 5  # the fifth axis of a NIfTI is a vector
    known = image.header.get_xyzt_units()[0] == "mm"
    return _plane(path, pixels.swapaxes(0, 1), colour, image.header.get_zooms()[1::-1] if known else ())


def _plane(path: Path, pixels: np.ndarray, colour: bool, spacings: Sequence[float]) -> tuple[np.ndarray, float | None]:
    """Take the one plane of an array (rows, columns, …, channels if ``colour``), and its row spacing from mm to µm."""
    spatial = pixels.shape[:-1] if colour else pixels.shape
    sides = [size for size in spatial if size > 1]
    if len(sides) != 2:
        raise InputError(f"{path} has shape {spatial}; a slide is one 2D image.")
    channels = pixels.shape[len(spatial) :]
    mm = [spacing for spacing, size in zip(spacings, spatial, strict=False) if size > 1]
    stated = len(mm) > 0 and mm[0] not in (0, 1)  # 1 mm is what a header without a spacing gives
    return _channel_first(pixels.reshape(*sides, *channels)), 1000.0 * float(mm[0]) if stated else None


def _channel_first(pixels: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, C) → (C, H, W)."""
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


READERS: dict[str, Callable[[Path], tuple[np.ndarray, float | None]]] = {
    ".png": _read_png,
    ".nrrd": _read_nrrd,
    **dict.fromkeys(TIFF, _read_tiff),
    **dict.fromkeys(NIFTI, _read_nifti),
}


def read_mask(path: Path) -> np.ndarray:
    """Read a mask: where it is not 0, source and target may be compared.

    Returns:
        (H, W), bool.

    Raises:
        InputError: if it cannot be read, has more than one channel, or is empty.
    """
    pixels = read_slide(path).pixels
    if len(pixels) != 1:
        raise InputError(f"{path} has {len(pixels)} channels; a mask has one, 0 where nothing may be compared.")
    mask = pixels[0] != 0
    if not mask.any():
        raise InputError(f"{path} is empty: every pixel is 0, so nothing may be compared; leave it out or draw it.")
    return mask


def read_labels(path: Path) -> np.ndarray:
    """Read a label image: which tissue each pixel shows.

    Returns:
        (H, W), uint8.

    Raises:
        InputError: if it cannot be read, has more than one channel, or other values than 0 to 255.
    """
    pixels = read_slide(path).pixels
    if len(pixels) != 1 or not np.array_equal(pixels, pixels.astype(np.uint8)):
        raise InputError(f"{path} is {len(pixels)} channel(s) of {pixels.dtype}; labels are one, of whole 0 to 255.")
    return pixels[0].astype(np.uint8)


def write_slide(path: Path, pixels: np.ndarray, pixel_um: float | None = None) -> None:
    """Write a grey or RGB image as PNG or TIFF, whole or not at all.

    Args:
        path: the file to make; ``.png``, ``.tif`` or ``.tiff``.
        pixels: (1 or 3, H, W), uint8 or uint16; 16 bit for one channel only.
        pixel_um: pixel size in µm for the file's resolution tags; none are written for None.
    """
    image = pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    with whole_file(path) as partial:
        if path.suffix.lower() in TIFF:
            resolution: dict[str, Any] = (
                {} if pixel_um is None else {"resolution": (1e4 / pixel_um,) * 2, "resolutionunit": 3}
            )
            photometric = "minisblack" if len(pixels) == 1 else "rgb"
            tifffile.imwrite(partial, image, photometric=photometric, compression="zlib", **resolution)
        else:
            dpi: dict[str, Any] = {} if pixel_um is None else {"dpi": (UM_PER_INCH / pixel_um,) * 2}
            Image.fromarray(image).save(partial, **dpi)


def to_8bit(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map the declared range [low, high] to 0–255, rounded and clipped.

    Args:
        pixels: any shape, in the units of the range.
        low: the value that becomes 0.
        high: the value that becomes 255.

    Returns:
        uint8 of the same shape.
    """
    scaled = (pixels.astype(np.float64) - low) * (255.0 / (high - low))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
