"""A stained volume as one uncompressed OME-BigTIFF.

It states the voxel size; OME has no field for an origin or a direction, so these are in an annotation that only this
program reads.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import tifffile

from bundle.images.slides import TIFF
from bundle.images.stained.flat import Flat
from bundle.images.stained.formats import register
from bundle.images.stained.spec import StainSpec

NAMESPACE = "virtual_staining"  # of the annotation that holds the stamp
ALIGN = 4096  # pixels of a TIFF begin at a multiple: a page of memory and a block of any disk
OME = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    ' xsi:schemaLocation="http://www.openmicroscopy.org/Schemas/OME/2016-06'
    ' http://www.openmicroscopy.org/Schemas/OME/2016-06/ome.xsd" Creator="virtual-staining">'
    '<Image ID="Image:0" Name="stained"><Description>{note}</Description>'
    '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SignificantBits="8" Interleaved="true"'
    ' BigEndian="false" SizeX="{x}" SizeY="{y}" SizeC="{c}" SizeZ="{z}" SizeT="1"{sizes}>'
    '<Channel ID="Channel:0:0" SamplesPerPixel="{c}"/><TiffData IFD="0" PlaneCount="{z}"/></Pixels>'
    '<AnnotationRef ID="Annotation:0"/></Image>'
    '<StructuredAnnotations><CommentAnnotation ID="Annotation:0" Namespace="{namespace}">'
    "<Value>{stamp}</Value></CommentAnnotation></StructuredAnnotations></OME>"
)
NOTE = "Virtual stain computed from µCT, for research only."


def _ome_xml(spec: StainSpec) -> bytes:
    z, y, x = spec.shape
    steps = zip("ZYX", spec.geometry.spacing_um, strict=True)
    sizes = "".join(f' PhysicalSize{axis}="{step!r}" PhysicalSize{axis}Unit="µm"' for axis, step in steps)
    stamp = escape(json.dumps(spec.stamp(), default=str))
    xml = OME.format(note=NOTE, namespace=NAMESPACE, stamp=stamp, sizes=sizes, x=x, y=y, z=z, c=spec.channels)
    return xml.encode("utf-8") + b"\0"


def _tiff_tags(spec: StainSpec, number: int, description: tuple[int, int], pixels: int) -> list[bytes]:
    """The tags of slice ``number``, in the order that TIFF demands.

    Args:
        spec: what is written.
        number: the slice; the first carries the OME metadata.
        description: where these begin and how long they are.
        pixels: where the first slice's voxels begin.
    """
    _, y, x = spec.shape
    size = y * x * spec.channels

    def tag(code: int, kind: str, *values: int) -> bytes:
        number = {"H": 3, "I": 4, "Q": 16, "II": 5}[kind]
        packed = struct.pack("<" + (kind if kind == "II" else kind * len(values)), *values)
        return struct.pack("<HHQ", code, number, 1 if kind == "II" else len(values)) + packed.ljust(8, b"\0")

    # pixels per cm; both numbers have 32 bits, and voxels of 1 µm are right to a hundred-thousandth
    across, down = ((10**9, min(max(round(1e5 * step), 1), 2**32 - 1)) for step in spec.geometry.spacing_um[:0:-1])
    tags = [
        tag(256, "I", x),
        tag(257, "I", y),
        tag(258, "H", *[8] * spec.channels),
        tag(259, "H", 1),  # not compressed
        tag(262, "H", 2),  # RGB
        tag(273, "Q", pixels + number * size),
        tag(277, "H", spec.channels),
        tag(278, "I", y),
        tag(279, "Q", size),
        tag(282, "II", *across),
        tag(283, "II", *down),
        tag(284, "H", 1),  # a voxel's channels together
        tag(296, "H", 3),  # centimetres
    ]
    if number == 0:
        tags.insert(5, struct.pack("<HHQQ", 270, 2, description[1], description[0]))
    if spec.channels == 4:
        tags.append(tag(338, "H", 2))  # alpha by which the colours are not multiplied
    return tags


def tiff_header(spec: StainSpec) -> bytes:
    """All of a BigTIFF up to its voxels: signature, one directory per slice, OME metadata."""
    xml = _ome_xml(spec)
    sizes = [16 + 20 * len(_tiff_tags(spec, number, (0, 0), 0)) for number in (0, 1)]
    description = 16 + sizes[0] + (spec.shape[0] - 1) * sizes[1]
    pixels = -(-(description + len(xml)) // ALIGN) * ALIGN
    header = [struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16)]
    at = 16
    for number in range(spec.shape[0]):
        tags = _tiff_tags(spec, number, (description, len(xml)), pixels)
        at += sizes[min(number, 1)]
        following = at if number + 1 < spec.shape[0] else 0
        header += [struct.pack("<Q", len(tags)), *tags, struct.pack("<Q", following)]
    return b"".join([*header, xml]).ljust(pixels, b"\0")


def read_tiff_header(path: Path) -> tuple[dict[str, Any], tuple[int, int, int], int, int]:
    """The stamp, shape (Z, Y, X), channels and first byte of the voxels of a TIFF."""
    with tifffile.TiffFile(path) as file:
        annotations = ElementTree.fromstring(file.ome_metadata or "<OME/>").iter()
        found = next((each for each in annotations if each.get("Namespace") == NAMESPACE), None)
        stamp = json.loads("".join(found.itertext())) if found is not None else {}
        y, x, channels = file.pages.first.shape
        return stamp, (len(file.pages), y, x), channels, file.pages.first.dataoffsets[0]


register(Flat("tif", "stained.ome.tif", "OME-TIFF", TIFF, tiff_header, read_tiff_header))
