"""NaN and infinite values, of which no command makes a picture."""

from __future__ import annotations

import numpy as np

FILL = "NaN outside the reconstruction circle alone becomes air with --fill_nan VALUE, the grey value of air"


def nan_faults(what: str, pixels: np.ndarray, way_out: str = "fill or crop them") -> list[str]:
    """A line if an image or a scan holds NaN or infinite values.

    Args:
        what: the file, and what of it, for the message.
        pixels: any shape and type.
        way_out: what to do about it.
    """
    if pixels.dtype.kind != "f" or np.isfinite(pixels).all():
        return []
    return [f"{what} has {int((~np.isfinite(pixels)).sum())} NaN or infinite pixels; {way_out}."]
