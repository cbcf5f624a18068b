"""Where one slide lies on the other: an affine transform in µm, so that it holds at every pixel size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Placing:
    """From the source slide to the target slide.

    Attributes:
        linear: (2, 2), rows and columns.
        offset_um: (2,); the target's place = linear @ (source's place) + offset_um, µm from the slides' top left
            corners.
    """

    linear: np.ndarray
    offset_um: np.ndarray

    @classmethod
    def of_pixels(cls, matrix: np.ndarray, pixel_um: float) -> Placing:
        """From (2, 3) between pixels of one size on both slides, counted from the middle of the first."""
        linear = matrix[:, :2]
        return cls(linear, (matrix[:, 2] + 0.5 - linear @ (0.5, 0.5)) * pixel_um)

    def in_pixels(self, pixel_um: float) -> np.ndarray:
        """The same between pixels of that size, (2, 3)."""
        return np.column_stack([self.linear, self.offset_um / pixel_um - 0.5 + self.linear @ (0.5, 0.5)])

    def places(self, source_um: np.ndarray) -> np.ndarray:
        """Places (N, 2) on the source, µm, as places on the target, µm."""
        return source_um @ self.linear.T + self.offset_um

    @property
    def mirrored(self) -> bool:
        """Whether one of the sections lies face down."""
        return bool(np.linalg.det(self.linear) < 0)

    @property
    def scales(self) -> tuple[float, float]:
        """The smaller and the larger stretch; 1 keeps sizes."""
        larger, smaller = np.linalg.svd(self.linear, compute_uv=False)
        return float(smaller), float(larger)

    @property
    def turn_deg(self) -> float:
        """The turn of the source's rows on the target, −180° to 180°."""
        return float(np.rad2deg(np.arctan2(-self.linear[1, 0], self.linear[0, 0])))


def of_pose(turn_deg: float, mirrored: bool, about: np.ndarray, onto: np.ndarray) -> Placing:
    """A turn that takes the place ``about`` (2,) of the source to ``onto`` of the target, µm."""
    angle = np.deg2rad(turn_deg)
    linear = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    if mirrored:
        linear = linear @ np.diag([1.0, -1.0])
    return Placing(linear, onto - linear @ about)


def apart(one: Placing, other: Placing, size_um: np.ndarray) -> float:
    """Mean distance, µm, of where two placings put the corners of a source of that size (2,)."""
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]) * size_um
    return float(np.hypot(*(one.places(corners) - other.places(corners)).T).mean())
