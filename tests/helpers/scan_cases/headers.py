"""Scans with a header: NIfTI, NRRD, MetaImage, and what holds for any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import itk
import nibabel
import nrrd
import numpy as np
import zarr

from tests.helpers.scan_cases.case import GREY, SHAPE, SIGNED, VOXELS, Case, case, truth
from tests.helpers.scan_cases.stacks import tiff


def by_itk(path: Path) -> np.ndarray:
    return itk.array_from_image(itk.imread(str(path)))


def nifti(
    name: str = "s.nii", unit: str | None = "mm", voxels: np.ndarray = SIGNED, affine: Any = None, scl: Any = None
) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        place = np.diag([-0.005, -0.006, 0.007, 1.0]) if affine is None else np.asarray(affine, float)
        image = nibabel.Nifti1Image(voxels.T, place)
        image.header.set_xyzt_units(unit)
        if scl:
            image.header.set_slope_inter(*scl)
        nibabel.save(image, folder / name)
        return folder / name

    return write


def both_forms(folder: Path) -> Path:
    image = nibabel.Nifti1Image(VOXELS.astype(np.int16).T, None)
    image.header.set_xyzt_units("mm")
    image.set_qform(np.array([[-0.005, 0, 0, 1], [0, -0.006, 0, 2], [0, 0, 0.007, 3], [0, 0, 0, 1]]), 1)
    image.set_sform(np.array([[0.005, 0, 0, 7], [0, 0.006, 0, 8], [0, 0, 0.007, 9], [0, 0, 0, 1]]), 2)
    nibabel.save(image, folder / "s.nii")
    return folder / "s.nii"


def coloured_nifti(folder: Path) -> Path:
    colour = np.zeros(SHAPE[::-1], [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colour, np.eye(4)), folder / "s.nii")
    return folder / "s.nii"


# no unit: the header's numbers are whatever the voxel size given is
no_unit = nifti(unit=None, affine=[[7, 0, 0, 700], [0, 7, 0, 0], [0, 0, 7, -70], [0, 0, 0, 1]])
place_of_no_unit = (-0.7, 0.0, -0.07)


def huge(folder: Path) -> Path:
    zarr.open_array(folder / "s", mode="w", shape=(10**6,) * 3, chunks=(64,) * 3, dtype="u2")
    return folder / "s"


def deep(folder: Path) -> Path:
    zarr.open_array(folder / "s", mode="w", shape=(10**12, 1000, 1000), chunks=(64,) * 3, dtype="u2")
    return folder / "s"


case("any", "no voxel size", Case(nifti(unit=None)), Case(lambda f: tiff(f, VOXELS, **GREY)))
# two formats
case("any", "no voxel size, given with `--voxel_um`", Case(no_unit, truth, None, place_of_no_unit))
case("any", "more than 32 GB a slice or 1 PB in all", Case(huge), Case(deep))
case(
    "NIfTI",
    "`scl_slope` and `scl_inter`",
    Case(nifti(scl=(2.0, -100.0)), lambda path: np.asarray(nibabel.load(path).dataobj).T, (7, 6, 5)),
)
case(
    "NIfTI",
    "qform and sform",
    Case(both_forms, by_itk, (7, 6, 5), (-1.0, -2.0, 3.0)),
)
case(
    "NIfTI",
    "units of µm or m",
    Case(
        nifti(unit="micron", affine=[[-5, 0, 0, -1000], [0, -6, 0, 0], [0, 0, 7, 2000], [0, 0, 0, 1]]),
        truth,
        (7, 6, 5),
        (1, 0, 2),
    ),
    Case(nifti(unit="meter", affine=np.diag([-5e-6, -6e-6, 7e-6, 1])), truth, (7, 6, 5)),
)
case("NIfTI", "colour", Case(coloured_nifti))
case("NIfTI", "several volumes in one", Case(nifti(voxels=np.zeros((2, *SHAPE), np.int16))))
case(
    "NIfTI",
    "sheared axes",
    Case(nifti(affine=[[0.005, 0.002, 0, 0], [0, 0.006, 0, 0], [0, 0, 0.007, 0], [0] * 3 + [1]])),
)


def claiming(folder: Path) -> Path:
    path = nifti()(folder)
    content = bytearray(path.read_bytes())
    content[42:48] = np.array([32767] * 3, "<i2").tobytes()
    path.write_bytes(content)
    return path


case("NIfTI", "fewer voxels than its header says", Case(claiming))


def raw_nrrd(*lines: str, voxels: np.ndarray = VOXELS, sizes: str = "24 20 6") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        head = [
            "NRRD0004",
            "type: uint16",
            "dimension: 3",
            f"sizes: {sizes}",
            "endian: little",
            "encoding: raw",
            *lines,
        ]
        (folder / "s.nrrd").write_bytes("\n".join([*head, "", ""]).encode() + voxels.tobytes())
        return folder / "s.nrrd"

    return write


def text_nrrd(folder: Path) -> Path:
    nrrd.write(str(folder / "s.nrrd"), VOXELS.T, {"encoding": "ascii"})
    return folder / "s.nrrd"


SIZES = "spacings: 0.005 0.006 0.007"
DIRECTIONS = ("space: LPS", "space directions: (0.005,0,0) (0,0.006,0) (0,0,0.007)", "space origin: (1,-2,3)")
case("NRRD", "space directions and origin", Case(raw_nrrd(*DIRECTIONS), by_itk, (7, 6, 5), (1, -2, 3)))
case(
    "NRRD",
    "spacings and `axis mins`, cell or node centred",
    Case(raw_nrrd(SIZES, "axis mins: 1 2 3"), by_itk, (7, 6, 5), (1.0025, 2.003, 3.0035)),
    Case(raw_nrrd(SIZES, "axis mins: 1 2 3", "centerings: node node node"), by_itk, (7, 6, 5), (1, 2, 3)),
)
case("NRRD", "`axis mins` without spacings", Case(raw_nrrd("axis mins: 1 2 3", "axis maxs: 4 5 6")))
case(
    "NRRD",
    "units of µm",
    Case(raw_nrrd("spacings: 5 6 7", 'units: "um" "um" "um"', "axis mins: 10 20 30"), truth, (7, 6, 5),
         (0.0125, 0.023, 0.0335)),
)  # fmt: skip
case("NRRD", "an axis that is no place", Case(raw_nrrd(SIZES, "kinds: domain domain list")))
case("NRRD", "axes of several units", Case(raw_nrrd(*DIRECTIONS, 'space units: "mm" "um" "mm"')))
case("NRRD", "other encodings than raw and gzip", Case(text_nrrd))
case(
    "NRRD",
    "fewer voxels than its header says",
    Case(raw_nrrd(SIZES, voxels=VOXELS[:-1])),
    Case(raw_nrrd(SIZES, sizes="10000000 10000000 10000000")),  # more bytes than 64 bits count
)


def meta(*lines: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        head = ["NDims = 3", "DimSize = 24 20 6", "ElementType = MET_USHORT", "ElementSpacing = 0.005 0.006 0.007"]
        text = "\n".join([*head, *lines, "ElementDataFile = LOCAL", ""])
        (folder / "s.mha").write_bytes(text.encode() + VOXELS.tobytes())
        return folder / "s.mha"

    return write


TURNED = ("TransformMatrix = 0 1 0 -1 0 0 0 0 1", "Offset = 1 -2 3")
case("MetaImage", "matrix and offset", Case(meta(*TURNED), by_itk, (7, 6, 5), (1, -2, 3)))
case(
    "MetaImage",
    "slope or offset of values",
    Case(meta("ElementToIntensityFunctionSlope = 2")),
    Case(meta("ElementToIntensityFunctionOffset = -1024")),
)
case("MetaImage", "voxels as text", Case(meta("BinaryData = False")))
