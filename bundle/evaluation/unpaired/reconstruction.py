"""How well a cycle gives an image back: SSIM, MS-SSIM, PSNR and MAE of G_YX(G_XY(x)) against x (Liu et al. §5.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.metrics.regression import compute_ms_ssim

from bundle.common.errors import InputError
from bundle.data.datalist import SIDES, Modality
from bundle.evaluation.similarity import psnr, ssim
from bundle.images.slides import to_8bit
from bundle.staining.model import TrainedModel, load_model

MEASURES = ("ssim", "ms_ssim", "psnr", "mae")
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, §4.2
LEAST_PX = (11, 22, 44, 99, 176)  # side of an image with room for 1 to 5 scales and their window; as MONAI asks


def scales(height: int, width: int) -> int:
    """How many scales of MS-SSIM an image has room for; each halves the image, and its window is 11 px.

    Args:
        height: px.
        width: px.

    Returns:
        0 to 5; 5 from 176 px on.
    """
    return sum(min(height, width) >= least for least in LEAST_PX)


def ms_ssim(image: np.ndarray, reference: np.ndarray) -> float | None:
    """Multi-scale structural similarity (Wang et al. 2003), by MONAI, averaged over the channels.

    An image too small for five scales has fewer, the first ones, with weights of the same proportions that sum to 1.

    Args:
        image: (C, H, W), uint8.
        reference: (C, H, W), uint8.

    Returns:
        0 to 1; None if there is room for fewer than two scales, as that is no multi-scale measure.
    """
    count = scales(*image.shape[1:])
    if count < 2:
        return None
    given, wanted = (torch.from_numpy(one)[None].float() for one in (image, reference))
    return float(compute_ms_ssim(given, wanted, spatial_dims=2, data_range=255, weights=weights_of(count)))


def weights_of(count: int) -> list[float]:
    """Weights of the first scales, which sum to 1 if they are fewer than five (the five of the paper sum to 1)."""
    chosen = SCALE_WEIGHTS[:count]
    return [weight / sum(chosen) for weight in chosen]


def measures(image: np.ndarray, reference: np.ndarray) -> dict[str, float | None]:
    """The four measures of a reconstruction.

    Args:
        image: (C, H, W), uint8, what the cycle gave back.
        reference: (C, H, W), uint8, what went in; at least 7 px.

    Returns:
        ``ssim`` (scikit-image's, 7×7 windows), ``ms_ssim`` (None if there is no room), ``psnr`` in dB (inf for equal
        images) and ``mae``, in grey levels of 255.
    """
    error = np.abs(image.astype(np.int16) - reference.astype(np.int16)).mean()
    return {
        "ssim": ssim(image, reference),
        "ms_ssim": ms_ssim(image, reference),
        "psnr": psnr(image, reference),
        "mae": float(error),
    }


class Cycle:
    """Both generators of a run, each applied to whole images in windows as a slide would be stained.

    Images pass from one to the other in 8 bits, as they would between two commands.

    Args:
        forward: G_XY.
        reverse: G_YX, its result on the scale 0–255.
    """

    def __init__(self, forward: TrainedModel, reverse: TrainedModel) -> None:
        self.modalities = {"source": forward.source, "target": forward.target}
        self.away: dict[str, Callable[[np.ndarray], np.ndarray]] = {"source": forward, "target": reverse}

    def __call__(self, side: str, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Translate an image and translate it back.

        Args:
            side: ``source`` or ``target``, what the image is.
            pixels: (C, H, W), in the units of that side.

        Returns:
            The image, (C, H, W), its translation, (C', H, W), and its reconstruction, (C, H, W), all uint8.
        """
        other = SIDES[1 - SIDES.index(side)]
        own = self.modalities[side]
        there = self.away[side](pixels)
        back = self.away[other](in_units(there, self.modalities[other]))
        return to_8bit(pixels, own.low, own.high), there, back


def in_units(image: np.ndarray, modality: Modality) -> np.ndarray:
    """Back from the scale 0–255 to the declared range of a modality; uint8 → float32 of the same shape."""
    return (image.astype(np.float32) * ((modality.high - modality.low) / 255) + modality.low).astype(np.float32)


def load_cycle(model_bundle: str | Path, device: str | torch.device, **ids: Any) -> Cycle:
    """Both generators of a trained bundle.

    Args:
        model_bundle: the folder.
        device: where to run them.
        ids: other ids of ``inference.json`` to set, for example ``window``.

    Raises:
        InputError: if it is no trained bundle, or of a method with no way back.
    """
    forward = load_model(model_bundle, device, **ids)
    if not (Path(model_bundle) / "reverse.pt").is_file():
        raise InputError(f"{model_bundle} has no reverse.pt: this method has no way back, so nothing is given back.")
    return Cycle(forward, load_model(model_bundle, device, direction="reverse", output_range=[0.0, 255.0], **ids))


def of_side(side: str, found: Mapping[str, float | None]) -> dict[str, float | None]:
    """The measures by their names in :mod:`bundle.evaluation.tables`."""
    return {f"{side}_{name}": value for name, value in found.items()}
