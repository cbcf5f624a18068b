"""Stained arrays with what is known of where to believe them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bundle.common.verdicts import DOUBTFUL, LIKE, UNKNOWN, UNLIKE, Verdict, in_words, mostly_unlike, summary
from bundle.staining.job import reference_in_words


class JudgedSlice(NamedTuple):
    """A stained slice, and where to believe it.

    Attributes:
        rgb: (H, W, 3), uint8.
        expected_error: (H, W), float32: mean absolute error over the colours that is expected there, levels of 255;
            NaN where nothing is known, as in what is unlike the training. None where the bundle has no error map.
        verdict: how like the training data the slice is; None where the bundle cannot say.
        notes: what else is to be known, a line each.
    """

    rgb: np.ndarray
    expected_error: np.ndarray | None
    verdict: Verdict | None
    notes: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """``like the training data``, ``doubtful``, ``unlike``, or ``not known``."""
        return UNKNOWN if self.verdict is None else self.verdict.word

    @property
    def told(self) -> str:
        """Notes and verdict in words, a line each."""
        return "\n".join([*self.notes, *([] if self.verdict is None else [f"the slice is {self.verdict}"])])


class JudgedVolume(NamedTuple):
    """A stained volume, and where to believe it.

    Attributes:
        rgb: (Z, Y, X, 3), uint8; a Dask array where the scan is one.
        expected_error: (Z, ⌈Y/4⌉, ⌈X/4⌉), float32, in squares of 4×4 px of each slice, else as of a slice; likewise.
        verdicts: how like the training data slices are, by their numbers: all of them, or of a Dask array some, evenly
            over it; none where the bundle cannot say.
        reference: of which region's statistics all is stained with, and how far that is from the training's sections,
            as ``volume.json`` records it; None where each window has its own.
        notes: what else is to be known, a line each.
    """

    rgb: Any
    expected_error: Any
    verdicts: dict[int, Verdict]
    reference: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """``unlike`` if most slices are, or the section that decides is; ``doubtful`` if any slice is either."""
        told = summary(self.verdicts.values())
        words = {verdict.word for verdict in self.verdicts.values()}
        if mostly_unlike(told) or (self.reference or {}).get("unlike"):
            return UNLIKE
        if words & {DOUBTFUL, UNLIKE}:
            return DOUBTFUL
        return LIKE if LIKE in words else UNKNOWN

    @property
    def told(self) -> str:
        """Notes, reference and verdicts in words, a line each."""
        lines, told = list(self.notes), summary(self.verdicts.values())
        if self.reference is not None:
            lines.append(f"stained with the statistics of {reference_in_words(self.reference)}")
        if self.verdicts and len(self.verdicts) == len(self.rgb):
            lines.append(in_words(told))
        elif self.verdicts:  # whose places in a row are not the slices' numbers
            lines.append(in_words({**told, "doubtful": [], "unlike": []}, "slices that were looked at"))
        return "\n".join(lines)
