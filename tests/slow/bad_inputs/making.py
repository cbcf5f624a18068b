"""Bad options and files, given to the commands that make datasets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from tests.helpers.volumes import make_voxels, write_scan
from tests.slow.bad_inputs import files
from tests.slow.bad_inputs.bench import Kind, Place

PHANTOM = "scripts.phantom --output <out> --pairs 1 --size 64 --voxel_um 10 --screw_mm 0.2 --volumes false"
LABORATORY = "scripts.laboratory --output <out> --specimens 1 --size 64 --voxel_um 10 --screw_mm 0.2"
CELLS = "scripts.cells --output <out> --tiles 1 --testing 1 --size 64"
TILE = "scripts.tile --source <slides>/he --source_name HE --target <slides>/ki67 --target_name Ki67 --output <out> --tile 32"
INTENSITIES = "scripts.intensities --input <scan>/scan.nii.gz --output <here>/rois.png"
REGISTER = "scripts.register --volume <scan>/scan.nii.gz --section <data>/target/00.png --output <out>"
PREPARE = "scripts.prepare --pairs <pairs> --output <out> --approve true"
VERSIONS = "scripts.versions --dataset_dir <data> --output <out>"
SERIES = "scripts.series --input <scan>/scan.nii.gz --output <out>"


def _of(command: str, line: str) -> Callable[..., Kind]:
    """Kinds of a command that are options alone, or files that are made first."""

    def kind(more: str, *says: str, name: str = "", make: Callable[[Place], Any] = lambda place: None) -> Kind:
        return Kind(command, name or more, f"{line} {more}", says, make)

    return kind


phantom, laboratory, cells = _of("phantom", PHANTOM), _of("laboratory", LABORATORY), _of("cells", CELLS)
tile, intensities, register = _of("tile", TILE), _of("intensities", INTENSITIES), _of("register", REGISTER)
prepare, versions, series = _of("prepare", PREPARE), _of("versions", VERSIONS), _of("series", SERIES)


def _full(place: Place) -> None:
    place.out.mkdir()
    place.file("out/there.txt").write_text("x")


def _scan(voxels: np.ndarray) -> Callable[[Place], Any]:
    return lambda place: write_scan(place.scan / "scan.nii.gz", voxels)


def _drawn(content: Any) -> Callable[[Place], Any]:
    return lambda place: place.file("rois.json").write_text(
        content if isinstance(content, str) else json.dumps(content)
    )


def _table(text: str) -> Callable[[Place], Any]:
    return lambda place: place.file("table.csv").write_bytes(text.encode("utf-8") if isinstance(text, str) else text)


def _he(spoil: files.Spoiler) -> Callable[[Place], Any]:
    return lambda place: spoil(place.slides / "he/s1.tif")


def _pair(name: str, spoil: files.Spoiler) -> Callable[[Place], Any]:
    return lambda place: spoil(place.pairs / "01" / name)


def _stated(**changes: Any) -> Callable[[Place], Any]:
    def make(place: Place) -> None:
        path = place.pairs / "01/registration.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return make


def _bare(path: Path) -> None:
    tifffile.imwrite(path, tifffile.imread(path), photometric="rgb")


BIG = make_voxels((40, 48, 40))
KINDS = [
    *(phantom(f"--{name} {value}", name) for name, value in [
        ("pairs", "0"), ("pairs", "1.5"), ("pairs", "many"), ("pairs", "None"), ("seed", "-1"), ("seed", "x"), ("size", "0"),
        ("size", "-64"), ("size", "1000000"), ("size", "64.5"), ("size", "big"), ("voxel_um", "0"), ("voxel_um", "-5"),
        ("voxel_um", "nan"), ("voxel_um", "1e9"), ("voxel_um", "[5,5,5]"), ("screw_mm", "-1"), ("screw_mm", "100"),
        ("material", "Fe"), ("material", "[Mg]"), ("stain", "gram"), ("stain", "1"), ("volumes", "maybe"),
        ("spoiling", "cracks"), ("spoiling", "'{crack: 1}'"), ("spoiling", "'{cracks: many}'"), ("spoiling", "'{cracks: -1}'"),
        ("spoiling", "'{cracks: 1e9}'"), ("spoiling", "'{shear: nan}'"), ("spoiling", "'[1,2]'"), ("paris", "3")]),
    phantom("", "out", name="a folder that is not empty", make=_full),
    phantom("--output /dev/null/x", "/dev/null"),
    phantom("--output", "output", name="--output and nothing"),
    phantom("extra", "extra", name="a word without an option"),
    Kind("phantom", "no option at all", "scripts.phantom", ("output",)),
    *(laboratory(f"--{name} {value}", name) for name, value in [
        ("specimens", "0"), ("specimens", "x"), ("size", "4"), ("voxel_um", "0"), ("screw_mm", "99"), ("lying", "2"), ("stain", "x")]),
    *(cells(f"--{name} {value}", name) for name, value in [
        ("tiles", "-1"), ("tiles", "x"), ("testing", "-1"), ("size", "1"), ("size", "x"), ("size", "10000000"), ("pixel_um", "0"), ("pixel_um", "100"),
        ("labelling_index", "2"), ("labelling_index", "nan"), ("seed", "-2")]),
    *(tile(f"--{name} {value}", *says) for name, value, *says in [
        ("tile", "0", "tile"), ("tile", "-5", "tile"), ("tile", "1000", "1000"), ("tile", "x", "tile"), ("tile", "32.5", "tile"),
        ("overlap", "32", "overlap"), ("overlap", "-1", "overlap"), ("overlap", "x", "overlap"), ("testing_overlap", "99", "testing_overlap"),
        ("tile_um", "0", "tile_um"), ("tile_um", "-1", "tile_um"), ("tile_um", "x", "tile_um"), ("tile_um", "1e9", "tile_um"),
        ("tile_um", "0.1", "tile_um"), ("shrink", "0", "shrink"), ("shrink", "nan", "shrink"), ("shrink", "1e9", ""), ("pixel_um", "0", "pixel_um"),
        ("pixel_um", "x", "pixel_um"), ("pixel_um", "'[1,2,3]'", "pixel_um"), ("testing", "s9", "s9"), ("testing", "2", "testing"),
        ("testing", "-0.1", "testing"), ("testing", "'[s1,s2]'", "train"), ("testing", "0.0001"), ("testing", "'{a: 1}'", "testing"),
        ("hold_out", "right", "hold_out"), ("hold_out", "up:0.3", "hold_out"), ("hold_out", "right:2", "hold_out"), ("hold_out", "right:x", "hold_out"),
        ("hold_out", "5", "hold_out"), ("paired_testing", "x", "paired_testing"), ("specimens", "<here>/none.csv", "none.csv"),
        ("seed", "x", "seed"), ("seed", "-1", "seed"), ("least_tissue", "2", "least_tissue"), ("least_tissue", "x", "least_tissue"), ("source_range", "5", "source_range"),
        ("source_range", "'[9,1]'", "source_range"), ("source_kind", "x-ray", "source_kind"),
        ("source_threshold", "x", "source_threshold"), ("source_channels", "DAPI", "source_channels"), ("source_channels", "'{DAPI: 9}'", "source_channels"),
        ("source_name", "'$x'", "source_name"), ("source_name", "''", "source_name"), ("source", "<here>/none", "none"),
        ("source", "5", "source"), ("target", "<data>/datalist.json", "datalist.json")]),
    tile("", "s1.tif", name="an empty slide", make=_he(files.empty)),
    tile("", "s1.tif", name="a slide cut in the middle", make=_he(files.half)),
    tile("", "s1.tif", name="a slide that is text", make=_he(files.text)),
    tile("", "s1.tif", name="a slide that is a FIFO", make=_he(files.pipe)),
    tile("", "s1.tif", name="a slide that is a link to nothing", make=_he(files.dangling)),
    tile("", "s1.tif", name="a slide in grey among RGB", make=_he(files.pixels(np.zeros((96, 128), np.uint8)))),
    tile("", "s1.tif", name="a slide of glass alone", make=_he(files.pixels(np.full((96, 128, 3), 255, np.uint8), photometric="rgb", resolution=(20000, 20000), resolutionunit=3))),
    tile("--tile_um 1", "s1.tif", name="a slide without a pixel size", make=_he(_bare)),
    tile("--specimens <here>/table.csv", "table.csv", name="a table that is empty", make=_table("")),
    tile("--specimens <here>/table.csv", "slide", name="a table with other columns", make=_table("a,b\n1,2\n")),
    tile("--specimens <here>/table.csv", "s2", name="a table that lacks a slide", make=_table("slide,specimen\ns1,r1\n")),
    tile("--specimens <here>/table.csv", "table.csv", name="a table in UTF-16", make=lambda place: place.file("table.csv").write_bytes("slide,specimen\ns1,r1\n".encode("utf-16"))),
    tile("--specimens <here>/table.csv", "s1", name="a table with a slide twice", make=_table("slide,specimen\ns1,r1\ns1,r2\ns2,r2\n")),
    tile("--specimens <here>/table.csv", "table.csv", name="a table with a NUL", make=_table("slide,specimen\ns1,\0\ns2,r2\n")),
    intensities("", name="a scan of noise"),
    intensities("--output <here>/rois.jpg", "rois.jpg"),
    intensities("--output /dev/null/rois.png", "/dev/null"),
    intensities("--metal perhaps", "metal"),
    intensities("--input <here>/none.nii", "none.nii"),
    intensities("--input <data>/target/00.png", "00.png"),
    intensities("--input <data>/mask/00.png", "00.png"),
    intensities("", "scan.nii.gz", name="a scan of one value", make=_scan(np.full((12, 40, 36), 7, np.uint16))),
    intensities("", "scan.nii.gz", name="a scan of NaN", make=_scan(np.full((12, 40, 36), np.nan, np.float32))),
    intensities("", name="a scan of two values", make=_scan((BIG > 20000).astype(np.uint8))),
    intensities("--rois <here>/none.json", "none.json"),
    *(intensities("--rois <here>/rois.json", *says, name=f"rois: {name}", make=_drawn(content)) for name, content, *says in [
        ("no JSON", "{", "rois.json"), ("a list", [], "rois.json"), ("no background", {"bone": [[0, 0, 5, 5]], "slice": 3}, "background"),
        ("a region outside", {"bone": [[0, 0, 500, 5]], "background": [[9, 9, 5, 5]], "slice": 3}, "rois.json"),
        ("a negative region", {"bone": [[-5, 0, 5, 5]], "background": [[9, 9, 5, 5]], "slice": 3}, "rois.json"),
        ("a region of words", {"bone": [["a", 0, 5, 5]], "background": [[9, 9, 5, 5]], "slice": 3}, "rois.json"),
        ("a region of three", {"bone": [[0, 5, 5]], "background": [[9, 9, 5, 5]], "slice": 3}, "rois.json"),
        ("a region of nothing", {"bone": [[0, 0, 0, 5]], "background": [[9, 9, 5, 5]], "slice": 3}, "rois.json"),
        ("a slice beyond", {"bone": [[0, 0, 5, 5]], "background": [[9, 9, 5, 5]], "slice": 400}, "400"),
        ("a slice as a word", {"bone": [[0, 0, 5, 5]], "background": [[9, 9, 5, 5]], "slice": "x"}, "slice"),
        ("no slice", {"bone": [[0, 0, 5, 5]], "background": [[9, 9, 5, 5]]}, "slice"),
        ("bone and background alike", {"bone": [[0, 0, 5, 5]], "background": [[0, 0, 5, 5]], "slice": 3}, "rois.json")]),
    intensities("--rois <data>/target/00.png --slice 3", "00.png"),
    intensities("--slice x --rois <here>/rois.json", "slice", make=_drawn({"bone": [[0, 0, 5, 5]], "background": [[9, 9, 5, 5]]})),
    *(register(f"--{name} {value}", *says) for name, value, *says in [
        ("volume", "<here>/none.nii", "none.nii"), ("volume", "<data>/target/00.png", "00.png"), ("section", "<here>/none.png", "none.png"),
        ("section", "<scan>/scan.nii.gz", "scan.nii.gz"), ("section", "<data>/datalist.json", "datalist.json"), ("voxel_um", "0", "voxel_um"), ("voxel_um", "x", "voxel_um"),
        ("voxel_um", "1e6 --pixel_um 5", "voxel"), ("voxel_um", "0.001", ""), ("scan_voxel_um", "0", "scan_voxel_um"), ("scan_voxel_um", "x", "scan_voxel_um"), ("scan_voxel_um", "'[1,2]'", "scan_voxel_um"),
        ("pixel_um", "-1", "pixel_um"), ("pixel_um", "x", "pixel_um"), ("pixel_um", "1e9 ", "pixel"), ("crop", "5 --pixel_um 5", "crop"),
        ("crop", "'[0,0,9]' --pixel_um 5", "crop"), ("crop", "'[0,0,9000,9000]' --pixel_um 5", "crop"), ("crop", "'[a,b,c,d]' --pixel_um 5", "crop"), ("crop", "'[0,0,0,0]' --pixel_um 5", "crop"),
        ("guess", "q=5 --pixel_um 5", "guess"), ("guess", "z=5000 --pixel_um 5", "guess"), ("guess", "z=x --pixel_um 5", "guess"), ("guess", "<here>/none.json --pixel_um 5", "guess"),
        ("guess", "<data>/datalist.json --pixel_um 5", "datalist.json"), ("guess", "'[[1,2,3]]' --pixel_um 5", "guess"), ("guess", "'[[0,0,0],[0,0,0],[0,0,0]]' --pixel_um 5", "guess"),
        ("turn_deg", "x --guess z=20 --pixel_um 5", "turn_deg"), ("guess_deg", "-5 --guess z=20 --pixel_um 5", "guess_deg"), ("guess_um", "nan --guess z=20 --pixel_um 5", "guess_um"),
        ("slab_um", "-1 --pixel_um 5", "slab_um"), ("slab_um", "1e9 --pixel_um 5", "slab_um"), ("refine", "maybe --pixel_um 5", "refine"), ("mirrored", "x --pixel_um 5", "mirrored"),
        ("seed", "x --pixel_um 5", "seed"), ("seed", "-1 --pixel_um 5", "seed"), ("fill_nan", "x --pixel_um 5", "fill_nan"),
        ("volume_landmarks", "<here>/none.csv --section_landmarks <here>/none.csv --pixel_um 5", "none.csv"), ("section_landmarks", "<here>/none.csv --pixel_um 5", "volume_landmarks"),
        ("output", "<scan>/scan.nii.gz --pixel_um 5", "scan.nii.gz")]),
    register("", "pixel_um", name="a section without a pixel size"),
    register("--pixel_um 5", "scan.nii.gz", name="a scan of one value", make=_scan(np.full((40, 48, 40), 7, np.uint16))),
    register("--pixel_um 5", "scan.nii.gz", name="a scan of NaN", make=_scan(np.full((40, 48, 40), np.nan, np.float32))),
    register("--pixel_um 5", "00.png", name="a section of one colour", make=lambda place: files.pixels(np.full((64, 72, 3), 9, np.uint8))(place.data / "target/00.png")),
    register("--pixel_um 5", "00.png", name="a section of 1 px", make=lambda place: files.pixels(np.full((1, 1, 3), 9, np.uint8))(place.data / "target/00.png")),
    register("--pixel_um 5", "00.png", name="a section that is a bomb", make=lambda place: files.bomb(place.data / "target/00.png")),
    register("--pixel_um 5 --volume_landmarks <here>/table.csv --section_landmarks <here>/table.csv", "table.csv", name="landmarks of words", make=_table("z,y,x\na,b,c\n")),
    *(prepare(f"--{name} {value}", *says) for name, value, *says in [
        ("pairs", "<here>/none", "none"), ("pairs", "<data>", "registration.json"), ("c", "-1", "c"), ("c", "x", "c"), ("c_prime", "nan", "c_prime"), ("c", "1e9", "c"),
        ("margin_px", "-1", "margin_px"), ("margin_px", "x", "margin_px"), ("margin_px", "1e9", "margin_px"), ("keep", "99", "99"), ("keep", "'{a: 1}'", "keep"), ("table", "<here>/none.csv", "none.csv"),
        ("approve", "x", "approve"), ("replace", "x", "replace"), ("source_name", "'@x'", "source_name"), ("target_name", "''", "target_name"), ("output", "<pairs>", "pairs")]),
    *(prepare("--table <here>/table.csv", *says, name=f"table: {name}", make=_table(text)) for name, text, *says in [
        ("empty", "", "table.csv"), ("other columns", "a,b\n", "table.csv"), ("a pair that is not there", "pair,specimen,group,split,fold\n77,r,Mg,training,0\n", "77"),
        ("a split that is none", "pair,specimen,group,split,fold\n01,r,Mg,train,0\n", "train"), ("a fold of words", "pair,specimen,group,split,fold\n01,r,Mg,training,a\n", "fold"),
        ("a fold of 5,000 digits", "pair,specimen,group,split,fold\n01,r,Mg,training," + "9" * 5000 + "\n", "fold"), ("a NUL", "pair,specimen,group,split,fold\n01,a\0,Mg,training,0\n", "specimen"), ("a negative fold", "pair,specimen,group,split,fold\n01,r,Mg,training,-1\n", "fold"), ("a specimen that is code", "pair,specimen,group,split,fold\n01,$x,Mg,training,0\n"),
        ("no specimen", "pair,specimen,group,split,fold\n01,,Mg,training,0\n"), ("a row too short", "pair,specimen,group,split,fold\n01\n"),
        ("a row too long", "pair,specimen,group,split,fold\n01,r,Mg,training,0,9,9\n", "table.csv"), ("nothing to train on", "pair,specimen,group,split,fold\n01,r,Mg,testing,\n", "training")]),
    *(prepare("", file.partition(".")[0], name=f"{file}: {name}", make=_pair(file, spoil)) for file in ("source.tif", "target.png", "field.png") for name, spoil in [
        ("empty", files.empty), ("cut in the middle", files.half), ("gone", lambda path: path.unlink()), ("of another size", files.pixels(np.zeros((9, 9), np.uint8)))]),
    prepare("", "source.tif", name="source.tif: NaN", make=_pair("source.tif", files.pixels(np.full((160, 160), np.nan, np.float32)))),
    prepare("", "registration.json", name="registration.json: no JSON", make=_pair("registration.json", lambda path: path.write_text("{"))),
    prepare("", "registration.json", name="registration.json: a list", make=_pair("registration.json", lambda path: path.write_text("[]"))),
    prepare("", "registration.json", name="registration.json: empty", make=_pair("registration.json", lambda path: path.write_text("{}"))),
    prepare("", "voxel_um", name="registration.json: voxels of 0", make=_stated(voxel_um=0)),
    prepare("", "voxel_um", name="registration.json: voxels of words", make=_stated(voxel_um="x")),
    prepare("", "accepted", name="registration.json: accepted as a word", make=_stated(accepted="yes")),
    prepare("", "01", name="registration.json: not accepted", make=_stated(accepted=False)),
    *(versions(f"--{name} {value}", *says) for name, value, *says in [
        ("misalign_px", "x", "misalign_px"), ("misalign_px", "'[-1]'", "misalign_px"), ("misalign_px", "'[nan]'", "misalign_px"), ("misalign_px", "5"), ("misalign_px", "'[1e9]'", "misalign_px"),
        ("misalign_px", "'{a: 1}'", "misalign_px"), ("pairs_per_fold", "'[0]'", "pairs_per_fold"), ("pairs_per_fold", "'[99]'", "pairs_per_fold"), ("pairs_per_fold", "x", "pairs_per_fold"), ("pairs_per_fold", "'[1.5]'", "pairs_per_fold"),
        ("material", "x", "material"), ("datalist", "none.json", "none.json"), ("seed", "x --misalign_px '[2]'", "seed"), ("seed", "-1 --misalign_px '[2]'", "seed"), ("dataset_dir", "/nowhere", "/nowhere"), ("output", "<data>", "data"),
        ("output", "<data>/datalist.json", "datalist.json"), ("datalist", "../x.json", "x.json")]),
    *(series(f"--{name} {value}", *says) for name, value, *says in [
        ("input", "<here>/none.nii", "none.nii"), ("output", "<scan>", "scan"), ("output", "<scan>/scan.nii.gz", "scan.nii.gz"), ("voxel_um", "0", "voxel_um"), ("voxel_um", "x", "voxel_um"), ("voxel_um", "'[1,2]'", "voxel_um"),
        ("patient_id", "''"), ("patient_id", "'" + "x" * 100 + "'", "patient_id"), ("patient_id", r"'a\b'", "patient_id"), ("description", "'" + "x" * 1000 + "'", "description")]),
    series("", "scan.nii.gz", name="a scan of fractions", make=_scan(BIG.astype(np.float32) + 0.5)),
    series("", "scan.nii.gz", name="a scan of 32 bits", make=_scan(BIG.astype(np.int32) * 99)),
]  # fmt: skip
