"""Nuclei as star-convex polygons: training, segmentation and scores of a StarDist network in PyTorch."""

import warnings

_format = warnings.formatwarning
import stardist  # noqa: E402, F401

warnings.formatwarning = _format  # stardist would shorten the warnings of the whole program
