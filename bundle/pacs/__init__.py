"""A stained series in the study of its source: found in a PACS, fetched, stained and stored, by DICOMweb or DIMSE."""
