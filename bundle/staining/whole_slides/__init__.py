"""Staining whole slides: block by block, in bounded memory, into a pyramid."""
