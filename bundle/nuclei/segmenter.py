"""A trained bundle of nuclei as one function: an image in, labels out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.inferers import sliding_window_inference
from stardist.matching import accuracy, matching
from torch import nn

from bundle.common.config_text import as_path
from bundle.common.errors import InputError, input_error
from bundle.common.trained_bundle import no_bundle
from bundle.data.datalist import Modality
from bundle.nuclei.checks import share_faults
from bundle.nuclei.losses import in_px
from bundle.nuclei.stars import drawn, polygons

PROBABILITIES = tuple(round(0.3 + 0.05 * step, 2) for step in range(13))  # 0.3, 0.35 … 0.9
NMS_THRESHOLDS = (0.3, 0.4, 0.5)  # those that optimize_thresholds of stardist.models tries
TUNED_IOUS = (0.3, 0.5, 0.7)  # likewise
SIZE_TOLERANCE = 0.1  # of the pixel size; ours: nuclei of one kind differ by more among themselves


@dataclass(frozen=True)
class Prediction:
    """What a network says of an image.

    Attributes:
        probability: (h, w) in [0, 1].
        distances: (rays, h, w), px of the image.
        shape: H, W of the image.
    """

    probability: np.ndarray
    distances: np.ndarray
    shape: tuple[int, int]


@dataclass(frozen=True)
class Nuclei:
    """The nuclei of an image.

    Attributes:
        labels: (H, W), int32, 0 for background, from 1 without gaps, the most probable first.
        probabilities: of nucleus 1, 2, …
    """

    labels: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True)
class Segmenter:
    """A StarDist network with what it takes to use it.

    Attributes:
        network: (B, C, H, W) in [−1, 1] → (B, 1 + rays, H/grid, W/grid).
        image: what its images are.
        grid: pixels between two predictions.
        unit_px: what its distances are in, see :func:`bundle.nuclei.losses.in_px`.
        multiple_of: sides that the network takes are multiples of this, px.
        window: images with a longer side are predicted in overlapping windows of this side, px.
        probability_threshold: less probable polygons are left out.
        nms_threshold: of two that overlap by more than this, the less probable is left out.
        device: where the network is.
        pixel_um: pixel size in µm of the images it was trained on, if their datalist stated one.

    Raises:
        InputError: if a threshold is not between 0 and 1, or the window is no whole number of at least 1.
    """

    network: nn.Module
    image: Modality
    grid: int
    unit_px: float
    multiple_of: int
    window: int
    probability_threshold: float
    nms_threshold: float
    device: torch.device
    pixel_um: float | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        faults = share_faults(probability_threshold=self.probability_threshold, nms_threshold=self.nms_threshold)
        if type(self.window) is not int or self.window < 1:
            faults.append(f"window is {self.window!r}; it must be a whole number of at least 1.")
        if faults:
            raise InputError("\n".join(faults))

    def __call__(self, pixels: np.ndarray, image: Modality | None = None) -> Nuclei:
        """Segment one image.

        Args:
            pixels: (C, H, W), in the units of the declared range.
            image: what is declared of it, if that is not what was declared in training.
        """
        return self.nuclei(self.predict(pixels, image))

    @torch.no_grad()
    def predict(self, pixels: np.ndarray, image: Modality | None = None) -> Prediction:
        """Probability and distances; the image is reflected at its border to sides that the network takes.

        Args:
            pixels: (C, H, W), in the units of the declared range, which becomes [−1, 1].
            image: as in :meth:`__call__`.
        """
        declared = image or self.image
        height, width = pixels.shape[1:]
        scaled = (pixels.astype(np.float32) - declared.low) * (2 / (declared.high - declared.low)) - 1
        beyond = [(0, -side % self.multiple_of) for side in (height, width)]
        padded = torch.from_numpy(np.pad(scaled, ((0, 0), *beyond), mode="reflect"))[None]
        side = self.window - self.window % self.multiple_of or self.multiple_of
        roi = [min(side, size) for size in padded.shape[2:]]
        where: dict[str, Any] = {"sw_device": self.device, "device": "cpu"}  # a GPU holds one window
        network = self.network.eval()
        output: Any = sliding_window_inference(padded, roi, 1, network, overlap=0.25, mode="gaussian", **where)
        kept = output[0, :, : -(-height // self.grid), : -(-width // self.grid)].float()
        logit, distances = in_px(kept[None], self.unit_px)
        return Prediction(torch.sigmoid(logit[0, 0]).numpy(), distances[0].numpy(), (height, width))

    def nuclei(self, prediction: Prediction) -> Nuclei:
        """The nuclei of a prediction."""
        thresholds = (self.probability_threshold, self.nms_threshold)
        found = polygons(prediction.probability, prediction.distances, self.grid, *thresholds)
        return Nuclei(*drawn(*found, prediction.shape))

    @property
    def size_note(self) -> str:
        """What to say where a pixel size is not known, if that of the training is."""
        return f"nothing tells whether they are the {self.pixel_um:g} µm that the segmenter was trained on"

    def size_faults(self, what: str, pixel_um: float | None, remedy: str) -> list[str]:
        """A line if pixels are not of the size that the segmenter was trained on, as far as both are known.

        Args:
            what: states the size, for the message.
            pixel_um: the size, µm; None if it is not known.
            remedy: what to do if what was stated is wrong.
        """
        if pixel_um is None or self.pixel_um is None or abs(pixel_um / self.pixel_um - 1) <= SIZE_TOLERANCE + 1e-9:
            return []
        return [
            f"{what} states pixels of {pixel_um:g} µm but the segmenter was trained on pixels of {self.pixel_um:g} µm; "
            f"scale the images to {self.pixel_um:g} µm, {remedy}."
        ]


def tuned(segmenter: Segmenter, images: Iterable[np.ndarray], labels: Iterable[np.ndarray]) -> Segmenter:
    """The same with the thresholds that suit images it was not trained on.

    The greatest TP/(TP+FP+FN) of all nuclei together, averaged over IoU 0.3, 0.5 and 0.7, as StarDist's own program
    wants it, but searched on a grid, and of equals the middle one: few images make the score a staircase, and the
    golden section search of ``stardist.utils.optimize_threshold`` was seen to end at the very edge of the best step.

    Images are gone through one by one, and of each its counts alone are kept: three for each pair of thresholds and
    IoU. Meanwhile memory holds one image's prediction, 4 · (1 + rays) / grid² bytes a pixel: 33 with 32 rays, grid 2.

    Args:
        segmenter: as trained.
        images: (C, H, W) each, none of them seen in training nor to be scored later.
        labels: (H, W) each.
    """
    asked = [
        replace(segmenter, probability_threshold=probability, nms_threshold=nms)
        for nms in NMS_THRESHOLDS
        for probability in PROBABILITIES
    ]
    counts = np.zeros((len(asked), len(TUNED_IOUS), 3), int)
    for pixels, true in zip(images, labels, strict=True):
        counts += _matched(asked, segmenter.predict(pixels), true)
    scores = [np.mean([accuracy(*each) for each in of_one]) for of_one in counts.tolist()]
    best = max(scores)
    equal = [each for score, each in zip(scores, asked, strict=True) if score == best]
    return equal[len(equal) // 2]


def _matched(asked: Iterable[Segmenter], prediction: Prediction, true: np.ndarray) -> np.ndarray:
    """TP, FP and FN of one image: (segmenters, ``TUNED_IOUS``, 3)."""
    counts = []
    for segmenter in asked:
        found: Any = matching(true.astype(np.int32), segmenter.nuclei(prediction).labels, thresh=TUNED_IOUS)
        counts.append([(each.tp, each.fp, each.fn) for each in found])
    return np.asarray(counts)


def load_segmenter(bundle_root: str | Path, device: str | torch.device = "cpu", **ids: Any) -> Segmenter:
    """A trained bundle, ready to segment.

    Args:
        bundle_root: the folder that a training left as ``bundle``.
        device: where to compute.
        ids: of its ``configs/inference.json``, to be changed: ``probability_threshold``, ``window`` …; None changes
            nothing.

    Raises:
        InputError: if it is no such bundle, its weights are damaged, or an id makes no sense.
    """
    path = Path(bundle_root) / "configs" / "inference.json"
    if not path.is_file():
        raise InputError(no_bundle(Path(bundle_root)))
    parser = ConfigParser()
    parser.read_config(str(path))
    if "segmenter" not in parser.get():
        raise InputError(
            f"{bundle_root} does not segment nuclei, its configs/inference.json has no segmenter; give RUN/bundle of a "
            "training of configs/nuclei.json."
        )
    parser.update({"bundle_root": as_path(str(bundle_root)), "device": torch.device(device)})
    parser.update({name: value for name, value in ids.items() if value is not None})
    try:
        return parser.get_parsed_content("segmenter")
    except RuntimeError as error:  # MONAI's wrapping
        raise input_error(error) or error from error
