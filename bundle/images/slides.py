"""Reading and writing single slides: 8-, 16-bit and float PNG, TIFF, NRRD and NIfTI."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from bundle.common.atomic import whole_file
from bundle.common.errors import InputError
from bundle.common.network_faults import network_fault
from bundle.images import png
from bundle.images.finite import nan_faults
from bundle.images.pixel_size import side_of, tiff_voxel_um
from bundle.images.tiff import PHOTOMETRIC, meaning_of, orientation_of
from bundle.images.turning import turned

TIFF = (".tif", ".tiff")
TIFF_AXES = ("YX", "YXS", "SYX", "CYX")  # of one image
PAGES = ("IYX", "QYX")  # grey pages of which the file does not say what they are: channels
NIFTI = (".nii", ".nii.gz")
REAL = "buif"  # kinds of NumPy's types: yes and no, whole, real
SUFFIXES = (".png", *TIFF, ".nrrd", *NIFTI)
ONE_IMAGE = "a slide is one 2D image; volumes go through configs/volume.json."


@dataclass(frozen=True)
class Slide:
    """One 2D image as it lies in its file.

    Attributes:
        pixels: (C, H, W), the file's own values where no tag says what else they mean; an alpha that hides
            something is the last channel.
        pixel_um: pixel size in µm if the file states one, else None.
    """

    pixels: np.ndarray
    pixel_um: float | None


def suffix_of(path: Path) -> str:
    """The image suffix of a path in lower case, ``.nii.gz`` as one; empty if it is none of ``SUFFIXES``."""
    name = path.name.lower()
    return max((suffix for suffix in SUFFIXES if name.endswith(suffix)), key=len, default="")


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn what a reader raises for a broken file into one :class:`InputError` that begins with ``what``."""
    try:
        yield
    except (InputError, ModuleNotFoundError):
        raise
    except Exception as error:  # readers raise a dozen kinds for a broken file: zlib, struct, codecs …
        if "://" in what and (fault := network_fault(error, what)):
            raise fault from None
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise InputError(f"{what} cannot be read, it may be truncated or corrupt: {reason}") from error


