"""A bundle's model, loaded as weights and as TorchScript only: neither can run code of its author's machine."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch

from bundle.common.errors import InputError
from bundle.common.trained_bundle import read_stock_config

STATISTICS = ("mean", "deviation", "first", "second")  # of bundle.networks.specimen_norm, no weights
SCRIPT, WEIGHTS, SECTIONS = "models/model.ts", "models/model.pt", "models/sections.npz"


def check_weights(bundle_root: Path) -> None:
    """See that ``models/model.ts``, which the SDK runs, holds the weights of ``models/model.pt``.

    For the SHA-256 of ``model.pt`` is the model's identity that is written into the results. Where one section decides
    about a scan, those of the training must be in ``model.ts`` as well.

    Raises:
        InputError: if one of them is missing, is not what its name says, or holds something else than the other.
    """
    script_path, weights_path = bundle_root / SCRIPT, bundle_root / WEIGHTS
    for path in (script_path, weights_path):
        if not path.is_file():
            raise InputError(f"{path} does not exist; give RUN/bundle of a run (a network has a {SCRIPT} if it can).")
    try:
        # said outright: the default may be switched off by a variable of the environment
        weights = torch.load(weights_path, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile or broken file makes it raise nearly anything
        raise InputError(
            f"{weights_path} holds something other than weights, or is broken, and is not loaded; copy it from the run "
            "again."
        ) from error
    try:
        tensors = torch.jit.load(str(script_path), map_location="cpu").state_dict()
    except Exception as error:  # likewise
        raise InputError(f"{script_path} is no TorchScript, or is broken; copy it from the run again.") from error
    script = _weights_of(tensors)
    same = (
        isinstance(weights, dict)
        and weights.keys() == script.keys()
        and all(isinstance(value, torch.Tensor) and torch.equal(value, script[name]) for name, value in weights.items())
    )
    if not same:
        raise InputError(f"{script_path} holds other weights than {WEIGHTS}; copy both from one run.")
    if read_stock_config(bundle_root).get("normalisation") == "specimen":
        _check_sections(tensors.get("sections"), bundle_root)


def _check_sections(sections: torch.Tensor | None, bundle_root: Path) -> None:
    """See that a script holds sections, and those that MONAI Label would take, if they are there.

    Raises:
        InputError: if not.
    """
    if sections is None or sections.ndim != 2 or not len(sections) or not bool(sections.isfinite().all()):
        raise InputError(
            f"{bundle_root / SCRIPT} holds no statistics of the training's sections, but normalisation is 'specimen'; "
            "copy it from the run again."
        )
    path = bundle_root / SECTIONS
    if not path.is_file():
        return
    try:
        with np.load(path, allow_pickle=False) as content:
            same = np.array_equal(content["statistics"], sections.numpy())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        same = False
    if not same:
        raise InputError(f"{bundle_root / SCRIPT} holds other sections than {SECTIONS}; copy both from one run.")


def _weights_of(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Those of the generator alone, where it is part of what stains volumes, with statistics of sections beside it."""
    if "sections" not in tensors:
        return tensors
    within = {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
    return {name: value for name, value in within.items() if name.rpartition(".")[2] not in STATISTICS}
