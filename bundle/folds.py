"""Cross-validation folds for a dataset that does not number its own."""

from __future__ import annotations

from collections.abc import Sequence

from bundle.datalist import Image, Pair
from bundle.errors import InputError

FOLDS = 5  # §2.4


def assign_folds(pairs: Sequence[Pair | Image], count: int = FOLDS) -> list[int]:
    """Number the pairs so that specimens stay whole and every group keeps its proportion (§2.4).

    Specimens are dealt out group by group, each to the next fold, in the order of the datalist: of every group, folds
    hold the same number of specimens, or one more.

    Args:
        pairs: training pairs, or images.
        count: how many folds.

    Returns:
        The fold of each pair, from 0.

    Raises:
        InputError: if there are fewer specimens than folds.
    """
    groups: dict[str, dict[str, None]] = {}
    for pair in pairs:
        groups.setdefault(pair.group or "", {})[pair.specimen] = None
    specimens = list(dict.fromkeys(specimen for group in groups.values() for specimen in group))
    if len(specimens) < count:
        raise InputError(
            f"{len(specimens)} training specimens cannot be divided into {count} folds; add pairs of other specimens, "
            "or number the folds yourself: fold in each entry of datalist.json."
        )
    folds = {specimen: number % count for number, specimen in enumerate(specimens)}
    return [folds[pair.specimen] for pair in pairs]
