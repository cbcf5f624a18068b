"""What may be asked of a training on nuclei, looked at before anything runs."""

from __future__ import annotations

import os
from pathlib import Path

from monai.bundle import ConfigParser

from bundle import distributed
from bundle.datalist import is_number
from bundle.errors import InputError
from bundle.nuclei.losses import StarLoss
from bundle.runs import LATEST, folder_faults
from bundle.workflow import current_parser

LEAST = {
    **dict.fromkeys(("epochs", "steps_per_epoch", "batch_size", "patch_size", "width", "window", "multiple_of"), 1),
    **{"rays": 3, "grid": 1, "decay_epochs": 0},
}
THRESHOLDS = ("probability_threshold", "nms_threshold")
CHECKPOINTS = (LATEST.stem, *(f"best_{term}" for term in StarLoss.terms))


def check(output_dir: str, resume: bool | str) -> None:
    """Refuse ids that make no sense and a folder that holds another run; nothing is written.

    Args:
        output_dir: the run's folder.
        resume: go on from ``checkpoints/latest.pt`` if there is one; ``changed``: whatever else has changed.

    Raises:
        InputError: with one line for each fault.
    """
    faults = id_faults(current_parser())
    if distributed.apart():
        faults.append(
            f"torchrun started {os.environ['WORLD_SIZE']} processes, but nuclei are learned by one; start it with "
            "python -m monai.bundle."
        )
    faults += folder_faults(Path(output_dir), resume)
    if faults:
        raise InputError("\n".join(faults))


def id_faults(parser: ConfigParser) -> list[str]:
    """What is wrong with the ids of a training, a line each."""
    faults = []
    for name, least in LEAST.items():
        value = parser.get_parsed_content(name)
        if name == "window" and value is None:  # the bundle's own
            continue
        if type(value) is not int or value < least:
            faults.append(f"{name} is {value!r}; it must be a whole number of at least {least}.")
    grid = parser.get_parsed_content("grid")
    unit = parser.get_parsed_content("ray_unit_px")
    if isinstance(unit, bool) or not isinstance(unit, (int, float)) or unit <= 0:
        faults.append(f"ray_unit_px is {unit!r}; it must be a number above 0, about the radius of a nucleus in px.")
    if not faults and grid & (grid - 1):
        faults.append(f"grid is {grid}; it must be a power of 2: 1, 2, 4.")
    if not faults:
        patch, multiple = (parser.get_parsed_content(name) for name in ("patch_size", "multiple_of"))
        if patch % multiple:
            nearest = max(multiple, round(patch / multiple) * multiple)
            faults.append(f"patch_size is {patch}; the network takes multiples of {multiple}, for example {nearest}.")
        decay, epochs = (parser.get_parsed_content(name) for name in ("decay_epochs", "epochs"))
        if decay > epochs:
            faults.append(f"decay_epochs is {decay}, but epochs is {epochs}; it cannot be more.")
    faults += share_faults(**{name: parser.get_parsed_content(name) for name in THRESHOLDS})
    tune, held_out = (parser.get_parsed_content(name) for name in ("tune_thresholds", "held_out"))
    if not isinstance(tune, bool):
        faults.append(f"tune_thresholds is {tune!r}; it must be true or false.")
    if not is_number(held_out) or not (0 < held_out < 1 or (held_out == 0 and tune is False)):
        faults.append(
            f"held_out is {held_out!r}; it must be a number above 0 and below 1, or 0 where tune_thresholds is false."
        )
    checkpoint = parser.get_parsed_content("deploy_checkpoint")
    if checkpoint not in CHECKPOINTS:
        faults.append(f"deploy_checkpoint is {checkpoint!r}; it must be one of {', '.join(CHECKPOINTS)}.")
    return faults


def share_faults(**shares: float | None) -> list[str]:
    """What is wrong with numbers that must lie between 0 and 1, by name; None is a number not given."""
    return [
        f"{name} is {value!r}; it must be a number above 0 and below 1."
        for name, value in shares.items()
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1)
    ]
