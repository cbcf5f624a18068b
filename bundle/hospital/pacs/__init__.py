"""Scans from a PACS, stains to it."""
