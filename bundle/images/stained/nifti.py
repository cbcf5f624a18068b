"""A stained volume as one uncompressed NIfTI-1, RGB24 or RGBA32, with all of the geometry."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from bundle.common.errors import InputError
from bundle.images.stained.flat import Flat
from bundle.images.stained.formats import FORMATS, register
from bundle.images.stained.spec import StainSpec
from bundle.images.volumes.readers.headers import RAS_TO_LPS

LONGEST = 32767  # a NIfTI-1 keeps sizes in 16 bits
COMMENT = 6  # code of a NIfTI extension that holds text


def nifti_header(spec: StainSpec) -> bytes:
    """A NIfTI-1 header in mm with the stamp as an extension.

    Raises:
        InputError: if an axis is longer than the format can say.
    """
    if max(spec.shape) > LONGEST:
        found = "×".join(map(str, spec.shape))
        others = " or ".join(name for name in sorted(FORMATS) if name != "nii")
        raise InputError(f"NIfTI holds at most {LONGEST} voxels along an axis, not {found}; write {others}.")
    header: Any = nibabel.Nifti1Header(endianness="<")
    colours = [(name, np.uint8) for name in "RGBA"[: spec.channels]]
    header.set_data_dtype(np.dtype(colours))
    header.set_data_shape(spec.shape[::-1])
    affine = np.eye(4)
    steps_mm = np.asarray(spec.geometry.spacing_um[::-1]) / 1000.0
    affine[:3, :3] = RAS_TO_LPS @ spec.geometry.direction @ np.diag(steps_mm)
    affine[:3, 3] = RAS_TO_LPS @ np.asarray(spec.geometry.origin_mm)
    header.set_sform(affine, 1)
    header.set_qform(affine, 1)
    header.set_xyzt_units("mm")
    header["descrip"] = b"virtual stain, research only"
    header["magic"] = b"n+1"
    text = json.dumps(spec.stamp(), default=str).encode("utf-8")
    length = -(-(8 + len(text)) // 16) * 16
    extension = struct.pack("<ii", length, COMMENT) + text.ljust(length - 8, b"\0")
    header["vox_offset"] = 352 + length
    return header.binaryblock + b"\1\0\0\0" + extension


def read_nifti_header(path: Path) -> tuple[dict[str, Any], tuple[int, int, int], int, int]:
    """The stamp, shape (Z, Y, X), channels and first byte of the voxels of a NIfTI."""
    image: Any = nibabel.Nifti1Image.from_filename(path)
    x, y, z = image.shape
    texts = [each.get_content() for each in image.header.extensions if each.get_code() == COMMENT]
    text = texts[0] if texts else b"{}"
    stamp = json.loads((text.decode("utf-8") if isinstance(text, bytes) else text).rstrip("\0"))
    return stamp, (z, y, x), len(image.get_data_dtype().names or "1"), image.dataobj.offset


register(Flat("nii", "stained.nii", "NIfTI", (".nii",), nifti_header, read_nifti_header))
