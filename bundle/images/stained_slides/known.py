"""All formats of stained slides, which are known once this is imported."""

from bundle.images.stained_slides import dicom, tiff
from bundle.images.stained_slides.formats import COMPRESSIONS, FORMATS, Packing, SlideFormat

__all__ = ["COMPRESSIONS", "FORMATS", "Packing", "SlideFormat", "dicom", "tiff"]
