"""What can be wrong with an evaluation's ids for a dataset, before a study trains anything for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bundle.datalist import Datalist
from bundle.evaluation import value_faults
from bundle.metrics import find_lpips
from bundle.perceptual_hash import find_hash
from bundle.unpaired_evaluation import Settings, setting_faults


def paired_faults(data: Datalist, value: Callable[[str], Any]) -> list[str]:
    """What is wrong with the ids of ``evaluate.json``, a line each.

    Args:
        data: the dataset.
        value: gives an id's value.

    Raises:
        InputError: if LPIPS' weights are missing or wrong.
    """
    find_lpips(value("lpips_weights"))
    return value_faults(data, *(value(f"eval_{name}") for name in ("patch", "stride", "overlap", "splits")))


def unpaired_faults(data: Datalist, value: Callable[[str], Any]) -> list[str]:
    """The same of ``evaluate_unpaired.json``."""
    find_hash(value("hash_weights"))
    asked = {name: value(f"eval_{name}") for name in ("splits", "patch", "pictures")}
    asked |= {name: value(name) for name in ("labelling_index", "nucleus_um", "dab_threshold", "region_um", "seed")}
    return setting_faults(data, Settings(**asked))


CHECKS = {  # by what an evaluation's config calls
    "bundle.evaluation.evaluate": paired_faults,
    "bundle.unpaired_evaluation.evaluate": unpaired_faults,
}
