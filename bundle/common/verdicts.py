"""Whether an image is like what a network learnt from: three words, and how a volume's slices are told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LIKE, DOUBTFUL, UNLIKE, UNKNOWN = "like the training data", "doubtful", "unlike", "not known"
DOUBTFUL_FROM, UNLIKE_FROM = 1.5, 2.5  # times the usual distance; chosen on phantoms, see docs/trust.md
NO_ERROR_MAP = (
    "no error map: this bundle has none; a method that learns from pairs makes one if it is trained again, into "
    "another --output_dir, with --fold 0, which holds a fifth of the pairs back (docs/trust.md)"
)
NEITHER = (
    "no error map, and nothing to say whether an image is like the training data: this bundle was made before there "
    "were any; its training command with --resume changed writes them (docs/trust.md)"
)
REFUSED = "refuse_unlike is true."  # how the refusal of a volume ends, by which another process knows it
FEW = 3  # sources of a training, below which it cannot be said how far they lie from each other


@dataclass(frozen=True)
class Verdict:
    """How like the training an image is.

    Attributes:
        ratio: distance of what is seen in it from the training's sources, in units of what these usually have from
            each other (:class:`bundle.networks.likeness.Likeness`); None where that is not known.
        statistics: likewise, of what the network's instance norms meet in it, from the nearest of the training's
            sections (:class:`bundle.networks.sections.Sections`).
    """

    ratio: float | None
    statistics: float | None = None

    @property
    def word(self) -> str:
        """``like the training data``, ``doubtful``, ``unlike``, or ``not known``."""
        if (self.ratio or 0) >= UNLIKE_FROM or (self.statistics or 0) >= UNLIKE_FROM:
            return UNLIKE
        if self.ratio is None:
            return UNKNOWN
        return LIKE if self.ratio < DOUBTFUL_FROM else DOUBTFUL

    def __str__(self) -> str:
        """Say it with its numbers."""
        told = [] if self.ratio is None else [f"{self.ratio:.1f} × the usual distance from the training data"]
        if self.statistics is not None and self.statistics >= UNLIKE_FROM:
            told.append(f"{self.statistics:.1f} × in the network's statistics")
        if not told:
            return f"{UNKNOWN} to be like the training data: that has fewer than {FEW} sources"
        return f"{self.word} ({', '.join(told)})"


def summary(verdicts: Iterable[Verdict]) -> dict[str, Any]:
    """How many slices are what, and which are unlike the training, plain JSON.

    Args:
        verdicts: of the slices of a volume, in order.
    """
    words = [verdict.word for verdict in verdicts]
    return {
        "slices": {word: words.count(word) for word in (LIKE, DOUBTFUL, UNLIKE, UNKNOWN) if word in words},
        "unlike": runs([word == UNLIKE for word in words]),
        "doubtful": runs([word == DOUBTFUL for word in words]),
    }


def mostly_unlike(told: Mapping[str, Any]) -> bool:
    """Whether most slices are unlike the training, of what :func:`summary` gives."""
    return bool(told["slices"].get(UNLIKE, 0) * 2 > sum(told["slices"].values()))


def runs(flags: Sequence[bool]) -> list[list[int]]:
    """First and last place of each run of flags that are true."""
    found: list[list[int]] = []
    for place, flag in enumerate(flags):
        if flag and found and found[-1][1] == place - 1:
            found[-1][1] = place
        elif flag:
            found.append([place, place])
    return found


def in_words(told: Mapping[str, Any], what: str = "slices") -> str:
    """What :func:`summary` gives, in one line; ``what`` was judged."""
    counts = told["slices"]
    total = sum(counts.values())
    if set(counts) == {UNKNOWN}:
        return f"whether {what} are {LIKE} is {UNKNOWN}: that has too few sources"
    places = {DOUBTFUL: places_in_words(told["doubtful"]), UNLIKE: places_in_words(told["unlike"])}
    parts = [f"{counts.get(word, 0)} {word}{places.get(word, '')}" for word in (LIKE, DOUBTFUL, UNLIKE)]
    wrong = "; the stain of what is unlike may be wrong" if UNLIKE in counts else ""
    return f"of {total} {what}, {', '.join(parts)}{wrong}"


def places_in_words(found: Sequence[Sequence[int]]) -> str:
    """What :func:`runs` gives, in brackets: `` (3, 7 to 9)``; nothing where there is none."""
    told = ", ".join(f"{first} to {last}" if last > first else f"{first}" for first, last in found)
    return f" ({told})" if told else ""
