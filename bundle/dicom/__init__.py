"""DICOM in and out: a series as a scan, a stain as objects of the same study; pydicom and numpy alone."""
