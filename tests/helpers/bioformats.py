"""Bio-Formats, by which QuPath, Fiji and OMERO read: its own programs, run on a file."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile

from tests.hospital.conftest import bio_formats, needs

JAVA = "-Xmx512m -Dfile.encoding=UTF-8 -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # which starts in less time


@dataclass(frozen=True)
class Seen:
    """What Bio-Formats says of a file's only image.

    Attributes:
        reader: its name for the format.
        shape: (rows, columns).
        widths: columns of each resolution.
        image: its metadata as OME has them.
        text: all that was said.
    """

    reader: str
    shape: tuple[int, int]
    widths: list[int]
    image: ElementTree.Element
    text: str

    def all(self, name: str) -> list[ElementTree.Element]:
        """Elements of the image's metadata."""
        return [each for each in self.image.iter() if each.tag.endswith(f"}}{name}")]


def _run(tool: str, *options: str) -> str:
    needs("Java", "Bio-Formats")
    command = ["java", *JAVA.split(), "-cp", str(bio_formats()), f"loci.formats.tools.{tool}"]
    done = subprocess.run([*command, *options], capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return done.stdout.decode()


def look(path: Path) -> Seen:
    """What it sees in a file."""
    text = _run("ImageInfo", "-nopix", "-noflat", "-no-upgrade", "-omexml", str(path))
    assert "Series count = 1\n" in text
    assert "No validation errors found." in text
    (reader,) = re.findall(r"Checking file format \[(.*)\]", text)
    height, width = (int(re.findall(rf"\t{name} = (\d+)", text)[0]) for name in ("Height", "Width"))
    widths = [int(each) for each in re.findall(r"sizeX\[\d+\] = (\d+)", text)] or [width]
    xml = text[text.index("<OME ") : text.rindex("</OME>") + 6]
    image = next(each for each in ElementTree.fromstring(xml).iter() if each.tag.endswith("}Image"))
    return Seen(reader, (height, width), widths, image, text)


def pixels(path: Path, work: Path, level: int, box: tuple[slice, slice]) -> np.ndarray:
    """(h, w, C) of a box of a level."""
    down, across = box
    crop = f"{across.start},{down.start},{across.stop - across.start},{down.stop - down.start}"
    cut = work / "cut.ome.tif"
    _run("ImageConverter", "-no-upgrade", "-overwrite", "-series", str(level), "-crop", crop, str(path), str(cut))
    with tifffile.TiffFile(cut) as file:
        series = file.series[0]
        found = series.asarray()
        return np.moveaxis(found, 0, -1) if series.axes in ("CYX", "SYX") else found.reshape(*found.shape[:2], -1)
