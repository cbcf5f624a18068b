"""Cross-validation folds for a dataset that does not number its own."""

from __future__ import annotations

from collections.abc import Sequence

from bundle.common.errors import InputError
from bundle.common.values import same_text
from bundle.data.datalist import SIDES, Image, Pair

FOLDS = 5  # §2.4


def assign_folds(pairs: Sequence[Pair | Image], count: int = FOLDS) -> list[int]:
    """Number the pairs so that specimens stay whole and every group keeps its proportion (§2.4).

    Specimens are dealt out group by group, each to the next fold, in the order of the datalist: of every group, folds
    hold the same number of specimens, or one more. Of unpaired images this holds for the specimens with both sides,
    which come first, for those with a source alone and for those with a target alone; so every fold has both sides.

    Args:
        pairs: training pairs, or images.
        count: how many folds.

    Returns:
        The fold of each pair, from 0.

    Raises:
        InputError: if fewer specimens have a source, or a target, than there are folds.
    """
    groups: dict[str, dict[str, None]] = {}
    sides: dict[str, set[str]] = {}
    for pair in pairs:
        groups.setdefault(pair.group or "", {})[same_text(pair.specimen)] = None
        sides.setdefault(same_text(pair.specimen), set()).update([pair.side] if isinstance(pair, Image) else SIDES)
    specimens = list(dict.fromkeys(specimen for group in groups.values() for specimen in group))
    for side in SIDES:
        number = sum(side in sides[specimen] for specimen in specimens)
        if number < count:
            which = "" if number == len(specimens) else f" with a {side}"
            raise InputError(
                f"{number} training specimens{which} cannot be divided into {count} folds; add images of other "
                "specimens, or number the folds yourself: fold in each entry of datalist.json."
            )
    specimens.sort(key=lambda specimen: -len(sides[specimen]))  # stable: those with both sides first
    dealt = dict.fromkeys(SIDES, 0)
    folds: dict[str, int] = {}
    for specimen in specimens:
        folds[specimen] = dealt[min(sides[specimen])] % count
        for side in sides[specimen]:
            dealt[side] += 1
    return [folds[same_text(pair.specimen)] for pair in pairs]
