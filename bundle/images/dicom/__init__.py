"""DICOM series read as scans."""
