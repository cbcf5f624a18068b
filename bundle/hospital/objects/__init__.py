"""DICOM objects as they are written."""
