"""What an OME-TIFF of a stained slide says of itself: size of its pixels, channels, and that it is no real stain."""

from __future__ import annotations

import json
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from bundle.images.dicom.words import printable
from bundle.images.stained_slides.spec import SlideSpec

SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
NAMESPACE = "virtual_staining"  # of the annotation that holds the stamp
TYPES = {"u1": "uint8", "u2": "uint16", "f4": "float"}


def note_of(spec: SlideSpec) -> str:
    """What a slide is, in words; which stain of what, if ``about`` names ``stain`` and ``source``."""
    stain, source = spec.about.get("stain"), spec.about.get("source")
    what = f"Virtual {printable(stain)} stain" if isinstance(stain, str) else "Virtual stain"
    if spec.kind.kind == "f":
        what = f"Expected error of a {what[0].lower()}{what[1:]}"
    origin = f" from {printable(source)}" if isinstance(source, str) else ""
    return f"SYNTHETIC. {what}, computed{origin}; no real stain. Research only, not for diagnosis."


def stamp_text(spec: SlideSpec) -> str:
    """The stamp as JSON of ASCII, which every format keeps as it is."""
    return json.dumps(spec.stamp(), default=str)


def signed_colour(colour: str) -> str:
    """A colour, RGB in hexadecimals, as OME has it: RGBA in a signed integer of 32 bits.

    >>> signed_colour("FF0000")
    '-16776961'
    """
    number = int(f"{colour}FF", 16)
    return str(number - (1 << 32) if number >= 1 << 31 else number)


def ome_xml(spec: SlideSpec) -> bytes:
    """The metadata, UTF-8: one image of one plane, or of a plane a channel; the levels are for the TIFF to tell."""
    root = Element("OME", {"xmlns": SCHEMA, "Creator": "virtual-staining"})
    root.set("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance")
    root.set("xsi:schemaLocation", f"{SCHEMA} {SCHEMA}/ome.xsd")
    image = SubElement(root, "Image", ID="Image:0", Name=printable(spec.name))
    SubElement(image, "Description").text = note_of(spec)
    pixels = SubElement(image, "Pixels", ID="Pixels:0", DimensionOrder="XYCZT", Type=TYPES[spec.kind.str[1:]])
    pixels.set("BigEndian", "false")
    if spec.rgb:
        pixels.set("Interleaved", "true")
    sizes = {"X": spec.shape[1], "Y": spec.shape[0], "C": spec.channels, "Z": 1, "T": 1}
    for axis, size in sizes.items():
        pixels.set(f"Size{axis}", str(size))
    for axis in "XY":
        pixels.set(f"PhysicalSize{axis}", repr(float(spec.pixel_um)))
        pixels.set(f"PhysicalSize{axis}Unit", "µm")
    if spec.rgb:
        SubElement(pixels, "Channel", ID="Channel:0:0", SamplesPerPixel="3")
    else:
        for number, (name, colour) in enumerate(zip(spec.channel_names, spec.colours, strict=True)):
            channel = SubElement(pixels, "Channel", ID=f"Channel:0:{number}", SamplesPerPixel="1")
            channel.set("Name", printable(name))
            channel.set("Color", signed_colour(colour))
    planes = 1 if spec.rgb else spec.channels
    for plane in range(planes):
        SubElement(pixels, "TiffData", IFD=str(plane), FirstC=str(plane), PlaneCount="1")
    SubElement(image, "AnnotationRef", ID="Annotation:0")
    notes = SubElement(root, "StructuredAnnotations")
    comment = SubElement(notes, "CommentAnnotation", ID="Annotation:0", Namespace=NAMESPACE)
    SubElement(comment, "Value").text = stamp_text(spec)
    return b'<?xml version="1.0" encoding="UTF-8"?>' + ElementTree.tostring(root, encoding="utf-8")