def read_slide(path: str | Path) -> Slide:
    """Read one 2D image, grey or with channels, as its file says it is to be seen (docs/formats.md).

    Args:
        path: a PNG, TIFF, NRRD or NIfTI file.

    Returns:
        The pixels, channel first, rows then columns, and the pixel size if the file states one.

    Raises:
        InputError: if the file is missing, of another kind, truncated or corrupt, or not 2D.
    """
    path = Path(path)
    suffix = suffix_of(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist.")
    if not suffix:
        raise InputError(f"{path} is not an image this program reads ({', '.join(SUFFIXES)}).")
    with reading(str(path)):
        pixels, pixel_um = READERS[suffix](path)
    if pixels.dtype.kind not in REAL:
        raise InputError(f"{path} holds {pixels.dtype} values; an image holds whole or real numbers: save it as such.")
    return Slide(np.ascontiguousarray(pixels), pixel_um)


def _read_tiff(path: Path) -> tuple[np.ndarray, float | None]:
    with _one_tiff(path) as (file, series):
        meaning = meaning_of(path, file)
        pixels = turned(meaning.read(interleaved(series.asarray(), series.axes)), meaning.orientation)
        voxel_um = tiff_voxel_um(file)
    if meaning.alpha and (pixels[..., -1] == np.iinfo(pixels.dtype).max).all():
        pixels = pixels[..., :-1]
    return _channel_first(pixels), voxel_um and side_of(path, *voxel_um[1:])


@contextmanager
def _one_tiff(path: Path) -> Iterator[tuple[tifffile.TiffFile, Any]]:
    """A TIFF and its one image."""
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        if len(file.series) > 1 or series.axes not in (*TIFF_AXES, *PAGES):
            way = " As channels, save them with the axis C, or as plain pages." if series.axes == "ZYX" else ""
            raise InputError(f"{path} holds axes {series.axes} of shape {series.shape}; {ONE_IMAGE}{way}")
        if len({orientation_of(path, page) for page in series.pages if isinstance(page, tifffile.TiffPage)}) > 1:
            raise InputError(f"{path} has pages of different Orientation; save them again, upright.")
        yield file, series


def interleaved(stored: np.ndarray, axes: str) -> np.ndarray:
    """The samples of a TIFF's image, axes one of ``TIFF_AXES``, as (rows, columns, samples)."""
    return stored[..., None] if axes == "YX" else stored if axes == "YXS" else np.moveaxis(stored, 0, -1)


def _read_png(path: Path) -> tuple[np.ndarray, float | None]:
    content = path.read_bytes()
    header = png.header_of(content)
    pixels = turned(png.decoded(content, header), header.orientation)
    return _channel_first(pixels), header.pixel_um and side_of(path, *header.pixel_um)


def _read_nrrd(path: Path) -> tuple[np.ndarray, float | None]:
    import nrrd  # here and below, as not every slide needs it

    pixels, header = nrrd.read(str(path), index_order="C")
    colour = header.get("kinds", ["domain"])[0] not in ("domain", "space")  # the fastest axis holds the channels
    directions = np.asarray(header.get("space directions", np.empty((0, 0))), float)
    spacings = np.linalg.norm(directions[np.isfinite(directions).all(axis=1)], axis=1)
    return _plane(path, pixels, colour, spacings[::-1])


def _read_nifti(path: Path) -> tuple[np.ndarray, float | None]:
    import nibabel

    image: Any = nibabel.load(path)
    pixels = np.asarray(image.dataobj)
    if pixels.dtype.names:  # RGB24
        pixels = np.stack([pixels[name] for name in pixels.dtype.names], axis=-1)
    colour = bool(image.get_data_dtype().names) or image.ndim == 5  # the fifth axis of a NIfTI is a vector
    known = image.header.get_xyzt_units()[0] == "mm"
    return _plane(path, pixels.swapaxes(0, 1), colour, image.header.get_zooms()[1::-1] if known else ())


def _plane(path: Path, pixels: np.ndarray, colour: bool, spacings: Sequence[float]) -> tuple[np.ndarray, float | None]:
    """Take the one plane of an array (rows, columns, …, channels if ``colour``), and its spacing from mm to µm."""
    spatial = pixels.shape[:-1] if colour else pixels.shape
    sides = [size for size in spatial if size > 1]
    if len(sides) != 2:
        raise InputError(f"{path} has shape {spatial}; {ONE_IMAGE}")
    channels = pixels.shape[len(spatial) :]
    mm = [spacing for spacing, size in zip(spacings, spatial, strict=False) if size > 1]
    um = [1000.0 * float(spacing) for spacing in mm[:2] if spacing not in (0, 1)]  # 1 mm is what no spacing gives
    return _channel_first(pixels.reshape(*sides, *channels)), side_of(path, um[0], um[1]) if len(um) == 2 else None


def _channel_first(pixels: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, C) → (C, H, W)."""
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


READERS: dict[str, Callable[[Path], tuple[np.ndarray, float | None]]] = {
    ".png": _read_png,
    ".nrrd": _read_nrrd,
    **dict.fromkeys(TIFF, _read_tiff),
    **dict.fromkeys(NIFTI, _read_nifti),
}


def read_indices(path: str | Path) -> np.ndarray:
    """Read one number a pixel as it is stored: that of a palette's entry, not its colour; 3 of 4 bits is 3.

    Returns:
        (H, W), the file's own type.

    Raises:
        InputError: if it cannot be read, has several channels, or is WhiteIsZero.
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() in (".png", *TIFF):
        with reading(str(path)):
            return _png_indices(path) if path.suffix.lower() == ".png" else _tiff_indices(path)
    pixels = read_slide(path).pixels
    if len(pixels) != 1:
        raise InputError(f"{path} has {len(pixels)} channels; labels are one number a pixel.")
    return pixels[0]


def _png_indices(path: Path) -> np.ndarray:
    content = path.read_bytes()
    header = png.header_of(content)
    found = png.indices(content, header)
    if found is None:
        raise InputError(f"{path} is in colour or has transparency; labels are one number a pixel.")
    return turned(found, header.orientation)


def _tiff_indices(path: Path) -> np.ndarray:
    with _one_tiff(path) as (_, series):
        page = series.keyframe
        if series.axes != "YX" or page.photometric not in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.PALETTE):
            raise InputError(
                f"{path} is {page.photometric.name} with axes {series.axes}; labels are one number a pixel, 0 for "
                "black (BlackIsZero) or with a colour map."
            )
        return turned(series.asarray(), orientation_of(path, page))


