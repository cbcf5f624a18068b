"""Registration of a section to a scan."""
