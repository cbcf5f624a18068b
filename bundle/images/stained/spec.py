"""What a stained volume is to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bundle.images.volumes.geometry import Geometry

OLDEST = "0.4"  # version of NGFF


@dataclass(frozen=True)
class StainSpec:
    """What is to be written.

    Attributes:
        shape: (Z, Y, X).
        channels: 3 for RGB, 4 for RGBA.
        geometry: where the voxels lie.
        about: where they come from (model, scan, settings), kept in the file as JSON.
        ngff: version of an OME-Zarr, ``0.4``, or ``0.5`` with shards; other formats have none.
    """

    shape: tuple[int, int, int]
    channels: int
    geometry: Geometry
    about: dict[str, Any]
    ngff: str = OLDEST

    def stamp(self) -> dict[str, Any]:
        """Geometry and origin of the voxels, as JSON that each format keeps and :func:`open_stain` reads."""
        return {
            "version": 1,
            "spacing_um_zyx": list(self.geometry.spacing_um),
            "origin_mm_xyz_lps": list(self.geometry.origin_mm),
            "direction_lps": np.asarray(self.geometry.direction, float).tolist(),
            "about": self.about,
        }
