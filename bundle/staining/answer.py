"""What the page of a stained volume or slide says first: what warns of its stain; a calm line if nothing does.

Each sentence has a rule; thresholds are named here with the reason for each. What was not measured is not spoken of,
and that a scan looks familiar is never told as that its stain is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bundle.common.html import Answer
from bundle.common.values import is_number
from bundle.common.verdicts import DOUBTFUL, LIKE, UNKNOWN, UNLIKE, mostly_unlike, places_in_words
from bundle.staining.words import get

STRIPES_FROM = 2.0  # of the index: true stains of eight phantoms have at most 1.36 (bundle/staining/stripes.py)
# Grey levels. True volumes flicker by at most 0.5, so that a smaller flicker is none; stains of one axis that look
# striped by 3 and 4, and a mean of three axes, of which half is left, by 1.1 (docs/results.md, "Volumes").
VISIBLE_FROM, FLICKER_FROM = 0.5, 1.0
RUNS_TOLD = 4  # of slices, along an axis
ONLY_A_SECTION = "whether the stain is right, only a section can say"
NOT_KNOWN = Answer(
    "Where to believe the stain is not known",
    "the model holds nothing that says what it was trained on looks like, and nothing was measured of this",
)


def of_volume(record: Mapping[str, Any]) -> list[Answer]:
    """What warns of a stained volume, and what does not.

    Args:
        record: ``volume.json``.

    Returns:
        At least one sentence.
    """
    calm: list[str] = []
    found: list[Answer] = []
    for axis, told in get(record, "likeness", {}).items():
        found += _likeness(told, f"slices across {axis}", "Most slices of this scan are", calm)
    found += _reference(record)
    found += stripes(record, calm)
    return _with_calm(found, calm)


def of_slide(record: Mapping[str, Any]) -> list[Answer]:
    """Likewise, of a stained whole slide.

    Args:
        record: ``slide.json``.
    """
    calm: list[str] = []
    found: list[Answer] = []
    counts = get(record, "likeness.blocks", {})
    if counts:
        told = {"slices": counts, UNLIKE: [], DOUBTFUL: []}
        found += _likeness(told, "blocks", "Most of this slide is", calm)
    found += _reference(record)
    return _with_calm(found, calm)


def _with_calm(found: list[Answer], calm: Sequence[str]) -> list[Answer]:
    if not any(each.tone == "bad" for each in found) and calm:
        return [Answer("Nothing here warns", f"{'; '.join(calm)}; {ONLY_A_SECTION}", "good"), *found]
    return found or [NOT_KNOWN]


def _likeness(told: Mapping[str, Any], what: str, most: str, calm: list[str]) -> Iterator[Answer]:
    """What is said of slices or blocks by how like the training they are; a phrase for the calm line if all are."""
    counts = told.get("slices") or {}
    total = sum(counts.values())
    if not total:
        return
    if counts.get(UNKNOWN):
        yield Answer(f"Whether {what} are {LIKE} is {UNKNOWN}", "that has too few sources")
        return
    if not counts.get(UNLIKE) and not counts.get(DOUBTFUL):
        calm.append(f"all {total:,} {what} are {LIKE}")
        return
    parts = [
        f"{counts[word]} {word}{_shortened(told.get(word, []))}" for word in (UNLIKE, DOUBTFUL) if counts.get(word)
    ]
    numbers = f"of {total} {what}, {' and '.join(parts)}"
    if mostly_unlike(told):
        yield Answer(f"{most} unlike the training data, and its stain is not to be believed", numbers, "bad")
    elif counts.get(UNLIKE):
        yield Answer("In part unlike the training data, where the stain may be wrong", numbers, "bad")
    else:
        yield Answer("In part doubtful, where the stain may be wrong", numbers, "bad")


def _shortened(places: Sequence[Sequence[int]]) -> str:
    told = places_in_words(places[:RUNS_TOLD])
    more = len(places) - RUNS_TOLD
    return f"{told[:-1]}, and {more} more places)" if more > 0 else told


def _reference(record: Mapping[str, Any]) -> Iterator[Answer]:
    """Of what is stained by the statistics of one region, whether that is one to go by."""
    told = get(record, "reference", {})
    if told.get("unlike") and is_number(told.get("distance")):
        usual = told.get("usual")
        apart = f", which usually lie {usual:.1f} apart" if is_number(usual) else ""
        numbers = f"{told['distance']:.1f} from the nearest section of the training{apart}"
        yield Answer("All is stained by the statistics of a region that is unlike the training", numbers, "bad")


def stripes(record: Mapping[str, Any], calm: list[str] | None = None) -> Iterator[Answer]:
    """Whether the colours of a volume vary from slice to slice.

    Args:
        record: ``volume.json``; of several stains that were measured the last is the one that was written.
        calm: gets a phrase if they do not.
    """
    measured = list((record.get("stripes") or {}).values())
    if not measured:
        return
    index, flicker = (
        {axis: value for axis, value in zip("zyx", measured[-1].get(name) or (), strict=False) if is_number(value)}
        for name in ("index", "flicker_levels")
    )
    if not index and not flicker:
        return
    striped = [
        axis
        for axis, value in index.items()
        if value >= STRIPES_FROM and flicker.get(axis, VISIBLE_FROM) >= VISIBLE_FROM
    ]
    flickers = [axis for axis, value in flicker.items() if value >= FLICKER_FROM and axis not in striped]
    for axis in striped:
        levels = f", flicker {flicker[axis]:.1f} grey levels of 255" if axis in flicker else ""
        numbers = f"index {index[axis]:.1f} (1 is none; true stains have at most 1.4){levels}"
        yield Answer(f"Stripes along {axis}, the colours differ from slice to slice", numbers, "bad")
    if flickers:
        numbers = ", ".join(f"{flicker[axis]:.1f} along {axis}" for axis in flickers)
        yield Answer(
            "The stain flickers from slice to slice", f"grey levels of 255: {numbers} (true stains at most 0.5)", "bad"
        )
    if calm is not None and not striped and not flickers:
        parts = [f"stripe index at most {max(index.values()):.1f} (1 is none)"] if index else []
        parts += [f"flicker at most {max(flicker.values()):.1f} grey levels of 255"] if flicker else []
        calm.append(f"no stripes: {', '.join(parts)}")
