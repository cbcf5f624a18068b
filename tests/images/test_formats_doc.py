"""What docs/formats.md says of scans is what happens, trait by trait; other libraries are the judges."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import itk
import nibabel
import nrrd
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from bundle.common.errors import InputError
from bundle.images.volumes.volume import open_volume
from tests.conftest import ROOT

SHAPE = (6, 20, 24)
VOXELS = np.random.default_rng(0).integers(200, 5800, SHAPE).astype(np.uint16)
GREY: dict[str, Any] = {"photometric": "minisblack"}
SIGNED = VOXELS.astype(np.int16)  # NIfTI of 16 bits that all programs read
ROWS = re.findall(
    r"^\| ([^|]+?) \| ([^|]+?) \| (read|converted|refused) \| ([^|]*?) ?\|$",
    (ROOT / "docs" / "formats.md").read_text(encoding="utf-8").split("\n## Scans\n")[1].split("\n## ")[0],
    flags=re.MULTILINE,
)


@dataclass(frozen=True)
class Case:
    """A file that has a trait.

    Attributes:
        write: makes it in a folder, and returns what is given as the scan.
        voxels: (Z, Y, X), what another library reads of it, or None where it is refused.
        spacing_um: (z, y, x); None where it must be given, as 7, 6, 5.
        origin_mm: (x, y, z).
    """

    write: Callable[[Path], Path | str]
    voxels: Callable[[Path], np.ndarray] | None = None
    spacing_um: tuple[float, float, float] | None = None
    origin_mm: tuple[float, float, float] = field(default=(0.0, 0.0, 0.0))


CASES: dict[tuple[str, str], list[Case]] = {}


def case(form: str, trait: str, *cases: Case) -> None:
    CASES[form, trait] = list(cases)


def by_itk(path: Path) -> np.ndarray:
    return itk.array_from_image(itk.imread(str(path)))


def truth(_: Path) -> np.ndarray:
    return VOXELS


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


def slices(
    *names: str, planes: np.ndarray = VOXELS, others: dict[str, np.ndarray | None] | None = None, **options: Any
) -> Callable[[Path], Path]:
    """A folder of slices; ``others`` are added, None as a file that is no image."""

    def write(folder: Path) -> Path:
        for name, plane in zip(names or [f"s_{number}.tif" for number in range(len(planes))], planes, strict=True):
            tifffile.imwrite(folder / name, plane, **{**GREY, **options})
        for name, plane in (others or {}).items():
            if plane is None:
                (folder / name).write_bytes(b"x")
            else:
                tifffile.imwrite(folder / name, plane, **GREY)
        return folder

    return write


def pngs(mode: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        for number, plane in enumerate(VOXELS.astype(np.uint8)):
            Image.fromarray(plane).convert(mode).save(folder / f"s_{number}.png")
        return folder

    return write


def four_bits(folder: Path) -> Path:
    """Greys of 4 bits; Pillow writes none, so the header is made by hand."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    for number in range(3):
        greys = (np.arange(20 * 24).reshape(20, 24) + number) % 16
        rows = b"".join(b"\0" + bytes((row[::2] << 4 | row[1::2]).astype(np.uint8)) for row in greys)
        parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", 24, 20, 4, 0, 0, 0, 0)), chunk(b"IDAT", zlib.compress(rows))]
        (folder / f"s_{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b""))
    return folder


def by_pillow(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def one_calibrated(folder: Path) -> Path:
    slices()(folder)
    tifffile.imwrite(folder / "s_2.tif", VOXELS[2], imagej=True, metadata={"cf": 0, "c0": -5.0, "c1": 1.0})
    return folder


KEPT = {"._s_1.tif": None, ".DS_Store": None, "Thumbs.db": None, "scan.log": None}
case(
    "folder",
    "numbers with or without zeros in front",
    Case(slices(*(f"s_{number}.tif" for number in range(7, 13))), truth),
    Case(slices(*(f"s_{number:04d}.tif" for number in range(7, 13))), truth),
)
case("folder", "hidden files, `Thumbs.db`, logs", Case(slices(others=KEPT), truth))
case("folder", "decimals of one length", Case(slices(*(f"z{number / 2:.1f}mm.tif" for number in range(6))), truth))
case("folder", "decimals of several lengths", Case(slices(*(f"z{number / 4:g}.tif" for number in range(6)))))
case("folder", "a number left out", Case(slices(*(f"s_{number}.tif" for number in (0, 1, 2, 4, 5, 6)))))
case("folder", "two sequences", Case(slices(others={f"seg_{number}.tif": VOXELS[number] for number in range(6)})))
case(
    "folder",
    "slices of two channels, numbered",
    Case(slices(*(f"z{number}_c{channel}.tif" for number in range(3) for channel in range(2)))),
)
case("folder", "a preview picture", Case(slices(others={"s_spr.tif": VOXELS[0]})))
case(
    "folder",
    "a copy, `(1)`",
    Case(slices(others={"s_3 (1).tif": VOXELS[3]})),
    Case(slices(others={"s_3 - Copy.tif": VOXELS[3]})),
    Case(slices(others={"Copy of s_3.tif": VOXELS[3]})),
)
case("folder", "a number twice, as 1 and 01", Case(slices(others={"s_01.tif": VOXELS[3]})))
case("folder", "another size", Case(slices(others={"s_6.tif": VOXELS[0, :-2]})))
case("folder", "another type", Case(slices(others={"s_6.tif": VOXELS[0].astype(np.uint8)})))
case("folder", "WhiteIsZero", Case(slices(photometric="miniswhite")))
case("folder", "orientation 2 to 8", *(Case(slices(**oriented(way))) for way in range(2, 9)))
case("folder", "a file of several pages", Case(slices(others={"s_6.tif": VOXELS[:2]})))
case("folder", "ImageJ calibration of one slice alone", Case(one_calibrated))
case("folder", "PNG, colour or palette", *(Case(pngs(mode)) for mode in ("RGB", "RGBA", "P", "LA")))
case("folder", "PNG, grey of 4 bits", Case(four_bits, by_pillow))


def hdf5(*changes: Callable[[h5py.File], None], voxels: np.ndarray = VOXELS) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        with h5py.File(folder / "s.h5", "w") as file:
            file.create_dataset("entry/data", data=voxels)
            for change in changes:
                change(file)
        return folder / "s.h5"

    return write


def by_h5py(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["entry/data"][()]


def attributes(**given: Any) -> Callable[[h5py.File], None]:
    return lambda file: file["entry/data"].attrs.update(given)


def nexus(*names: str) -> Callable[[h5py.File], None]:
    """Axes by the NeXus standard, of 7, 6 and 5 µm by the last letter of their names."""

    def change(file: h5py.File) -> None:
        file["entry"].attrs.update({"NX_class": "NXdata", "signal": "data", "axes": list(names)})
        for name, size in zip(names, file["entry/data"].shape, strict=True):
            step = {"z": 7.0, "y": 6.0, "x": 5.0}.get(name[-1], 1.0)
            place = file["entry"].create_dataset(name, data=np.arange(size) * step + 100)
            place.attrs["units"] = "micron" if name[-1] in "zyx" else "deg"

    return change


def scales(file: h5py.File) -> None:
    for axis, (name, size) in enumerate(zip("xyz", file["entry/data"].shape, strict=True)):
        place = file.create_dataset(f"entry/{name}", data=np.arange(size))
        place.make_scale(name)
        file["entry/data"].dims[axis].attach_scale(place)


def labels(file: h5py.File) -> None:
    for axis, name in enumerate("xyz"):
        file["entry/data"].dims[axis].label = name


def tags(file: h5py.File) -> None:
    listed = [{"key": name, "typeFlags": 2, "resolution": 0, "description": ""} for name in "xyz"]
    file["entry/data"].attrs["axistags"] = json.dumps({"axes": listed})


def filled(path: Path) -> np.ndarray:
    voxels = by_h5py(path).astype(np.float32)
    return np.where(voxels == VOXELS[0, 0, 0], np.nan, voxels)


case("HDF5", "one 3D dataset", Case(hdf5(), by_h5py))
case("HDF5", "several 3D datasets", Case(hdf5(lambda file: file.create_dataset("other", data=VOXELS))))
case("HDF5", "`element_size_um`", Case(hdf5(attributes(element_size_um=[7.0, 6.0, 5.0])), by_h5py, (7, 6, 5)))
case(
    "HDF5",
    "axes named by dimension scales, labels or `axistags`",
    *(Case(hdf5(change, voxels=VOXELS.T), lambda path: by_h5py(path).T) for change in (scales, labels, tags)),
)
case(
    "HDF5",
    "`scale_factor` and `add_offset`",
    Case(hdf5(attributes(scale_factor=0.5, add_offset=-1000.0)), lambda path: by_h5py(path) * 0.5 - 1000),
    Case(hdf5(attributes(add_offset=-32768)), lambda path: by_h5py(path).astype(int) - 32768),
)
case("HDF5", "`_FillValue`", Case(hdf5(attributes(_FillValue=VOXELS[0, 0, 0])), filled))
PLACE = (0.1, 0.1, 0.1)
case("NeXus", "axes z, y, x with units", Case(hdf5(nexus("z", "y", "x")), by_h5py, (7, 6, 5), PLACE))
case(
    "NeXus",
    "axes named x, y, z",
    Case(hdf5(nexus("voxel_x", "voxel_y", "voxel_z"), voxels=VOXELS.T), lambda p: by_h5py(p).T, (7, 6, 5), PLACE),
    Case(
        hdf5(nexus("y", "z", "x"), voxels=VOXELS.transpose(1, 0, 2)),
        lambda path: by_h5py(path).transpose(1, 0, 2),
        (7, 6, 5),
        PLACE,
    ),
)
case("NeXus", "some axes named, in another order", Case(hdf5(nexus("x", "first", "second"))))
case("NeXus", "an axis of angles", Case(hdf5(nexus("rotation_angle", "y", "x"))))
case("NeXus", "`scaling_factor`", Case(hdf5(lambda file: file.create_dataset("entry/scaling_factor", data=2.0))))


def ngff(version: int = 2, axes: str = "zyx", shape: tuple[int, ...] = SHAPE, at: str = "") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        group = zarr.open_group(folder / "s.zarr" / at, mode="w", zarr_format=version)
        group.create_array("0", shape=shape, dtype="u2")[:] = np.resize(VOXELS, shape)
        step = {"z": 7.0, "y": 6.0, "x": 5.0}
        listed = [{"name": name, **({"type": "space", "unit": "micrometer"} if name in step else {})} for name in axes]
        moved = [
            {"type": "scale", "scale": [step.get(name, 1.0) for name in axes]},
            {"type": "translation", "translation": [100.0 if name in step else 0.0 for name in axes]},
        ]
        about = [{"axes": listed, "datasets": [{"path": "0", "coordinateTransformations": moved}]}]
        group.attrs.update({"multiscales": about} if version == 2 else {"ome": {"multiscales": about}})
        return folder / "s.zarr"

    return write


def bioformats(folder: Path) -> Path:
    zarr.open_group(folder / "s.zarr", mode="w", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    return ngff(at="0")(folder)


def bare(version: int, **about: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        array = zarr.create_array(folder / "s", shape=SHAPE, chunks=(2, 20, 24), dtype="u2", zarr_format=version)
        array[:] = VOXELS
        array.attrs.update(about)
        return folder / "s"

    return write


def by_zarr(path: Path) -> np.ndarray:
    found: Any = zarr.open(path, mode="r")
    return np.asarray((found if isinstance(found, zarr.Array) else found["0"])[:])


case(
    "OME-Zarr",
    "scale, translation and unit, 0.4 and 0.5",
    *(Case(ngff(version), by_zarr, (7, 6, 5), PLACE) for version in (2, 3)),
)
case("OME-Zarr", "axes in another order", Case(ngff(axes="xyz", shape=SHAPE[::-1])))
case("OME-Zarr", "several channels, or colour", Case(ngff(axes="czyx", shape=(3, *SHAPE))))
case("OME-Zarr", "several times", Case(ngff(axes="tzyx", shape=(2, *SHAPE))))
case("Zarr", "bioformats2raw's layout", Case(bioformats))
case("Zarr", "a bare array, Zarr 2 or 3", Case(bare(2), by_zarr), Case(bare(3), by_zarr))
case(
    "Zarr",
    "`scale_factor` and `add_offset`",
    *(
        Case(bare(version, scale_factor=0.5, add_offset=3.0), lambda path: by_zarr(path) * 0.5 + 3)
        for version in (2, 3)
    ),
)


def test_every_row_has_its_file_and_every_file_its_row():
    assert [(form, trait) for form, trait, _, _ in ROWS] == list(CASES)


@pytest.mark.parametrize(("form", "trait", "outcome", "how"), ROWS, ids=[f"{row[0]}: {row[1]}" for row in ROWS])
def test_what_happens(form, trait, outcome, how, tmp_path):
    for number, each in enumerate(CASES[form, trait]):
        folder = tmp_path / str(number)
        folder.mkdir()
        given = each.write(folder)
        if outcome == "refused":
            _, words, _ = how.split("`")
            with pytest.raises(InputError) as caught:
                open_volume(given, None if "size" in words or "slices" in words else (7, 6, 5))
            assert words in str(caught.value)
            assert str(folder) in str(caught.value)
            assert "\n" not in str(caught.value)
            continue
        assert each.voxels is not None
        size = (7.0, 7.0, 7.0) if each.write is no_unit else (7.0, 6.0, 5.0)
        volume = open_volume(str(given), size if each.spacing_um is None else None)
        expected = each.voxels(Path(given))
        pixels = volume.read(0, volume.shape[0])
        assert np.array_equal(pixels, expected.astype(pixels.dtype), equal_nan=pixels.dtype.kind == "f")
        assert pixels.astype(float) == pytest.approx(expected.astype(float), nan_ok=True)
        assert np.array_equal(volume.read(1, 3), pixels[1:3], equal_nan=pixels.dtype.kind == "f")
        assert volume.geometry.spacing_um == pytest.approx(each.spacing_um or size, rel=1e-5)
        assert volume.geometry.origin_mm == pytest.approx(each.origin_mm, abs=1e-6)


def test_a_copy_of_a_file_over_several_is_no_second_scan(tmp_path):
    scan = several_files(tmp_path)
    shutil.copy(scan / "z0.ome.tif", scan / "z0 (1).ome.tif")
    with pytest.raises(InputError, match=r"an OME-TIFF of 6 files, and z0 \(1\).ome.tif; move these away"):
        open_volume(scan)


def test_numbers_that_are_none(tmp_path):
    for name, value in (("scale_factor", "big"), ("add_offset", [1.0, 2.0]), ("scale_factor", float("nan"))):
        path = hdf5(attributes(**{name: value}))(tmp_path)
        with pytest.raises(InputError, match=f"has {name} .*, which is no number"):
            open_volume(path, 5)
    path = bare(3, scale_factor=json.dumps({}))(tmp_path)
    with pytest.raises(InputError, match="has scale_factor"):
        open_volume(path, 5)


def test_the_cases(shared):
    voxels, cases = np.load(shared / "cases" / "volumes" / "truth.npy"), shared / "cases" / "volumes"
    for name in ("multifile_ome", "savu.nxs", "bf.zarr/0"):
        volume = open_volume(cases / name)
        assert np.array_equal(volume.read(0, 6), voxels)
        assert volume.geometry.spacing_um == (5, 5, 5)
    assert np.array_equal(open_volume(cases / "arr.zarr", 5).read(0, 6), voxels)
    assert open_volume(cases / "unk2.nii", 5).geometry.origin_mm == (-1, 0, 0)
    stored = tifffile.imread(cases / "ijsigned.tif").astype(int)
    assert np.array_equal(open_volume(cases / "ijsigned.tif").read(0, 6), stored - 32768)
    refused = {"ij2.tif": "no distance", "two_series.ome.tif": "2 images", "two_sequences": "several sequences"}
    refused |= {"with_spr": "rat_rec_spr.tif", "with_copy": r"s_3 \(1\).tif", "bf.zarr": "bf.zarr/0"}
    for name, words in refused.items():
        with pytest.raises(InputError, match=words):
            open_volume(cases / name)
    for name in ("miniswhite.tif", "orient_folder"):
        with pytest.raises(InputError, match="MINISWHITE|Orientation 4"):
            open_volume(shared / "cases" / "images" / name, 5)
