"""Colour volumes as files that other programs read as colour: NIfTI RGB24, NRRD ``RGB-color``."""

from __future__ import annotations

from pathlib import Path

import nibabel
import nrrd
import numpy as np

RGB24 = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
SYNTHETIC = "SYNTHETIC virtual stain - research only"
SCANNER = 1  # of NIfTI: the axes are those of the scan
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # from NIfTI's right-anterior-superior to DICOM's and NRRD's


def write_nifti(path: Path, colour: np.ndarray, affine: np.ndarray) -> None:
    """Write NIfTI-1 of data type RGB24.

    Args:
        path: ends in ``.nii.gz`` or ``.nii``.
        colour: (3, X, Y, Z) uint8.
        affine: (4, 4), from voxels to mm, RAS.
    """
    voxels = np.ascontiguousarray(np.moveaxis(colour, 0, -1)).view(RGB24)[..., 0]
    image = nibabel.Nifti1Image(voxels, affine)
    image.set_sform(affine, SCANNER)
    image.set_qform(affine, SCANNER)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = SYNTHETIC
    nibabel.save(image, path)


def write_nrrd(path: Path, colour: np.ndarray, affine: np.ndarray) -> None:
    """Write NRRD whose first axis is of kind ``RGB-color``, as 3D Slicer and ITK write it.

    Args:
        path: ends in ``.nrrd``.
        colour: (3, X, Y, Z) uint8.
        affine: (4, 4), from voxels to mm, RAS.
    """
    to_mm = LPS @ affine
    header = {
        "space": "left-posterior-superior",
        "kinds": ["RGB-color", "domain", "domain", "domain"],
        "space directions": np.vstack([np.full(3, np.nan), to_mm[:3, :3].T]),
        "space origin": to_mm[:3, 3],
        "encoding": "gzip",
        "content": SYNTHETIC,
    }
    nrrd.write(str(path), colour, header, index_order="F", compression_level=1)


def write_grey(path: Path, grey: np.ndarray, affine: np.ndarray) -> None:
    """Write a scan as NRRD, uncompressed and with positions in double precision, which NIfTI rounds.

    Args:
        path: ends in ``.nrrd``.
        grey: (Z, Y, X).
        affine: (4, 4), from voxels (x, y, z) to mm, LPS.
    """
    header = {
        "space": "left-posterior-superior",
        "kinds": ["domain"] * 3,
        "space directions": affine[:3, :3].T,
        "space origin": affine[:3, 3],
        "encoding": "raw",
    }
    nrrd.write(str(path), grey.T, header, index_order="F")


WRITERS = {".nii.gz": write_nifti, ".nrrd": write_nrrd}
