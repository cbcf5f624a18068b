"""The sections of a training as its network's instance norms met them, and what of a scan is most like them."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import List, Tuple  # noqa: UP035  TorchScript reads these alone

import numpy as np
import torch
from torch import Tensor

from bundle.common.atomic import whole_file
from bundle.common.errors import InputError
from bundle.common.verdicts import UNLIKE_FROM

logger = logging.getLogger("bundle")

FEW = 3  # sections, below which it cannot be said how far they lie from each other
LEAST_SPREAD = 1e-3  # of a statistic over the sections
MOST = 64  # sections: more say no more, and the file and every comparison grow with them
LEAST_PX = 8  # a side, of a section
SLICES = 24  # of a volume, that are compared with the sections
SMALLER = 0.9  # of a slice's side, to which a section's may come near without being looked for within it


def spread_over(depth: int, number: int = SLICES) -> List[int]:  # noqa: UP006
    """At most so many slices, evenly over a depth."""
    number = min(depth, number)
    return [(2 * place + 1) * depth // (2 * number) for place in range(number)]


def starts(side: int, window: int, smaller: float = SMALLER) -> List[int]:  # noqa: UP006
    """Where windows begin along a side, at most half a window apart; at 0 alone if they are hardly smaller."""
    if window >= smaller * side:
        return [0]
    steps = (2 * (side - window) + window - 1) // window
    return [(side - window) * place // steps for place in range(steps + 1)]


def regions(height: int, width: int, section: Tuple[int, int]) -> List[Tuple[int, int, int, int]]:  # noqa: UP006
    """What of a slice is compared with sections: all of it, and windows of a section's size if that is smaller.

    Args:
        height: of the slice, px.
        width: likewise.
        section: (height, width) of a section, px.

    Returns:
        Top, left, height and width of each, px.
    """
    found = [(0, 0, height, width)]
    tops, lefts = starts(height, section[0]), starts(width, section[1])
    if len(tops) * len(lefts) > 1:
        for top in tops:
            for left in lefts:
                found.append((top, left, min(section[0], height), min(section[1], width)))
    return found


def distance(statistics: Tensor, sections: Tensor, spread: Tensor) -> float:
    """How far statistics (F) are from those of the nearest of some sections (N, F).

    Args:
        statistics: of an image.
        sections: of others.
        spread: of each statistic over these, (F).

    Returns:
        Root mean square over the statistics, in units of their spread.
    """
    apart = (sections - statistics) / spread
    return float((apart * apart).mean(1).min().sqrt())


class Sections:
    """What instance norm met in the sections of a training.

    Args:
        statistics: (N, F), as :func:`learn` gives them.
        sizes: (N, 2), height and width of each section, px.

    Attributes:
        spread: of each statistic over the sections, (F).
        size: (height, width), their median, px.
        usual: median distance of a section from the nearest other; infinite for fewer than three, or if that is 0.
    """

    def __init__(self, statistics: Tensor, sizes: np.ndarray) -> None:
        self.statistics, self.sizes = statistics, np.asarray(sizes)
        few = len(statistics) < FEW
        self.spread = torch.ones(statistics.shape[1]) if few else statistics.std(0) + LEAST_SPREAD
        self.size = (int(np.median(self.sizes[:, 0])), int(np.median(self.sizes[:, 1])))
        numbers = range(0 if few else len(statistics))
        others = [distance(statistics[n], _without(statistics, n), self.spread) for n in numbers]
        self.usual = (float(np.median(others)) if others else 0.0) or float("inf")

    @property
    def digest(self) -> str:
        """SHA-256, by which they are known again."""
        return hashlib.sha256(self.statistics.numpy().tobytes() + self.sizes.tobytes()).hexdigest()

    def distance(self, statistics: Tensor) -> float:
        """From the nearest section, see :func:`distance`."""
        return distance(statistics, self.statistics, self.spread)

    def save(self, path: str | Path) -> None:
        """Write them as ``.npz``."""
        with whole_file(Path(path)) as partial, partial.open("wb") as file:
            np.savez(file, statistics=self.statistics.numpy(), sizes=self.sizes)

    @classmethod
    def load(cls, path: str | Path, number: int) -> Sections:
        """Read what :meth:`save` wrote.

        Args:
            path: the file.
            number: of statistics that the network's norms have, F.

        Raises:
            InputError: if it is not that, or of another network.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                statistics, sizes = content["statistics"], content["sizes"]
            _check(statistics, sizes, number)
            return cls(torch.from_numpy(statistics), sizes)
        except Exception as error:  # a corrupt archive can make its readers raise nearly anything
            raise InputError(
                f"{path} holds no statistics of sections ({error}); copy it from the run again."
            ) from error


def _check(statistics: np.ndarray, sizes: np.ndarray, number: int) -> None:
    """Raise ``ValueError`` if these cannot be what a network with so many statistics met in sections."""
    if statistics.dtype != np.float32 or sizes.dtype.kind != "i":
        raise ValueError(f"statistics are {statistics.dtype} and sizes {sizes.dtype}")
    if statistics.ndim != 2 or sizes.shape != (len(statistics), 2) or not 1 <= len(statistics) <= MOST:
        raise ValueError(f"statistics of shape {statistics.shape} and sizes of {sizes.shape}")
    if statistics.shape[1] != number:
        raise ValueError(f"{statistics.shape[1]} statistics of each, where this network has {number}")
    if not np.isfinite(np.vdot(statistics, statistics)) or sizes.min() < LEAST_PX:
        raise ValueError("values that no section has")


def _without(statistics: Tensor, number: int) -> Tensor:
    return torch.cat([statistics[:number], statistics[number + 1 :]])


def warn_if_far(far: float, sections: Sections, what: str) -> None:
    """Say so where the nearest section of the training is farther than these are from each other."""
    if far > UNLIKE_FROM * sections.usual:
        logger.warning(
            "%s is unlike every section of the training: %.1f from the nearest, which are usually %.1f from each "
            "other; its stain may be wrong.",
            *(what, far, sections.usual),
        )
