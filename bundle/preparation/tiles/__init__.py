"""Slides of two stains to a dataset of tiles."""
