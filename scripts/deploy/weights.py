"""A bundle's model, loaded as weights and as TorchScript only: neither can run code of its author's machine."""

from __future__ import annotations

from pathlib import Path

import torch

from bundle.common.errors import InputError

STATISTICS = ("mean", "deviation", "first", "second")  # of bundle.networks.specimen_norm, no weights
SCRIPT, WEIGHTS = "models/model.ts", "models/model.pt"


def check_weights(bundle_root: Path) -> None:
    """See that ``models/model.ts``, which the SDK runs, holds the weights of ``models/model.pt``.

    For the SHA-256 of ``model.pt`` is the model's identity that is written into the results.

    Raises:
        InputError: if one of them is missing, is not what its name says, or holds other weights than the other.
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
        script = _weights_of(torch.jit.load(str(script_path), map_location="cpu").state_dict())
    except Exception as error:  # likewise
        raise InputError(f"{script_path} is no TorchScript, or is broken; copy it from the run again.") from error
    same = (
        isinstance(weights, dict)
        and weights.keys() == script.keys()
        and all(isinstance(value, torch.Tensor) and torch.equal(value, script[name]) for name, value in weights.items())
    )
    if not same:
        raise InputError(f"{script_path} holds other weights than {WEIGHTS}; copy both from one run.")


def _weights_of(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Those of the generator alone, where it is part of what stains volumes, with statistics of sections beside it."""
    if "sections" not in tensors:
        return tensors
    within = {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
    return {name: value for name, value in within.items() if name.rpartition(".")[2] not in STATISTICS}
