"""How much of an image comes back from the other domain, validated during training."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bundle.common.random_state import random_states_kept
from bundle.common.region import spread
from bundle.data.datalist import SIDES, Datalist, Image, name_in
from bundle.evaluation.tables import CYCLES
from bundle.evaluation.unpaired.reconstruction import Cycle, measures, of_side
from bundle.images.slides import read_slide
from bundle.staining.model import model_in_memory
from bundle.training.validation import Row, Weights, inference_between_epochs


class CycleScores:
    """Translates images of the validation fold and back, and scores what comes back (Liu et al. Fig. 3).

    In ``train.json`` it takes the place of :class:`bundle.training.validation.SlideScores`, with the same arguments,
    where no pair is registered. Masks play no part, and LPIPS is not computed.

    Args:
        data: the checked dataset.
        device: where to compute.
        patch_size: side of the training patches, px.
        invert_source: the source is inverted in training.
        step: distance between windows, px; None takes half a window.
        lpips_weights: not used.
        wanted: not used; all metrics are computed, but MS-SSIM of images too small for it.
        normalisation: of the trained bundle.
        most: images of each side that are scored, spread over the fold; of tiles there may be thousands.

    Raises:
        InputError: if windows would leave gaps.
    """

    metrics = CYCLES

    def __init__(
        self,
        data: Datalist,
        device: str | torch.device,
        patch_size: int,
        invert_source: bool,
        step: int | None = None,
        lpips_weights: str | None = None,
        wanted: Sequence[str] = (),
        normalisation: str = "window",
        most: int = 50,
    ) -> None:
        self.device = torch.device(device)
        self.inference = inference_between_epochs(data, patch_size, invert_source, step, normalisation)
        self.folder = data.folder
        self.images: list[Image] = []
        self.notes: list[str] = []
        for side in SIDES:
            there = data.images("validation", side)
            self.images += [there[place] for place in spread(len(there), most)] if there else []
            if len(there) > most:
                self.notes.append(f"{most} of the {len(there)} {side} images of the validation fold are scored")

    def __len__(self) -> int:
        """Number of images of both sides."""
        return len(self.images)

    def __call__(self, weights: Weights) -> list[Row]:
        """Score each image, one at a time.

        Args:
            weights: of ``g_xy`` and ``g_yx``; they stay as they are, and so does every random number generator.

        Returns:
            The image's name and the measures of its side for each.
        """
        with random_states_kept():
            forward = model_in_memory(self.inference, weights["g_xy"], self.device)
            back = model_in_memory(self.inference, weights["g_yx"], self.device, "reverse", output_range=[0.0, 255.0])
        cycle = Cycle(forward, back)
        rows = []
        for each in self.images:
            image, _, again = cycle(each.side, read_slide(each.path).pixels)
            rows.append({"slide": name_in(self.folder, each.path), **of_side(each.side, measures(again, image))})
        return rows
