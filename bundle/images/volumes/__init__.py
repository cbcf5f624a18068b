"""Scans: one reader a format, a few slices at a time."""
