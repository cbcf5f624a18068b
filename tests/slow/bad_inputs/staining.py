"""Bad slides, scans, bundles and ids, given to what stains."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import tifffile

from tests.helpers.volumes import make_voxels, write_scan
from tests.slow.bad_inputs import files
from tests.slow.bad_inputs.bench import Kind, Place

SLIDES = "monai.bundle run inference --config_file <bundle>/configs/inference.json --bundle_root <bundle> --output_dir <out> "
SLIDES += "--device cpu --window 32 --step 16 "
IMAGE = SLIDES + "--input <data>/source/02.png"
VOLUME = "monai.bundle run inference --config_file \"['<bundle>/configs/inference.json','configs/volume.json']\" "
VOLUME += "--bundle_root <bundle> --output_dir <out> --device cpu --window 32 --step 32 "
SCAN = VOLUME + "--input <scan>/scan.nii.gz"
SMALL = make_voxels((12, 40, 36))


def _image(line: str, *says: str, name: str = "") -> Kind:
    return Kind("inference", name or line, f"{IMAGE} {line}", says)


def _slide(name: str, spoil: files.Spoiler, *says: str, file: str = "02.png") -> Kind:
    def make(place: Place) -> None:
        path = place.data / "source/02.png"
        if file != path.name:
            path = path.rename(path.with_name(file))
        spoil(path)

    return Kind("inference", f"slide: {name}", f"{SLIDES} --input <data>/source/{file}", says, make)


def _config(
    name: str, change: Callable[[dict[str, Any]], Any], *says: str, line: str = IMAGE, command: str = "inference"
) -> Kind:
    def make(place: Place) -> None:
        path = place.bundle / "configs/inference.json"
        config = json.loads(path.read_text())
        change(config)
        path.write_text(json.dumps(config))

    return Kind(command, f"bundle: {name}", line, says, make)


def _model(name: str, spoil: files.Spoiler, *says: str) -> Kind:
    return Kind("inference", f"weights: {name}", IMAGE, says, lambda place: spoil(place.bundle / "models/model.pt"))


def _volume(line: str, *says: str, name: str = "") -> Kind:
    return Kind("volume", name or line, f"{SCAN} {line}", says)


def _scan(name: str, file: str, write: files.Spoiler, *says: str, more: str = "") -> Kind:
    def make(place: Place) -> None:
        path = place.file(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)

    return Kind("volume", f"scan: {name}", f"{VOLUME} --input <here>/{file} {more}", says, make)


def _nifti(change: Callable[[bytearray], Any] = lambda raw: None, voxels: np.ndarray = SMALL) -> files.Spoiler:
    """A NIfTI of which bytes of the header are changed."""

    def write(path: Path) -> None:
        write_scan(path, voxels)
        raw = bytearray(path.read_bytes())
        change(raw)
        path.write_bytes(bytes(raw))

    return write


def _at(place: int, code: str, *values: float) -> Callable[[bytearray], Any]:
    return lambda raw: struct.pack_into(f"<{code}", raw, place, *values)


def _nrrd(head: str, data: bytes = SMALL.tobytes()) -> files.Spoiler:
    return lambda path: path.write_bytes(f"NRRD0004\n{head}\n\n".encode() + data)


NRRD = "type: uint16\ndimension: 3\nsizes: 36 40 12\nencoding: raw\nendian: little\nspace: left-posterior-superior\n"
NRRD += "space directions: (0.005,0,0) (0,0.005,0) (0,0,0.005)\nspace origin: (0,0,0)\n"
MHA = (
    "ObjectType = Image\nNDims = 3\nDimSize = 36 40 12\nElementType = MET_USHORT\nElementSpacing = 0.005 0.005 0.005\n"
)
MHA += "ElementByteOrderMSB = False\n"


def _mha(head: str, data: bytes = SMALL.tobytes()) -> files.Spoiler:
    return lambda path: path.write_bytes(f"{head}ElementDataFile = LOCAL\n".encode() + data)


def _zarr(meta: dict[str, Any] | None, array: dict[str, Any] | None = None) -> files.Spoiler:
    def write(path: Path) -> None:
        path.mkdir()
        (path / ".zgroup").write_text('{"zarr_format": 2}')
        (path / ".zattrs").write_text(json.dumps(meta or {}))
        if array is not None:
            (path / "0").mkdir()
            usual = {
                "zarr_format": 2,
                "shape": [12, 40, 36],
                "chunks": [12, 40, 36],
                "dtype": "<u2",
                "compressor": None,
            }
            usual |= {"fill_value": 0, "order": "C", "filters": None}
            (path / "0/.zarray").write_text(json.dumps(usual | array))
            (path / "0/0.0.0").write_bytes(SMALL.tobytes())

    return write


def _multiscales(**changes: Any) -> dict[str, Any]:
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [5.0, 5.0, 5.0]}]
    level = {"path": "0", "coordinateTransformations": scale}
    return {"multiscales": [{"version": "0.4", "axes": axes, "datasets": [level], **changes}]}


def _stack(**options: Any) -> files.Spoiler:
    return lambda path: tifffile.imwrite(path, SMALL, photometric="minisblack", **options)


def _slices(count: int, spoil: files.Spoiler = lambda path: None) -> files.Spoiler:
    def write(path: Path) -> None:
        path.mkdir()
        for number in range(count):
            tifffile.imwrite(path / f"s{number:03d}.tif", SMALL[number], photometric="minisblack")
        spoil(path)

    return write


def _hdf5(fill: Callable[[Any], Any]) -> files.Spoiler:
    def write(path: Path) -> None:
        import h5py

        with h5py.File(path, "w") as file:
            fill(file)

    return write


UM5 = "--voxel_um 5"
KINDS = [
    _image("--window 4", "window"),
    _image("--window 100000", "memory", name="a window wider than memory"),
    _image("--window null", name="no window"),
    _image("--step 64", "step"),
    _image("--step 0", "step"),
    _image("--window 33 --step 7"),
    _image("--direction sideways", "direction"),
    _image("--speed warp", "speed"),
    _image("--normalisation batch", "normalisation"),
    _image("--output_format bmp", "output_format"),
    _image("--bone_intensity high", "bone_intensity"),
    _image("--bone_intensity 5", "bone_intensity"),
    _image("--bone_intensity 5 --background_intensity 5", "intensit"),
    _image("--background_rgb 999", "background_rgb"),
    _image("--background_rgb '[0,0]' --mask <data>/mask/02.png", "background_rgb"),
    _image("--background_rgb '[0,0,999]' --mask <data>/mask/02.png", "background_rgb"),
    _image("--mask <data>/mask/02.png"),
    _image("--mask <data>/none.png --background_rgb '[1,2,3]'", "none.png"),
    _image("--mask <data>/target/02.png --background_rgb '[1,2,3]'", "target/02.png"),
    _image("--halo -1", "halo"),
    _image("--multiple 0", "multiple"),
    _image("--model /etc/passwd", "passwd"),
    _image("--model <data>/none.pt", "none.pt"),
    _image("--invert_source maybe", "invert_source"),
    _image("--input <data>/none.png", "none.png"),
    _image("--input <here>/nothing*.png", "nothing"),
    _image("--input 7", "input"),
    _image("--input null", "input"),
    _image("--input <data>/datalist.json", "datalist.json"),
    _image("--input <data>", "no image", name="a folder without images"),
    _image("--output_dir /dev/full", "/dev/full"),
    _image("--output_dir /sys/kernel/x", "/sys/kernel"),
    _image("--bundle_root <data>", "model.pt", name="a bundle that is a dataset"),
    _image("--bundle_root /nowhere", "/nowhere"),
    _image("--direction reverse", "channels", name="a scan stained in reverse"),
    _slide("an empty file", files.empty, "02.png"),
    _slide("cut in the middle", files.half, "02.png"),
    _slide("a flipped bit", files.flipped, "02.png"),
    _slide("a decompression bomb", files.bomb, "02.png"),
    _slide("a FIFO", files.pipe, "02.png"),
    _slide("endless", files.endless, "02.png"),
    _slide("1 px", files.pixels(np.full((1, 1), 30000, np.uint16)), "02.png"),
    _slide("1 px high", files.pixels(np.arange(72, dtype=np.uint16)[None] * 900), "02.png"),
    _slide("RGB", files.pixels(np.zeros((64, 72, 3), np.uint8)), "02.png"),
    _slide("8 bits", files.pixels(np.arange(64 * 72, dtype=np.uint16).reshape(64, 72).astype(np.uint8)), "02.png"),
    _slide("all 0", files.pixels(np.zeros((64, 72), np.uint16)), "02.png"),
    _slide("all 65535", files.pixels(np.full((64, 72), 65535, np.uint16)), "02.png"),
    _slide("NaN in a corner", files.pixels(np.where(np.eye(64, 72) > 0, np.nan, 9e3).astype(np.float32)), "02.tif", file="02.tif"),
    _slide("negative", files.pixels(np.full((64, 72), -5, np.int16)), "02.tif", file="02.tif"),
    _slide("complex", files.pixels(np.ones((64, 72), np.complex64)), "02.tif", file="02.tif"),
    _slide("a stack of 5", files.pixels(np.zeros((5, 64, 72), np.uint16)), "02.tif", file="02.tif"),
    _slide("a TIFF in a ring", files.ring, file="02.tif"),
    _slide("an SVG", files.text, "02.svg", file="02.svg"),
    _slide("a movie", files.text, "02.mp4", file="02.mp4"),
    _slide("a PDF under .tif", lambda path: path.write_bytes(b"%PDF-1.7\n" * 9), "02.tif", file="02.tif"),
    _slide("a zip under .nii.gz", lambda path: path.write_bytes(b"PK\3\4" * 99), "02.nii.gz", file="02.nii.gz"),
    _slide("a volume", _nifti(), "02.nii.gz", file="02.nii.gz"),
    _model("an empty file", files.empty, "model.pt"),
    _model("cut in the middle", files.half, "model.pt"),
    _model("a pickle that runs a command", files.code, "model.pt"),
    _model("a list", lambda path: __import__("torch").save([1, 2], path), "model.pt"),
    _model("of another network", lambda path: __import__("torch").save({"a": __import__("torch").ones(2)}, path), "model.pt"),
    _model("of NaN", lambda path: __import__("torch").save(
        {name: each * float("nan") for name, each in __import__("torch").load(path).items()}, path), "model.pt"),
    _model("a folder", files.folder, "model.pt"),
    _config("no source", lambda config: config.pop("source"), "source"),
    _config("a source that is text", lambda config: config.update(source="CT"), "source"),
    _config("a range of words", lambda config: config["source"].update(range=["a", "b"]), "range"),
    _config("a range backwards", lambda config: config["source"].update(range=[9, 1]), "range"),
    _config("no channels", lambda config: config["source"].pop("channels"), "channels"),
    _config("another network", lambda config: config["network_def"].update(width=8), "model.pt"),
    _config("no network", lambda config: config.pop("network_def"), "network_def"),
    _config("a network that is none", lambda config: config.update(network_def=None), "network_def"),
    Kind("inference", "bundle: metadata that is no JSON", IMAGE, ("JSON",),
         lambda place: (place.bundle / "configs/metadata.json").write_text("{"), monai=True),
    Kind("inference", "bundle: metadata that is a list", IMAGE, ("list",),
         lambda place: (place.bundle / "configs/metadata.json").write_text("[]"), monai=True),
    Kind("inference", "bundle: metadata with a pixel size of words", IMAGE, ("metadata.json",),
         lambda place: (place.bundle / "configs/metadata.json").write_text('{"pixel_um": "fine"}')),
    Kind("inference", "bundle: a config that is no JSON", IMAGE, ("JSON",),
         lambda place: (place.bundle / "configs/inference.json").write_text("{"), monai=True),
    _volume("--axes q", "axes"),
    _volume("--axes zz", "axes"),
    _volume("--fusion mode", "fusion"),
    _volume("--sigma -1", "sigma"),
    _volume("--sigma 1000", "sigma"),
    _volume("--voxel_um 0", "voxel_um"),
    _volume("--voxel_um '[5,5]'", "voxel_um"),
    _volume("--voxel_um '[5,5,-5]'", "voxel_um"),
    _volume("--voxel_um five", "voxel_um"),
    _volume("--voxel_um 1e300", "voxel_um"),
    _volume("--output_format gif", "output_format"),
    _volume("--hull true", "hull"),
    _volume("--hull perhaps", "hull"),
    _volume("--alpha 2", "alpha"),
    _volume("--alpha true --output_format nii"),
    _volume("--fill_nan nan", "fill_nan"),
    _volume("--window 100000", "memory", name="a window wider than memory"),
    _volume("--direction reverse", "direction"),
    _volume("--mask <data>/mask/02.png", "mask"),
    _volume("--bone_intensity 49149 --background_intensity 900000", "intensit"),
    _volume("--output_dir <scan>/scan.nii.gz", "scan.nii.gz", name="a folder that is the scan"),
    _volume("--axes zyx --step 40", "step"),
    _scan("not there", "gone/scan.nii.gz", lambda path: None, "scan.nii.gz"),
    _scan("an empty file", "scan.nii.gz", files.empty, "scan.nii.gz"),
    _scan("an error page", "scan.nii.gz", files.text, "scan.nii.gz"),
    _scan("not compressed in spite of its name", "scan.nii.gz",
          lambda path: (_nifti()(path.with_name("s.nii")), path.with_name("s.nii").rename(path)), "scan.nii.gz"),
    _scan("cut in the middle", "scan.nii.gz", lambda path: (_nifti()(path), files.half(path)), "scan.nii.gz"),
    _scan("a flipped bit", "scan.nii.gz", lambda path: (_nifti()(path), files.flipped(path)), "scan.nii.gz"),
    _scan("rubbish after the end", "scan.nii.gz", lambda path: (_nifti()(path), path.write_bytes(path.read_bytes() + b"x" * 99)), "scan.nii.gz"),
    _scan("a header alone", "scan.nii", lambda path: (_nifti()(path), path.write_bytes(path.read_bytes()[:352])), "scan.nii"),
    _scan("cut plain", "scan.nii", lambda path: (_nifti()(path), files.half(path)), "scan.nii"),
    _scan("10^14 voxels", "scan.nii", _nifti(_at(40, "8h", 3, 32767, 32767, 32767, 1, 1, 1, 1)), "scan.nii"),
    _scan("a negative size", "scan.nii", _nifti(_at(40, "8h", 3, -36, 40, 12, 1, 1, 1, 1)), "scan.nii"),
    _scan("a size of 0", "scan.nii", _nifti(_at(40, "8h", 3, 36, 0, 12, 1, 1, 1, 1)), "scan.nii"),
    _scan("99 dimensions", "scan.nii", _nifti(_at(40, "8h", 99, 36, 40, 12, 1, 1, 1, 1)), "scan.nii"),
    _scan("four dimensions", "scan.nii", _nifti(_at(40, "8h", 4, 36, 40, 6, 2, 1, 1, 1)), "scan.nii"),
    _scan("an unknown type", "scan.nii", _nifti(_at(70, "h", 9999)), "scan.nii"),
    _scan("colour", "scan.nii", _nifti(_at(70, "2h", 128, 24)), "scan.nii"),
    _scan("a slope of NaN", "scan.nii", _nifti(_at(112, "2f", float("nan"), 0))),
    _scan("a slope of infinity", "scan.nii", _nifti(_at(112, "2f", float("inf"), 0))),
    _scan("a slope of 1e30", "scan.nii", _nifti(_at(112, "2f", 1e30, 0)), "scan.nii"),
    _scan("voxels of 0 mm", "scan.nii", _nifti(lambda raw: (_at(76, "4f", 1, 0, 0, 0)(raw), _at(252, "2h", 0, 0)(raw))), "scan.nii"),
    _scan("voxels of NaN", "scan.nii", _nifti(lambda raw: (_at(76, "4f", 1, *[float("nan")] * 3)(raw), _at(252, "2h", 0, 0)(raw))), "scan.nii"),
    _scan("an affine of 0", "scan.nii", _nifti(lambda raw: (_at(252, "2h", 0, 1)(raw), _at(280, "12f", *[0] * 12)(raw))), "scan.nii"),
    _scan("an affine of NaN", "scan.nii", _nifti(lambda raw: (_at(252, "2h", 0, 1)(raw), _at(280, "12f", *[float("nan")] * 12)(raw))), "scan.nii"),
    _scan("a sheared affine", "scan.nii", _nifti(lambda raw: (_at(252, "2h", 0, 1)(raw), _at(280, "12f", .005, .004, 0, 0, 0, .005, 0, 0, 0, 0, .005, 0)(raw))), "scan.nii"),
    _scan("no unit", "scan.nii", _nifti(_at(123, "B", 0)), "scan.nii"),
    _scan("data that begin beyond the end", "scan.nii", _nifti(_at(108, "f", 1e9)), "scan.nii"),
    _scan("data that begin before the file", "scan.nii", _nifti(_at(108, "f", -500)), "scan.nii"),
    _scan("data that begin nowhere", "scan.nii", _nifti(_at(108, "f", float("nan"))), "scan.nii"),
    _scan("of one slice", "scan.nii.gz", _nifti(voxels=SMALL[:1]), "scan.nii.gz", more="--axes zyx"),
    _scan("of one value", "scan.nii.gz", _nifti(voxels=np.full((12, 40, 36), 9, np.uint16)), "scan.nii.gz"),
    _scan("of NaN", "scan.nii.gz", _nifti(voxels=np.full((12, 40, 36), np.nan, np.float32)), "scan.nii.gz"),
    _scan("infinite", "scan.nii.gz", _nifti(voxels=np.where(SMALL > 30000, np.inf, SMALL).astype(np.float32)), "scan.nii.gz"),
    _scan("values beyond the model's", "scan.nii.gz", _nifti(voxels=SMALL.astype(np.int32) * 50), "scan.nii.gz"),
    _scan("a gzip in a gzip", "scan.nii.gz", lambda path: (_nifti()(path), path.write_bytes(gzip.compress(path.read_bytes()))), "scan.nii.gz"),
    _scan("big-endian", "scan.nii", lambda path: nibabel.save(nibabel.Nifti1Image(
        SMALL.T, np.diag([-0.005, -0.005, 0.005, 1]), nibabel.Nifti1Header(endianness=">")), path), "scan.nii"),
    _scan("NRRD without data", "scan.nrrd", _nrrd(NRRD, b""), "scan.nrrd"),
    _scan("NRRD with half its data", "scan.nrrd", _nrrd(NRRD, b"x" * 999), "scan.nrrd"),
    _scan("NRRD of sizes that are words", "scan.nrrd", _nrrd(NRRD.replace("36 40 12", "a b c")), "scan.nrrd"),
    _scan("NRRD of two sizes", "scan.nrrd", _nrrd(NRRD.replace("36 40 12", "36 40")), "scan.nrrd"),
    _scan("NRRD of a negative size", "scan.nrrd", _nrrd(NRRD.replace("36 40 12", "36 40 -12")), "scan.nrrd"),
    _scan("NRRD of 10^18 voxels", "scan.nrrd", _nrrd(NRRD.replace("36 40 12", "1000000 1000000 1000000")), "scan.nrrd"),
    _scan("NRRD of an unknown type", "scan.nrrd", _nrrd(NRRD.replace("uint16", "block")), "scan.nrrd"),
    _scan("NRRD of an unknown encoding", "scan.nrrd", _nrrd(NRRD.replace("raw", "lzma")), "scan.nrrd"),
    _scan("NRRD without spacing", "scan.nrrd", _nrrd("\n".join(NRRD.split("\n")[:5])), "scan.nrrd"),
    _scan("NRRD with directions of none", "scan.nrrd", _nrrd(NRRD.replace("(0,0,0.005)", "none")), "scan.nrrd"),
    _scan("NRRD with its data in /etc/passwd", "scan.nhdr", _nrrd(NRRD + "data file: /etc/passwd"), "passwd"),
    _scan("NRRD with its data in itself", "scan.nhdr", _nrrd(NRRD + "data file: scan.nhdr"), "scan.nhdr"),
    _scan("NRRD with its data in LIST", "scan.nhdr", _nrrd(NRRD + "data file: LIST\na.raw", b""), "scan.nhdr"),
    _scan("NRRD without an end of its header", "scan.nrrd", lambda path: path.write_bytes(b"NRRD0004\n" + b"# x\n" * 99), "scan.nrrd"),
    _scan("NRRD with a skip beyond the end", "scan.nrrd", _nrrd(NRRD + "byte skip: 99999999"), "scan.nrrd"),
    _scan("MetaImage without sizes", "scan.mha", _mha(MHA.replace("DimSize = 36 40 12\n", "")), "scan.mha"),
    _scan("MetaImage of another type", "scan.mha", _mha(MHA.replace("MET_USHORT", "MET_BOOL")), "scan.mha"),
    _scan("MetaImage with half its data", "scan.mha", _mha(MHA, b"x" * 999), "scan.mha"),
    _scan("MetaImage of two dimensions", "scan.mha", _mha(MHA.replace("NDims = 3", "NDims = 2")), "scan.mha"),
    _scan("MetaImage of NDims = x", "scan.mha", _mha(MHA.replace("NDims = 3", "NDims = x")), "scan.mha"),
    _scan("MetaImage with a spacing of 0", "scan.mha", _mha(MHA.replace("0.005 0.005 0.005", "0.005 0.005 0")), "scan.mha"),
    _scan("MetaImage with a spacing of words", "scan.mha", _mha(MHA.replace("0.005 0.005 0.005", "a b c")), "scan.mha"),
    _scan("MetaImage compressed, in name", "scan.mha", _mha(MHA + "CompressedData = True\n"), "scan.mha"),
    _scan("MetaImage with its data elsewhere", "scan.mhd", lambda path: path.write_text(MHA + "ElementDataFile = ../../../etc/passwd\n"), "passwd"),
    _scan("MetaImage without a data file", "scan.mhd", lambda path: path.write_text(MHA), "scan.mhd"),
    _scan("TIFF stack without a voxel size", "scan.tif", _stack(), "voxel_um"),
    _scan("TIFF stack", "scan.tif", _stack(), more=UM5),
    _scan("TIFF of one page", "scan.tif", lambda path: tifffile.imwrite(path, SMALL[0]), "scan.tif", more=UM5 + " --axes zyx"),
    _scan("TIFF of pages that differ", "scan.tif", lambda path: [tifffile.imwrite(path, SMALL[0, : 40 - n], append=n > 0) for n in range(3)], "scan.tif", more=UM5),
    _scan("TIFF in colour", "scan.tif", lambda path: tifffile.imwrite(path, np.zeros((9, 40, 36, 3), np.uint8), photometric="rgb"), "scan.tif", more=UM5),
    _scan("TIFF of 5 channels", "scan.tif", _stack(metadata={"axes": "CYX"}), "scan.tif", more=UM5),
    _scan("TIFF of 12 times", "scan.tif", _stack(imagej=True, metadata={"axes": "TYX"}), "scan.tif", more=UM5),
    _scan("TIFF in a ring", "scan.tif", files.ring, "scan.tif", more=UM5),
    _scan("TIFF cut in the middle", "scan.tif", lambda path: (_stack()(path), files.half(path)), "scan.tif", more=UM5),
    _scan("ImageJ in inches", "scan.tif", _stack(imagej=True, resolution=(72, 72), metadata={"axes": "ZYX", "spacing": 5, "unit": "inch"}), "scan.tif"),
    _scan("OME-TIFF with XML that is cut", "scan.ome.tif", lambda path: tifffile.imwrite(path, SMALL, description="<OME><Image", metadata=None), "scan.ome.tif"),
    _scan("OME-TIFF with a million entities", "scan.ome.tif", lambda path: tifffile.imwrite(path, SMALL, metadata=None, description=
          '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + "".join(f'<!ENTITY {chr(98 + n)} "{("&" + chr(97 + n) + ";") * 10}">' for n in range(9)) + "]><OME>&j;</OME>"), "scan.ome.tif"),
    _scan("no slices in a folder", "scan", _slices(0), "scan"),
    _scan("slices", "scan", _slices(12), more=UM5),
    _scan("a slice missing", "scan", _slices(12, lambda path: (path / "s005.tif").unlink()), "s00", more=UM5),
    _scan("an empty slice", "scan", _slices(12, lambda path: files.empty(path / "s005.tif")), "s005.tif", more=UM5),
    _scan("a slice in colour", "scan", _slices(12, lambda path: tifffile.imwrite(path / "s005.tif", np.zeros((40, 36, 3), np.uint8), photometric="rgb")), "s005.tif", more=UM5),
    _scan("a slice of another size", "scan", _slices(12, lambda path: tifffile.imwrite(path / "s005.tif", SMALL[0, 1:])), "s005.tif", more=UM5),
    _scan("a slice of another type", "scan", _slices(12, lambda path: tifffile.imwrite(path / "s005.tif", SMALL[0].astype(np.float32))), "s005.tif", more=UM5),
    _scan("a slice that is a FIFO", "scan", _slices(12, lambda path: files.pipe(path / "s005.tif")), "s005.tif", more=UM5),
    _scan("a slice that is a link to nothing", "scan", _slices(12, lambda path: files.dangling(path / "s005.tif")), "s005.tif", more=UM5),
    _scan("slices and a folder", "scan", _slices(12, lambda path: (path / "s012.tif").mkdir()), "s012.tif", more=UM5),
    _scan("a copy among the slices", "scan", _slices(12, lambda path: (path / "s005 - Copy.tif").write_bytes((path / "s005.tif").read_bytes())), "Copy", more=UM5),
    _scan("text named .dcm", "scan", lambda path: (path.mkdir(), (path / "a.dcm").write_text("x" * 500)), "a.dcm"),
    _scan("Zarr without anything", "scan.zarr", lambda path: path.mkdir(), "scan.zarr"),
    _scan("Zarr without multiscales", "scan.zarr", _zarr(None, {}), "scan.zarr"),
    _scan("Zarr whose level is gone", "scan.zarr", _zarr(_multiscales()), "scan.zarr"),
    _scan("Zarr", "scan.zarr", _zarr(_multiscales(), {})),
    _scan("Zarr of multiscales as an object", "scan.zarr", _zarr({"multiscales": {}}, {}), "scan.zarr"),
    _scan("Zarr of no level", "scan.zarr", _zarr(_multiscales(datasets=[]), {}), "scan.zarr"),
    _scan("Zarr of a level outside", "scan.zarr", _zarr(_multiscales(datasets=[{"path": "../../etc"}]), {}), "scan.zarr"),
    _scan("Zarr of axes as words", "scan.zarr", _zarr(_multiscales(axes="zyx"), {}), "scan.zarr"),
    _scan("Zarr of an axis unknown", "scan.zarr", _zarr(_multiscales(axes=[{"name": name} for name in "abc"]), {}), "scan.zarr"),
    _scan("Zarr of four axes in three dimensions", "scan.zarr", _zarr(_multiscales(axes=[{"name": name} for name in "czyx"]), {}), "scan.zarr"),
    _scan("Zarr scaled by words", "scan.zarr", _zarr(_multiscales(datasets=[{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": ["a", 1, 1]}]}]), {}), "scan.zarr"),
    _scan("Zarr scaled by 0", "scan.zarr", _zarr(_multiscales(datasets=[{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [0, 5, 5]}]}]), {}), "scan.zarr"),
    _scan("Zarr of an unknown compressor", "scan.zarr", _zarr(_multiscales(), {"compressor": {"id": "nope"}}), "scan.zarr"),
    _scan("Zarr of an unknown type", "scan.zarr", _zarr(_multiscales(), {"dtype": "<q9"}), "scan.zarr"),
    _scan("Zarr of objects", "scan.zarr", _zarr(_multiscales(), {"dtype": "|O"}), "scan.zarr"),
    _scan("Zarr pickled", "scan.zarr", _zarr(_multiscales(), {"dtype": "|O", "filters": [{"id": "pickle"}]}), "scan.zarr"),
    _scan("Zarr of chunks of 0", "scan.zarr", _zarr(_multiscales(), {"chunks": [0, 0, 0]}), "scan.zarr"),
    _scan("Zarr of a size of 10^6 each", "scan.zarr", _zarr(_multiscales(), {"shape": [10**6] * 3}), "scan.zarr"),
    _scan("Zarr of a chunk that is cut", "scan.zarr", lambda path: (_zarr(_multiscales(), {})(path), files.half(path / "0/0.0.0")), "scan.zarr"),
    _scan("Zarr of a missing chunk", "scan.zarr", lambda path: (_zarr(_multiscales(), {})(path), (path / "0/0.0.0").unlink()), "scan.zarr"),
    _scan("HDF5 that is text", "scan.h5", files.text, "scan.h5", more=UM5),
    _scan("HDF5 without a volume", "scan.h5", _hdf5(lambda file: file.create_dataset("a", data=1)), "scan.h5", more=UM5),
    _scan("HDF5 with two volumes", "scan.h5", _hdf5(lambda file: [file.create_dataset(name, data=SMALL) for name in "ab"]), "scan.h5", more=UM5),
    _scan("HDF5", "scan.h5", _hdf5(lambda file: file.create_dataset("a", data=SMALL)), more=UM5),
    _scan("HDF5 of text", "scan.h5", _hdf5(lambda file: file.create_dataset("a", data=np.full((9, 9, 9), b"x"))), "scan.h5", more=UM5),
    _scan("HDF5 of compounds", "scan.h5", _hdf5(lambda file: file.create_dataset("a", data=np.zeros((9, 9, 9), [("r", "f4"), ("i", "f4")]))), "scan.h5", more=UM5),
    _scan("HDF5 with a link to another file", "scan.h5", _hdf5(lambda file: file.__setitem__("a", __import__("h5py").ExternalLink("/etc/passwd", "/a"))), "scan.h5", more=UM5),
    _scan("HDF5 with a link to itself", "scan.h5", _hdf5(lambda file: file.__setitem__("a", __import__("h5py").SoftLink("/a"))), "scan.h5", more=UM5),
    _scan("HDF5 with a group in itself", "scan.h5", _hdf5(lambda file: file.create_group("g").__setitem__("g", file["g"])), "scan.h5", more=UM5),
    _scan("HDF5 of 10^15 voxels", "scan.h5", _hdf5(lambda file: file.create_dataset("a", shape=(10**5,) * 3, dtype="u2", chunks=(1, 512, 512))), "scan.h5", more=UM5),
    _scan("HDF5 cut in the middle", "scan.h5", lambda path: (_hdf5(lambda file: file.create_dataset("a", data=SMALL))(path), files.half(path)), "scan.h5", more=UM5),
]  # fmt: skip
