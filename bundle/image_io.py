"""Reading and writing single slides: 8-, 16-bit and float PNG, TIFF, NRRD and NIfTI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import itk
import numpy as np
import tifffile
from PIL import Image

from bundle.atomic import whole_file
from bundle.errors import InputError

TIFF = (".tif", ".tiff")
SUFFIXES = (".png", *TIFF, ".nrrd", ".nii", ".nii.gz")
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
        pixels, pixel_um = _read_tiff(path) if suffix in TIFF else _read_itk(path)
    except InputError:
        raise
    except Exception as error:  # readers raise a dozen kinds for a broken file: zlib, struct, ITK's RuntimeError …
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
    if axes == "YX":
        pixels = pixels[None]
    elif axes == "YXS":
        pixels = pixels.transpose(2, 0, 1)
    per_um = UM_PER_TIFF_UNIT.get(int(unit))
    pixel_um = per_um * resolution[1] / resolution[0] if per_um and resolution[0] else None
    return pixels, pixel_um


def _read_itk(path: Path) -> tuple[np.ndarray, float | None]:
    image = itk.imread(str(path))
    pixels = itk.array_from_image(image)
    channels = image.GetNumberOfComponentsPerPixel()
    spatial = pixels.shape[:-1] if channels > 1 else pixels.shape
    plane = [size for size in spatial if size > 1]
    if len(plane) != 2:
        raise InputError(f"{path} has shape {spatial}; a slide is one 2D image.")
    pixels = pixels.reshape(*plane, channels).transpose(2, 0, 1)
    if path.suffix.lower() == ".png":
        return pixels, _png_pixel_um(path)
    spacing_um = 1000.0 * float(image.GetSpacing()[0])  # ITK's unit is the millimetre
    return pixels, spacing_um if spacing_um != 1000.0 else None  # 1 is what a header without a spacing gives


def _png_pixel_um(path: Path) -> float | None:
    with Image.open(path) as image:
        dpi = image.info.get("dpi")
    return UM_PER_INCH / dpi[0] if dpi and dpi[0] else None


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