def read_mask(path: str | Path) -> np.ndarray:
    """Read a mask: where it is not 0, source and target may be compared.

    Returns:
        (H, W), bool.

    Raises:
        InputError: if it cannot be read, has more than one channel or NaN, or is empty.
    """
    pixels = read_slide(path).pixels
    if len(pixels) != 1:
        raise InputError(f"{path} has {len(pixels)} channels; a mask has one, 0 where nothing may be compared.")
    if bad := nan_faults(str(path), pixels, "a mask is 0 where nothing may be compared"):
        raise InputError(bad[0])
    mask = pixels[0] != 0
    if not mask.any():
        raise InputError(f"{path} is empty: every pixel is 0, so nothing may be compared; leave it out or draw it.")
    return mask


def read_labels(path: str | Path) -> np.ndarray:
    """Read a label image: which tissue each pixel shows.

    Returns:
        (H, W), uint8.

    Raises:
        InputError: if it cannot be read, has more than one channel, or other values than 0 to 255.
    """
    pixels = read_indices(path)
    if not np.array_equal(pixels, pixels.astype(np.uint8)):
        raise InputError(f"{path} is of {pixels.dtype}, up to {pixels.max()}; labels are whole numbers from 0 to 255.")
    return pixels.astype(np.uint8)


def write_slide(path: Path, pixels: np.ndarray, pixel_um: float | None = None, description: str | None = None) -> None:
    """Write an image as PNG or TIFF, whole or not at all.

    Args:
        path: the file to make; ``.png``, ``.tif`` or ``.tiff``.
        pixels: (C, H, W), uint8 or uint16, in TIFF also float32; three channels are RGB; other numbers than 1 and 3
            go into TIFF alone, as one page a channel.
        pixel_um: pixel size in µm for the file's resolution tags; none are written for None.
        description: what a TIFF of 1 or 3 channels says of itself, ASCII; None leaves that to the library.

    Raises:
        InputError: if the format cannot hold so many channels.
    """
    if len(pixels) not in (1, 3):
        _write_channels(path, pixels, pixel_um)
        return
    image = pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    with whole_file(path) as partial:
        if path.suffix.lower() in TIFF:
            photometric = "minisblack" if len(pixels) == 1 else "rgb"
            about: dict[str, Any] = {"photometric": photometric, "description": description, **_resolution(pixel_um)}
            tifffile.imwrite(partial, image, compression="zlib", **about)
        else:
            partial.write_bytes(png.encoded(image, pixel_um))


def _write_channels(path: Path, pixels: np.ndarray, pixel_um: float | None) -> None:
    """Write (C, H, W) as a TIFF that says so."""
    if path.suffix.lower() not in TIFF:
        raise InputError(f"{path}: {path.suffix} holds 1 or 3 channels, not {len(pixels)}; write a .tif.")
    with whole_file(path) as partial:
        about: dict[str, Any] = {"photometric": "minisblack", "metadata": {"axes": "CYX"}, "compression": "zlib"}
        tifffile.imwrite(partial, pixels, **about, **_resolution(pixel_um))


def _resolution(pixel_um: float | None) -> dict[str, Any]:
    """Arguments of ``tifffile.imwrite`` for a pixel size; none if it is not known."""
    return {} if pixel_um is None else {"resolution": (1e4 / pixel_um,) * 2, "resolutionunit": 3}


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
