"""Text of one object in another to the byte: what its characters mean is for whoever reads it to say."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.sequence import Sequence as Items
from pydicom.tag import BaseTag, Tag

from bundle.images.dicom.slices import read_file
from bundle.images.dicom.source import Source
from bundle.images.dicom.tags import value_of

CHARACTERS = "SpecificCharacterSet"
TEXT = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
CODED = ("LO", "LT", "PN", "SH", "ST", "UC", "UT")  # those that a character set says how to read


class Undecoded(DataElement):
    """An element that pydicom writes as the bytes that it is given; its own raw elements it decodes before that."""

    is_raw = True

    def __init__(self, tag: BaseTag, vr: str, content: bytes) -> None:
        super().__init__(tag, "OB", content)  # in which a backslash is a byte like any other
        self.VR, self.length = vr, len(content)


def first_of(source: Source) -> Dataset:
    """The header of a series' first slice, of which nothing is decoded yet where it has a file: pydicom keeps no bytes.

    Raises:
        InputError: if the file cannot be read any more.
    """
    return read_file(source.paths[0]) if source.paths else source.instances[0]


def copy_text(new: Dataset, theirs: Dataset, keyword: str) -> None:
    """Copy an element that holds text, or a sequence of such, as its bytes are; one that is absent or empty is not.

    A PACS files an object under the patient that it takes the bytes for. Decoding them would depend on a character set
    that may be missing, wrong or one of several, so no other than the source's own is right.

    Args:
        new: where to; it must have the same ``SpecificCharacterSet`` as ``theirs``, or none likewise.
        theirs: the source; elements that were decoded before are encoded again as pydicom does.
        keyword: of the element, whose VR is the dictionary's.
    """
    tag = Tag(keyword)
    if tag not in theirs:
        return
    kept, vr = theirs.get_item(tag), dictionary_VR(tag)  # before it is asked for its value, which decodes it
    value = value_of(theirs, keyword)
    if isinstance(value, Items):
        new.add_new(tag, vr, Items(map(_copy_item, value)))
    elif value is not None and vr in TEXT:
        known = keyword != CHARACTERS and isinstance(kept.value, bytes)
        new[tag] = Undecoded(tag, vr, kept.value) if known else DataElement(tag, vr, value)


def keep_ascii(dataset: Dataset) -> None:
    """Have text of ours written as the ASCII that it is: pydicom takes any codec of Python's for a character set."""
    for element in list(dataset):
        if element.VR == "SQ":
            for item in element.value:
                keep_ascii(item)
        elif element.VR in CODED and not element.is_raw and not element.is_empty:
            text = "\\".join(map(str, element.value)) if element.VM > 1 else str(element.value)
            if text.isascii():
                dataset[element.tag] = Undecoded(element.tag, element.VR, f"{text}{' ' * (len(text) % 2)}".encode())


def _copy_item(item: Dataset) -> Dataset:
    """An item of a sequence without private and unknown elements; it may name a character set of its own."""
    copy = Dataset()
    for tag in sorted(item.keys()):
        keyword = keyword_for_tag(tag)
        if keyword:
            copy_text(copy, item, keyword)
    return copy
