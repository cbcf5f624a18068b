"""Bad datalists, and slides that a datalist names, given to trainings."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.conftest import TINY
from tests.slow.bad_inputs import files
from tests.slow.bad_inputs.bench import Kind, Place

COMMAND = "training"
IDS = " ".join(f"--{name} {value}" for name, value in {**TINY, "epochs": 1, "decay_epochs": 0, "device": "cpu"}.items())
LINE = f"monai.bundle run training --config_file configs/train.json --dataset_dir <data> --output_dir <out> {IDS}"
NOISE = np.random.default_rng(0).integers(0, 255, (64, 72, 3), np.uint8)


def _list(name: str, change: Callable[[dict[str, Any]], Any], *says: str) -> Kind:
    return Kind(COMMAND, f"datalist: {name}", LINE, says, lambda place: place.relist(change))


def _entry(name: str, /, *says: str, **values: Any) -> Kind:
    return _list(name, lambda listed: listed["training"][0].update(values), *says)


def _side(name: str, /, *says: str, side: str = "source", **values: Any) -> Kind:
    return _list(name, lambda listed: listed[side].update(values), *says)


def _file(name: str, content: bytes | str, *says: str) -> Kind:
    def make(place: Place) -> None:
        raw = content if isinstance(content, bytes) else content.encode()
        (place.data / "datalist.json").write_bytes(raw)

    return Kind(COMMAND, f"datalist: {name}", LINE, says, make)


def _slide(name: str, spoil: files.Spoiler, *says: str, key: str = "source", suffix: str = ".png") -> Kind:
    def make(place: Place) -> None:
        path = place.data / key / "00.png"
        if suffix != ".png":
            path = path.rename(path.with_suffix(suffix))
            place.relist(lambda listed: listed["training"][0].update({key: f"{key}/00{suffix}"}))
        spoil(path)

    return Kind(COMMAND, f"{key}: {name}", LINE, says, make)


def _doubled(place: Place) -> None:
    path = place.data / "datalist.json"
    path.write_text('{"pixel_um": 4, ' + path.read_text()[1:])


def _encoded(name: str) -> Callable[[Place], None]:
    def make(place: Place) -> None:
        path = place.data / "datalist.json"
        path.write_bytes(path.read_text().encode(name))

    return make


def _as_folder(place: Place) -> None:
    files.folder(place.data / "datalist.json")


def _renamed(old: str, new: str) -> Callable[[Place], None]:
    def make(place: Place) -> None:
        os.rename(os.fsencode(place.data / old), os.fsencode(place.data) + b"/" + new.encode())
        place.relist(lambda listed: listed["training"][0].update(source=new))

    return make


def _leak(place: Place) -> None:
    (place.data / "source/02.png").write_bytes((place.data / "source/00.png").read_bytes())


KINDS = [
    _file("an empty file", b"", "datalist.json"),
    _file("a list at the top", b"[]", "datalist.json"),
    _file("a number", b"7", "datalist.json"),
    _file("zeros, as after a crash", b"\0" * 4096, "datalist.json"),
    _file("cut in the middle", b'{"pixel_um": 5, "source": {"na', "datalist.json"),
    _file("YAML", b"pixel_um: 5\nsource:\n  name: CT\n", "datalist.json"),
    _file("a trailing comma", b'{"pixel_um": 5,}', "datalist.json"),
    _file("100,000 brackets", b"[" * 100_000, "datalist.json"),
    _file("a number of 5,000 digits", b'{"pixel_um": ' + b"9" * 5000 + b"}", "datalist.json"),
    _file("an object without a key", b"{}", "datalist.json"),
    Kind(COMMAND, "datalist: UTF-16", LINE, ("datalist.json",), _encoded("utf-16")),
    Kind(COMMAND, "datalist: a BOM", LINE, (), _encoded("utf-8-sig")),
    Kind(COMMAND, "datalist: one key twice", LINE, ("pixel_um",), _doubled),
    Kind(COMMAND, "datalist: a folder of that name", LINE, ("datalist.json",), _as_folder),
    Kind(COMMAND, "datalist: a FIFO", LINE, ("datalist.json",), lambda place: files.pipe(place.data / "datalist.json")),
    Kind(
        COMMAND,
        "datalist: endless",
        LINE,
        ("datalist.json",),
        lambda place: files.endless(place.data / "datalist.json"),
    ),
    Kind(
        COMMAND,
        "datalist: a link to itself",
        LINE,
        ("datalist.json",),
        lambda place: files.loop(place.data / "datalist.json"),
    ),
    _list("no training", lambda listed: listed.pop("training"), "training"),
    _list("training is empty", lambda listed: listed.update(training=[]), "training"),
    _list("training is an object", lambda listed: listed.update(training={"0": {}}), "training"),
    _list("an entry is a file name", lambda listed: listed.update(training=["source/00.png"]), "training[0]"),
    _list("an entry is null", lambda listed: listed["training"].insert(0, None), "training[0]"),
    _list("an entry is a list", lambda listed: listed["training"].insert(0, [[[]]]), "training[0]"),
    _list("no source", lambda listed: listed["training"][0].pop("source"), "source"),
    _list("an unknown key", lambda listed: listed.update(trainin=[]), "trainin"),
    _list("a pair twice", lambda listed: listed["training"].append(listed["training"][0]), "training[2]"),
    _list("a test pair is a training pair", lambda listed: listed.update(testing=listed["training"][:1]), "rat 0"),
    _list("no pixel size", lambda listed: listed.pop("pixel_um"), "pixel_um"),
    _list("a pixel size of 0", lambda listed: listed.update(pixel_um=0), "pixel_um"),
    _list("a pixel size as text", lambda listed: listed.update(pixel_um="5 µm"), "pixel_um"),
    _list("a pixel size of two", lambda listed: listed.update(pixel_um=[5, 5]), "pixel_um"),
    _list("a pixel size of 1e-300", lambda listed: listed.update(pixel_um=1e-300), "pixel_um"),
    _list("a pixel size of NaN", lambda listed: listed.update(pixel_um=float("nan")), "pixel_um"),
    _list("no side", lambda listed: listed.pop("target"), "target"),
    _list("a side is text", lambda listed: listed.update(target="toluidine blue"), "target"),
    _side("a range backwards", "range", range=[65535, 0]),
    _side("a range of one value", "range", range=[7, 7]),
    _side("a range of three", "range", range=[0, 1, 2]),
    _side("a range of words", "range", range=["low", "high"]),
    _side("a range that holds no value of the slides", "range", range=[70000, 90000]),
    _side("a range of 1e308", "range", range=[-1e308, 1e308]),
    _side("channels as a word", "channels", channels="one"),
    _side("channels of 0", "channels", channels=0),
    _side("more channels than the slides have", "channels", channels=3),
    _side("fewer channels than the slides have", "channels", side="target", channels=1),
    _side("names for other channels", "channel_names", side="target", channel_names=["DAPI"]),
    _side("one name for two channels", "channel_names", side="target", channel_names=["a", "a", "b"]),
    _side("a name that is code", "name", name="$__import__('os').system('touch ran')"),
    _side("a name that opens a file", "name", name="%/etc/passwd"),
    _side("a name with a line break", "name", name="CT\nerror: none"),
    _side("a name of blanks", "name", name="   "),
    _side("intensities of a negative", bone_intensity=1, background_intensity=9, range=[0, 65535]),
    _side("one intensity alone", "background_intensity", bone_intensity=9),
    _side("both intensities alike", "intensity", bone_intensity=9, background_intensity=9),
    _entry("a source is null", "source", source=None),
    _entry("a source is a list", "source", source=["source/00.png"]),
    _entry("a source is a folder", "source", source="source"),
    _entry("a source is empty text", "source", source=""),
    _entry("a source with a NUL", "source", source="source/\0.png"),
    _entry("a source of 5,000 characters", "source", source="a" * 5000 + ".png"),
    _entry("a source with half a character", "source", source="\ud800.png"),
    _entry("a source on the web", "source", source="http://127.0.0.1:9/00.png"),
    _entry("a source is the datalist", "source", source="datalist.json"),
    _entry("a source is the target", "source", source="target/00.png"),
    _entry("a source is its mask", "source", source="mask/00.png"),
    _entry("a source is a Windows path", "source", source="C:\\data\\00.png"),
    _entry("a target of another pair", target="target/01.png"),
    _entry("a mask is true", "mask", mask=True),
    _entry("a specimen is a number", "specimen", specimen=1.5),
    _entry("a specimen is an object", "specimen", specimen={"rat": 1}),
    _entry("a specimen of both sides, written otherwise", "specimen", specimen=" RAT  2"),
    _entry("a fold is a word", "fold", fold="first"),
    _entry("a fold is -1", "fold", fold=-1),
    _entry("a fold is half", "fold", fold=0.5),
    _entry("a group is a list", "group", group=["Mg"]),
    _entry("a key that is none", "sauce", sauce="source/00.png"),
    _slide("an empty file", files.empty, "00.png"),
    _slide("cut in the middle", files.half, "00.png"),
    _slide("a flipped bit", files.flipped, "00.png"),
    _slide("an error page", files.text, "00.png"),
    _slide("a decompression bomb", files.bomb, "00.png"),
    _slide("no rows", files.no_rows, "00.png"),
    _slide("no size", files.no_size, "00.png"),
    _slide("a FIFO", files.pipe, "00.png"),
    _slide("endless", files.endless, "00.png"),
    _slide("a link to itself", files.loop, "00.png"),
    _slide("a link to nothing", files.dangling, "00.png"),
    _slide("a folder", files.folder, "00.png"),
    _slide("a pickle that runs a command", files.code, "00.png"),
    _slide("1 px", files.pixels(np.full((1, 1), 9, np.uint16)), "00.png"),
    _slide("another size than its target", files.pixels(np.full((64, 64), 9, np.uint16)), "00.png"),
    _slide("one colour", files.pixels(np.full((64, 72), 9, np.uint16)), "00.png"),
    _slide("8 bits where the range has 16", files.pixels(NOISE[..., 0]), "00.png"),
    _slide("with transparency", files.pixels(np.dstack([NOISE, NOISE[..., :1]])), "00.png"),
    _slide("a TIFF in a ring", files.ring, suffix=".tif"),
    _slide("a TIFF with pixels beyond its end", files.beyond, "00.tif", suffix=".tif"),
    _slide("NaN", files.pixels(np.full((64, 72), np.nan, np.float32)), "00.tif", suffix=".tif"),
    _slide("infinite", files.pixels(np.full((64, 72), np.inf, np.float32)), "00.tif", suffix=".tif"),
    _slide("complex numbers", files.pixels(np.ones((64, 72), np.complex64)), "00.tif", suffix=".tif"),
    _slide("64-bit whole numbers", files.pixels(np.full((64, 72), 2**60, np.int64)), "00.tif", suffix=".tif"),
    _slide("five pages", files.pixels(np.zeros((5, 64, 72), np.uint16)), "00.tif", suffix=".tif"),
    _slide("bits", files.pixels(np.zeros((64, 72), bool)), "00.tif", suffix=".tif"),
    _slide("a PNG named .tif", lambda path: None, "00.tif", suffix=".tif"),
    _slide("an unknown suffix", lambda path: None, "00.gif", suffix=".gif"),
    _slide("nothing inside", files.pixels(np.zeros((64, 72), np.uint8)), "00.png", key="mask"),
    _slide("another size", files.pixels(np.zeros((32, 32), np.uint8)), "00.png", key="mask"),
    _slide("in colour", files.pixels(NOISE), "00.png", key="mask"),
    _slide("grey levels", files.pixels(NOISE[..., 0]), key="mask"),
    _slide("of NaN", files.pixels(np.full((64, 72), np.nan, np.float32)), "00.tif", key="mask", suffix=".tif"),
    _slide(
        "inside by one pixel", files.pixels(np.eye(1, 64 * 72, 700, dtype=np.uint8).reshape(64, 72) * 255), key="mask"
    ),
    Kind(COMMAND, "source: a name in Japanese with blanks", LINE, (), _renamed("source/00.png", "source/標本 1 .png")),
    Kind(COMMAND, "source: a name like an option", LINE, (), _renamed("source/00.png", "--help.png")),
    Kind(COMMAND, "source: a name that is code", LINE, (), _renamed("source/00.png", "$(touch ran);@data%.png")),
    Kind(COMMAND, "source: a name with a line break", LINE, ("training[0]",), _renamed("source/00.png", "a\nb.png")),
    Kind(COMMAND, "source: a training slide copied to testing", LINE, ("source/02.png",), _leak),
]
