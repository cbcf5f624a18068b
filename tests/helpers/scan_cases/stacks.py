"""Scans of one TIFF or several: plain, ImageJ's, OME's."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from tests.helpers.scan_cases.case import GREY, VOXELS, Case, case, truth


def tiff(folder: Path, voxels: np.ndarray, name: str = "s.tif", **options: Any) -> Path:
    tifffile.imwrite(folder / name, voxels, **options)
    return folder / name


def stack(voxels: np.ndarray = VOXELS, **options: Any) -> Callable[[Path], Path]:
    return lambda folder: tiff(folder, voxels, **options)


def by_tifffile(path: Path) -> np.ndarray:
    return tifffile.imread(path)


def pages(*planes: np.ndarray, **options: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        with tifffile.TiffWriter(folder / "s.tif") as file:
            for plane in planes:
                file.write(plane, **{**GREY, **options})
        return folder / "s.tif"

    return write


def oriented(way: int, tag: int = 274) -> dict[str, Any]:
    return {**GREY, "extratags": [(tag, 3, 1, way, True)]}


MAP = np.arange(768, dtype=np.uint16).reshape(3, 256)
case(
    "TIFF stack", "plain grey pages", Case(stack(**GREY), by_tifffile), Case(pages(*VOXELS, compression="zlib"), truth)
)
case("TIFF stack", "WhiteIsZero", Case(stack(photometric="miniswhite")), Case(pages(*VOXELS, photometric="miniswhite")))
case("TIFF stack", "palette", Case(stack(VOXELS.astype(np.uint8), photometric="palette", colormap=MAP)))
case("TIFF stack", "colour", Case(stack(np.zeros((20, 24, 3), np.uint8), photometric="rgb")))
case("TIFF stack", "orientation 2 to 8", *(Case(stack(**oriented(way))) for way in range(2, 9)))
case("TIFF stack", "one page unlike the others", Case(pages(*VOXELS[:3], VOXELS[3, :-1])))
case("TIFF stack", "two stacks in one file", Case(pages(VOXELS, VOXELS)))
case("TIFF stack", "a pixel size only", Case(stack(**GREY, resolution=(2000, 2000), resolutionunit=3)))


def imagej(voxels: np.ndarray = VOXELS, axes: str = "ZYX", **about: Any) -> Callable[[Path], Path]:
    metadata = {"axes": axes, "unit": "um", "spacing": 7, **about}
    metadata = {name: value for name, value in metadata.items() if value is not None}
    return stack(voxels, imagej=True, resolution=(1 / 5, 1 / 6), metadata=metadata)


case("ImageJ", "unit and spacing", Case(imagej(), by_tifffile, (7, 6, 5)))
case("ImageJ", "unit without spacing", Case(imagej(spacing=None)))
case(
    "ImageJ",
    "calibration by a line, `c0` and `c1`",
    Case(imagej(cf=0, c0=-32768.0, c1=1.0), lambda path: by_tifffile(path).astype(int) - 32768, (7, 6, 5)),
    Case(imagej(cf=0, c0=-1.5, c1=0.25), lambda path: by_tifffile(path) * 0.25 - 1.5, (7, 6, 5)),
)
case("ImageJ", "another calibration", Case(imagej(cf=3, c0=1.0, c1=2.0, c2=3.0)), Case(imagej(c0=1.0, c1=2.0)))
case("ImageJ", "frames in time", Case(imagej(axes="TYX")))
case("ImageJ", "channels", Case(imagej(axes="CYX")))


def ome(axes: str = "ZYX", images: int = 1) -> Callable[[Path], Path]:
    about = {"axes": axes, "PhysicalSizeX": 5, "PhysicalSizeY": 6000, "PhysicalSizeYUnit": "nm"}
    about |= {"PhysicalSizeZ": 0.007, "PhysicalSizeZUnit": "mm"}

    def write(folder: Path) -> Path:
        with tifffile.TiffWriter(folder / "s.ome.tif", ome=True) as file:
            for _ in range(images):
                file.write(VOXELS, photometric="minisblack", metadata=about)
        return folder / "s.ome.tif"

    return write


def renamed(folder: Path) -> Path:
    """Its metadata name it as it was called."""
    text = ome()(folder).read_bytes().decode("latin-1")
    uuid = re.search(r'UUID="(urn:uuid:[^"]+)"', text)[1]
    said = tifffile.TiffFile(folder / "s.ome.tif").ome_metadata
    said = said.replace('PlaneCount="6"/>', f'PlaneCount="6"><UUID FileName="before.ome.tif">{uuid}</UUID></TiffData>')
    tifffile.imwrite(folder / "after.ome.tif", VOXELS, description=said, metadata=None, **GREY)
    return folder / "after.ome.tif"


def several_files(folder: Path, elsewhere: str = "") -> Path:
    """One OME-TIFF, a slice a file, as the specification has it."""
    scan = folder / "scan"
    scan.mkdir()
    ids = [f"urn:uuid:00000000-0000-4000-8000-{number:012d}" for number in range(6)]
    parts = "".join(
        f'<TiffData FirstZ="{number}" IFD="0" PlaneCount="1"><UUID FileName="{elsewhere}z{number}.ome.tif">{each}'
        "</UUID></TiffData>"
        for number, each in enumerate(ids)
    )
    pixels = (
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="24" SizeY="20" SizeZ="6" SizeC="1" '
        'SizeT="1" PhysicalSizeX="5" PhysicalSizeY="6" PhysicalSizeZ="7">'
        '<Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
    )
    for number, each in enumerate(ids):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{each}"><Image ID="Image:0">{pixels}{parts}</Pixels></Image></OME>'
        )
        tifffile.imwrite(scan / f"z{number}.ome.tif", VOXELS[number], description=xml, metadata=None, **GREY)
    return scan


def without_one(folder: Path) -> Path:
    scan = several_files(folder)
    (scan / "z4.ome.tif").unlink()
    return scan


def with_another(folder: Path) -> Path:
    scan = several_files(folder)
    tifffile.imwrite(scan / "z6.tif", VOXELS[0], **GREY)
    return scan


case("OME-TIFF", "physical sizes, any unit", Case(ome(), by_tifffile, (7, 6, 5)))
case("OME-TIFF", "a file renamed since", Case(renamed, truth, (7, 6, 5)))
case("OME-TIFF", "several images", Case(ome(images=2)))
case("OME-TIFF", "frames in time", Case(ome("TYX")))
case(
    "OME-TIFF",
    "one scan over several files, one of them given",
    Case(lambda folder: several_files(folder) / "z0.ome.tif", by_tifffile, (7, 6, 5)),
    Case(lambda folder: several_files(folder) / "z3.ome.tif", truth, (7, 6, 5)),
)
case("OME-TIFF", "one scan over several files, their folder given", Case(several_files, truth, (7, 6, 5)))
case("OME-TIFF", "one of several files missing", Case(without_one), Case(lambda f: without_one(f) / "z0.ome.tif"))
case("OME-TIFF", "something else beside its files", Case(with_another))
case("OME-TIFF", "slices taken from another folder", Case(lambda f: several_files(f, "../")), Case(
    lambda folder: several_files(folder, "..\\") / "z1.ome.tif"))  # fmt: skip
