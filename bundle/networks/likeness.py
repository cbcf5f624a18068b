"""How like the sources of a training an image is: what its network was never shown, it stains as if it knew it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from bundle.common.atomic import whole_file
from bundle.common.errors import InputError
from bundle.common.verdicts import FEW, Verdict
from bundle.networks.cells import LEVELS, features_of

KEPT = 2048  # cells of a training that others are compared with
EVERY = 2  # cells, of which one is compared: 8 px
LEAST_SCALE = 1e-3  # of a feature over the training
AT_ONCE = 4096  # cells that are compared together


class Likeness:
    """Distance of an image from the sources of a training.

    Of each cell it is the distance, in features of the source in squares of 4 to 128 px around it, to the nearest of
    some cells of the training (Roth et al. 2022, PatchCore, without a network); of an image their mean. The features
    are those of the source alone, so they are the same for every network and window.

    Args:
        bank: (N, F), float64, cells of the training, in units of ``scale`` from ``centre``.
        centre: (F), mean of each feature over the training.
        scale: (F), its standard deviation.
        usual: median distance of a training's source from the others; infinite for fewer than three, or if all are the
            same.
    """

    def __init__(self, bank: np.ndarray, centre: np.ndarray, scale: np.ndarray, usual: float) -> None:
        self.bank, self.centre, self.scale, self.usual = bank, centre, scale, usual

    @property
    def channels(self) -> int:
        """Of the sources."""
        return len(self.centre) // (2 * LEVELS)

    def distance(self, source: Tensor) -> float:
        """Mean distance over the cells of a source (C, H, W) in [−1, 1]; of a grey one that is repeated, the first."""
        rows = (rows_of(source[: self.channels]) - self.centre) / self.scale
        return float(nearest(rows, self.bank).mean())

    def verdict(self, distance: float) -> Verdict:
        """What a distance means."""
        return Verdict(distance / self.usual if np.isfinite(self.usual) else None)

    def judge(self, source: Tensor) -> Verdict:
        """How like the training a source is, as of :meth:`distance`."""
        return self.verdict(self.distance(source))

    def save(self, path: str | Path) -> None:
        """Write it as ``.npz``."""
        with whole_file(Path(path)) as partial, partial.open("wb") as file:
            np.savez(file, bank=self.bank, centre=self.centre, scale=self.scale, usual=np.float64(self.usual))

    @classmethod
    def load(cls, path: str | Path) -> Likeness:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: if it is not that.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                bank, centre, scale, usual = (content[name] for name in ("bank", "centre", "scale", "usual"))
            _check(bank, centre, scale, usual)
            return cls(bank, centre, scale, float(usual))
        except Exception as error:  # a corrupt archive can make its readers raise nearly anything
            raise InputError(f"{path} holds no cells of a training ({error}); copy it from the run again.") from error


def _check(bank: np.ndarray, centre: np.ndarray, scale: np.ndarray, usual: np.ndarray) -> None:
    """Raise ``ValueError`` if these cannot be what :func:`learn` gives."""
    number = len(centre) if centre.ndim == 1 else 0
    if any(each.dtype != np.float64 for each in (bank, centre, scale, usual)) or usual.shape != ():
        raise ValueError("values that are not of float64")
    if number == 0 or number % (2 * LEVELS) or scale.shape != (number,):
        raise ValueError(f"centre of shape {centre.shape} and scale of {scale.shape}")
    if bank.ndim != 2 or bank.shape[1] != number or not 1 <= len(bank) <= KEPT:
        raise ValueError(f"cells of shape {bank.shape}")
    if not (np.isfinite(bank).all() and np.isfinite(centre).all() and (scale > 0).all() and usual > 0):
        raise ValueError("values that no training has")


def rows_of(source: Tensor) -> np.ndarray:
    """Features of every second cell of a source (C, H, W) along each axis, a row each: (N, F), float64."""
    return features_of(source)[:, ::EVERY, ::EVERY].flatten(1).T.double().cpu().numpy()


def nearest(rows: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Distance of each row (N, F) from the nearest of a bank (M, F): root mean square over the features, (N)."""
    square, found = np.square(bank).sum(1), np.empty(len(rows))
    for start in range(0, len(rows), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        least = (square - 2 * (part @ bank.T)).min(1) + np.square(part).sum(1)
        found[start : start + AT_ONCE] = np.sqrt(np.maximum(least, 0) / rows.shape[1])
    return found


def learn(sources: Sequence[Tensor], specimens: Sequence[Any], kept: int = KEPT) -> Likeness:
    """What :class:`Likeness` keeps of a training.

    Cells are drawn with a fixed seed, as many of each source. How far a source is usually away is the median, over
    the sources, of their distance from the cells of other specimens; of fewer than three specimens, from those of other
    sources.

    Args:
        sources: of a training, each (C, H, W) in [−1, 1], of at least 1.
        specimens: what each is of.
        kept: cells at most.
    """
    generator = np.random.default_rng(0)
    rows = [rows_of(source) for source in sources]
    together = np.concatenate(rows)
    centre, scale = together.mean(0), together.std(0) + LEAST_SCALE
    share = max(1, kept // len(rows))
    drawn = [(part[generator.permutation(len(part))[:share]] - centre) / scale for part in rows][:kept]
    usual, names = np.inf, specimens if len(set(specimens)) >= FEW else range(len(rows))
    if len(set(names)) >= FEW:
        away = []
        for part, name in zip(rows, names, strict=True):
            others = [each for each, other in zip(drawn, names, strict=False) if other != name]
            away.append(nearest((part - centre) / scale, np.concatenate(others)).mean())
        usual = float(np.median(away))
    if usual < LEAST_SCALE:  # of sources that are all the same
        usual = np.inf
    return Likeness(np.concatenate(drawn), centre, scale, usual)
