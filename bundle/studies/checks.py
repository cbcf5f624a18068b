"""What can be wrong with the cells of a study, before it trains anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monai.bundle import ConfigParser

from bundle.common.config import unknown_ids
from bundle.common.errors import InputError, input_error
from bundle.common.ids import settle
from bundle.data.datalist import Datalist
from bundle.data.load import load_datalist
from bundle.evaluation.paired import value_faults
from bundle.evaluation.similarity import find_lpips
from bundle.evaluation.unpaired.evaluation import Settings, setting_faults
from bundle.evaluation.unpaired.perceptual_hash import find_hash
from bundle.studies.plan import TRAINING, Cell
from bundle.training.run import number_faults


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
    "bundle.evaluation.paired.evaluate": paired_faults,
    "bundle.evaluation.unpaired.evaluation.evaluate": unpaired_faults,
}


def check_cells(cells: Sequence[Cell], dataset_dir: str, evaluation_ids: Mapping[str, Any]) -> None:
    """See that every cell can be trained and measured, as far as that shows beforehand; nothing is written.

    Args:
        cells: the plan.
        dataset_dir: the dataset of every cell.
        evaluation_ids: set in every evaluation.

    Raises:
        InputError: with one line for each fault, and the variants that have it.
    """
    variants: dict[str, dict[str, None]] = {}
    lists: dict[tuple[Any, ...], Datalist] = {}
    for cell in cells:
        try:
            _check(cell, dataset_dir, evaluation_ids, lists)
        except Exception as error:  # MONAI wraps what a component raises
            found = input_error(error)
            if found is None:
                raise
            for fault in str(found).splitlines():
                variants.setdefault(fault, {})[cell.variant] = None
    if variants:
        raise InputError("\n".join(f"{', '.join(names)}: {fault}" for fault, names in variants.items()))


def _check(
    cell: Cell, dataset_dir: str, evaluation_ids: Mapping[str, Any], lists: dict[tuple[Any, ...], Datalist]
) -> None:
    """Make the networks and the objective of a cell; ``lists`` keeps the datalists that were checked."""
    parser = ConfigParser()
    parser.read_config([TRAINING, cell.evaluation, *cell.overlays])
    parser.update({**cell.ids, **evaluation_ids, "seed": cell.seed, "fold": cell.fold})
    mistyped = unknown_ids(parser.get())
    if mistyped:
        raise InputError("\n".join(mistyped))
    settle(parser)
    value = parser.get_parsed_content
    faults = number_faults(parser)
    if faults:
        raise InputError("\n".join(faults))
    place = (*cell.data, value("patch_size"), value("paired"))
    if place not in lists:
        lists[place] = load_datalist(dataset_dir, *place)
    data = lists[place]
    target = parser["evaluation#1"]["_target_"]
    if target not in CHECKS:
        raise InputError(
            f"evaluation_config {cell.evaluation} measures by {target}; a study knows {', '.join(CHECKS)}."
        )
    faults = CHECKS[target](data, value)
    if faults:
        raise InputError("\n".join(faults))
    parser.update({"data": data, "device": "cpu", "train#dataloader": [], "train#handlers": []})
    value("train#preprocessing")
    value("train#trainer")
