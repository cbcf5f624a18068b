"""One slice through the network, window by window, without the windows where nothing is to be seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from monai.inferers import Inferer
from monai.transforms import Compose
from torch import Tensor, nn

from bundle.inference import as_integers, on_background, without_loading


class Windows:
    """A network as a sliding window calls it, that leaves out the windows without any of the sample.

    What it gives for those is never seen: no pixel of the sample lies in them, and all others become background.

    Args:
        network: (B, C, H, W) → (B, 3, H, W).
        inside: (H, W), bool, where the sample is; None for everywhere.
    """

    def __init__(self, network: nn.Module, inside: np.ndarray | None = None) -> None:
        self.network, self.inside = network, inside
        self.done = self.skipped = 0

    def __call__(self, batch: Tensor, places: Sequence[Sequence[slice]] | None = None) -> Tensor:
        """Stain windows; ``places`` says where each lies, as MONAI's ``with_coord`` gives it."""
        if self.inside is None or places is None:
            wanted = [True] * len(batch)
        else:
            wanted = [bool(self.inside[place[2], place[3]].any()) for place in places]
        self.done += sum(wanted)
        self.skipped += len(wanted) - sum(wanted)
        if all(wanted):
            return self.network(batch)
        result = torch.ones(len(batch), 3, *batch.shape[2:], device=batch.device)
        if any(wanted):
            result[wanted] = self.network(batch[wanted]).to(result.dtype)
        return result


@dataclass
class Stainer:
    """Stains slices as ``inference.json`` would, and counts the windows.

    Attributes:
        preprocessing: of the config; its steps that read a file are left out.
        network: with its weights, on its device.
        inferer: sliding windows, or the whole slice.
        postprocessing: of the config.
        device: of the network.
        window: side of a window, px; None for whole slices.
        background_rgb: what is outside the sample becomes.
        done: windows that went through the network.
        skipped: windows that were left out.
    """

    preprocessing: Compose
    network: nn.Module
    inferer: Inferer
    postprocessing: Callable
    device: torch.device
    window: int | None
    background_rgb: Sequence[float] | None = None
    done: int = field(default=0, init=False)
    skipped: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.preprocessing = without_loading(self.preprocessing)

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray, inside: np.ndarray | None = None) -> np.ndarray:
        """Stain a slice.

        Args:
            pixels: (H, W), in the scan's units.
            inside: (H, W), bool, where the sample is; None for everywhere.

        Returns:
            (H, W, 3), uint8.
        """
        if inside is not None and not inside.any():
            return np.ascontiguousarray(self._background(pixels.shape))
        image = self.preprocessing({"image": torch.from_numpy(pixels[None].astype(np.float32))})["image"]
        # a slice smaller than a window is padded, so places in it would not be the slice's
        fits = self.window is not None and min(pixels.shape) >= self.window
        windows = Windows(self.network, inside if fits else None)
        pred = self.inferer(image[None].to(self.device), windows)[0]
        self.done, self.skipped = self.done + windows.done, self.skipped + windows.skipped
        stained = as_integers(self.postprocessing({"pred": pred})["pred"])
        if inside is not None:
            stained = on_background(stained, inside, self.background_rgb)
        return np.ascontiguousarray(stained.transpose(1, 2, 0))

    def _background(self, shape: tuple[int, ...]) -> np.ndarray:
        colour = np.rint(np.asarray(self.background_rgb)).astype(np.uint8)
        return np.broadcast_to(colour, (*shape, 3))
