"""All formats of stained slides, which are known once this is imported."""

from bundle.images.stained_slides import dicom, tiff
from bundle.images.stained_slides.formats import FORMATS, Packing, SlideFormat

__all__ = ["FORMATS", "Packing", "SlideFormat", "dicom", "tiff"]
