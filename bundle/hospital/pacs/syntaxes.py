"""Which classes of objects are fetched by DIMSE, and in which transfer syntaxes."""

from __future__ import annotations

from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    EnhancedCTImageStorage,
    MRImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
    XRay3DAngiographicImageStorage,
)

from bundle.images.dicom.slices import decodable

SCANS = (  # what a scan may be stored as; bundle.images.dicom.source says which of them can be stained
    *(CTImageStorage, EnhancedCTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage),
    *(XRay3DAngiographicImageStorage, SecondaryCaptureImageStorage),
    *(MultiFrameGrayscaleByteSecondaryCaptureImageStorage, MultiFrameGrayscaleWordSecondaryCaptureImageStorage),
    MultiFrameTrueColorSecondaryCaptureImageStorage,
)
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
PLAIN_SYNTAXES = [EXPLICIT, IMPLICIT]
PACKED_SYNTAXES = (  # lossless JPEG, JPEG-LS, JPEG 2000, RLE; then those with loss
    *("1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"),
    "1.2.840.10008.1.2.5",
    *("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.91"),
)


def packed_syntaxes() -> list[str]:
    """The compressed ways in which objects are taken: those that can be decoded here, so that a PACS unpacks others."""
    return [syntax for syntax in PACKED_SYNTAXES if decodable(syntax)]
