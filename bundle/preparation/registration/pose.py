"""Where a section lies in a volume, and how it is stretched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

RIGID, AFFINE = 6, 9  # parameters of a move: 3 turns, 3 shifts; then 2 scales and 1 shear


@dataclass(frozen=True)
class Pose:
    """A rigid plane, and the affine transform of the section on it.

    Attributes:
        frame: (3, 3), orthonormal columns in voxel axes (z, y, x): down the plane's rows, along its columns, and its
            normal.
        centre: (3,), voxel coordinates of the section's middle.
        linear: (2, 2); row and column from the section's middle → row and column on the plane, in voxels. Upper
            triangular, so that all turning is the frame's.
    """

    frame: np.ndarray
    centre: np.ndarray
    linear: np.ndarray

    @classmethod
    def of_matrix(cls, steps: np.ndarray, centre: np.ndarray) -> Pose:
        """The pose whose rows and columns step by the columns of ``steps`` (3, 2) in voxels, turned and stretched."""
        orthonormal, linear = np.linalg.qr(steps)
        signs = np.sign(np.diag(linear))
        orthonormal, linear = orthonormal * signs, linear * signs[:, None]
        return cls(np.column_stack([orthonormal, np.cross(*orthonormal.T)]), np.asarray(centre, float), linear)

    @property
    def steps(self) -> np.ndarray:
        """(3, 2), voxels (z, y, x) for one row and for one column of the section."""
        return self.frame[:, :2] @ self.linear

    def moved(self, parameters: np.ndarray, reach: float) -> Pose:
        """The pose after small changes, each in units of about a voxel at ``reach`` from the middle.

        Args:
            parameters: (up to 9,): turns about down, right and normal; shifts along them; log scale of rows, of
                columns; shear.
            reach: distance in voxels at which a turn or stretch of 1 moves a point by 1.

        Returns:
            The new pose.
        """
        every = np.zeros(AFFINE)
        every[: len(parameters)] = parameters
        return Pose(*move(self.frame, self.centre, self.linear, every, reach))

    def matrix(self, factor: float = 1.0) -> np.ndarray:
        """(3, 3) of :func:`similarity.score`, for a volume reduced by ``factor``."""
        return matrix(self.frame, self.centre, self.linear, factor)

    def points(self, places: np.ndarray) -> np.ndarray:
        """Voxel coordinates (N, 3) of rows and columns (N, 2) from the section's middle."""
        return places @ self.steps.T + self.centre

    @property
    def scale(self) -> tuple[float, float]:
        """How much larger structures are on the section than in the volume, along the plane's rows and columns."""
        return 1 / float(self.linear[0, 0]), 1 / float(self.linear[1, 1])

    @property
    def shear(self) -> float:
        """Shear that is left after all turning; 0.01 moves rows by 1 px over 100 columns."""
        return float(self.linear[0, 1] / self.linear[1, 1])


@njit(nogil=True, cache=True)
def move(
    frame: np.ndarray, centre: np.ndarray, linear: np.ndarray, parameters: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """:meth:`Pose.moved` on bare arrays; the turn is Rodrigues' formula in the section's own frame."""
    axis = parameters[:3] / reach
    angle = np.sqrt((axis**2).sum())
    turn = np.eye(3)
    if angle > 1e-12:
        a, b, c = axis / angle
        cross = np.array([[0.0, -c, b], [c, 0.0, -a], [-b, a, 0.0]])
        turn = turn + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
    stretch = np.array([[np.exp(parameters[6] / reach), parameters[8] / reach], [0.0, np.exp(parameters[7] / reach)]])
    return frame @ turn, centre + frame @ np.ascontiguousarray(parameters[3:6]), linear @ stretch


@njit(nogil=True, cache=True)
def matrix(frame: np.ndarray, centre: np.ndarray, linear: np.ndarray, factor: float) -> np.ndarray:
    """:meth:`Pose.matrix` on bare arrays; a reduced volume's voxel holds ``factor`` voxels a side."""
    result = np.empty((3, 3))
    result[:, :2] = np.ascontiguousarray(frame[:, :2]) @ linear
    result[:, 2] = (centre + 0.5) / factor - 0.5
    return result
