"""What may be asked of a training on nuclei, looked at before anything runs."""

from __future__ import annotations

import os
from pathlib import Path

from monai.bundle import ConfigParser

from bundle.common import processes
from bundle.common.config import current_parser
from bundle.common.errors import InputError
from bundle.common.run_folder import LATEST
from bundle.nuclei.losses import StarLoss
from bundle.training.run import folder_faults

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
    if processes.apart():
        faults.append(
            f"torchrun started {os.environ['WORLD_SIZE']} processes, but nuclei are learned by one; start it with "
            "python -m monai.bundle."
        )
    faults += folder_faults(Path(output_dir), resume)
    if faults:
        raise InputError("\n".join(faults))


def id_faults(parser: ConfigParser) -> list[str]:
    """What of the ids of a training does not go together, a line each; each alone is checked when a run starts."""
    names = ("patch_size", "multiple_of", "decay_epochs", "epochs", "tune_thresholds", "held_out", "deploy_checkpoint")
    patch, multiple, decay, epochs, tune, held_out, checkpoint = map(parser.get_parsed_content, names)
    faults = []
    if patch % multiple:
        nearest = max(multiple, round(patch / multiple) * multiple)
        faults.append(f"patch_size is {patch}; the network takes multiples of {multiple}, for example {nearest}.")
    if decay > epochs:
        faults.append(f"decay_epochs is {decay}, but epochs is {epochs}; it cannot be more.")
    if tune and not held_out:
        faults.append("held_out is 0, but tune_thresholds is true; it must be above 0 and below 1.")
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
