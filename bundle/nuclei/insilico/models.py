"""The two translations of a trained bundle: brightfield to fluorescence channels, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bundle.common.errors import InputError
from bundle.data.datalist import Modality
from bundle.staining.model import TrainedModel, load_model


@dataclass(frozen=True)
class Translators:
    """Both ways between brightfield images and fluorescence channels.

    Attributes:
        brightfield: what the bundle's source is: RGB, 0 to 255.
        fluorescence: what its target is, with a name for each channel.
        forward: brightfield (3, H, W) to fluorescence (C, H, W), uint8; None where tiles are fluorescence already.
        reverse: fluorescence (C, H, W), in the units of its range, to brightfield (3, H, W), uint8.
        distance: of brightfield (3, H, W) from the images of the training, see :func:`distance_of`; None where that is
            not known.
    """

    brightfield: Modality
    fluorescence: Modality
    forward: Callable[[np.ndarray], np.ndarray] | None
    reverse: Callable[[np.ndarray], np.ndarray]
    distance: Callable[[np.ndarray], float] | None

    @property
    def tiles(self) -> Modality:
        """What tiles are."""
        return self.brightfield if self.forward else self.fluorescence

    def to_channels(self, tile: np.ndarray) -> np.ndarray:
        """A tile as channels.

        Args:
            tile: (C, H, W), in the units of :attr:`tiles`.

        Returns:
            (C, H, W), float32 in [0, 1], where 0 and 1 are the ends of the declared range.
        """
        if self.forward:
            return self.forward(tile).astype(np.float32) / 255
        low, high = self.fluorescence.low, self.fluorescence.high
        return np.clip((tile.astype(np.float32) - low) / (high - low), 0, 1)

    def to_brightfield(self, channels: np.ndarray) -> np.ndarray:
        """Channels as a brightfield image.

        Args:
            channels: (C, H, W), in [0, 1].

        Returns:
            (3, H, W), uint8.
        """
        low, high = self.fluorescence.low, self.fluorescence.high
        return self.reverse(low + channels.astype(np.float32) * (high - low))


def load_translators(model_bundle: str | Path, domain: str, device: str | torch.device) -> Translators:
    """Load both generators of a trained bundle.

    Args:
        model_bundle: the folder, as a run leaves it in ``output_dir/bundle``.
        domain: ``source`` if tiles are brightfield, ``target`` if they are fluorescence.
        device: where to run them.

    Raises:
        InputError: if there is no bundle or no way back, its source is not RGB, or its target's channels are unnamed.
    """
    root = Path(model_bundle)
    if (root / "configs" / "inference.json").is_file() and not (root / "reverse.pt").is_file():
        raise InputError(
            f"{root} has no reverse.pt, so nothing can be translated back; train a method with two generators, for "
            "example configs/methods/restain.json."
        )
    forward, reverse = load_model(root, device), load_model(root, device, direction="reverse")
    faults = modality_faults(reverse.source, reverse.target)
    if faults:
        raise InputError("\n".join(f"{root}: {fault}" for fault in faults))
    way = forward if domain != "target" else None
    return Translators(reverse.source, reverse.target, way, reverse, distance_of(forward))


def distance_of(model: TrainedModel) -> Callable[[np.ndarray], float] | None:
    """How far an image (C, H, W), in the units of a model's source, is from the sources of its training.

    Args:
        model: as loaded.

    Returns:
        That in units of what these usually have from each other; None if the bundle does not hold it.
    """
    likeness = model.trust.likeness
    if likeness is None or not np.isfinite(likeness.usual):
        return None
    return lambda pixels: likeness.distance(model.prepared(pixels)) / likeness.usual


def modality_faults(source: Modality, target: Modality) -> list[str]:
    """What keeps a bundle from in-silico brightfield, a line each."""
    faults, names = [], target.channel_names
    if (source.channels, source.low, source.high) != (3, 0, 255):
        faults.append(f"its source is {source}; it must be a brightfield stain, 3 channels from 0 to 255.")
    if not names:
        faults.append(
            f"its target {target.name} has no channel_names, so edits cannot name a channel; add them to target in the "
            'dataset\'s datalist.json ("channel_names": ["DAPI", "membrane"]) and train again with --resume true.'
        )
    elif len(names) != target.channels or len(set(names)) < len(names):
        faults.append(
            f"its target {target.name} has {target.channels} channels, named {names}; give each its own name."
        )
    return faults


def chosen_device(device: str | None) -> torch.device:
    """The device that an option names; without one the GPU if there is one.

    Raises:
        InputError: if there is none of that name.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(str(device))
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device!r} cannot be used ({reason}); pass --device cpu or --device cuda.") from error
    return chosen
