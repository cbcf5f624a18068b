"""Learn, from sections that a generator did not learn from, which error its stain is expected to have."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bundle.common.random_state import random_states_kept
from bundle.common.run_folder import PROVENANCE, read_record
from bundle.data.datalist import Datalist, Pair
from bundle.data.patches import load_pair
from bundle.evaluation.error_map import WINDOW, auroc_of_worst, windows_of
from bundle.evaluation.slide_scores import in_8bit
from bundle.images.slides import read_slide
from bundle.networks.cells import at_pixels, means_of
from bundle.networks.error_head import LEVELS_PER_UNIT, ErrorHead
from bundle.networks.error_map import Calibration, ErrorMap
from bundle.networks.likeness import Likeness, learn
from bundle.networks.sections import MOST, spread_over
from bundle.staining.model import model_in_memory

logger = logging.getLogger("bundle")

FEW = 2  # sections, below which none can be left out
GROUPS = 5  # that are left out in turn
STEPS, BATCH = 1000, 4096
RATE, DECAY = 3e-3, 1e-2
LEAST_SCALE = 1e-3  # of a feature
MOST_PIXELS = 200_000  # of a section that its bound is taken from
MOST_BYTES = 1 << 30  # of features that are held at once
SHARE = 0.9  # of pixels that the bound holds for
FULL = 0.99  # of a cell that must lie in the mask


@dataclass(frozen=True)
class Judged:
    """A section that the network did not learn from, in cells of 4×4 px.

    Attributes:
        specimen: what it is of.
        features: (h, w, C), of the network.
        error: (H, W), mean absolute error of the stain over its channels, levels.
        mask: (H, W), bool, where it is known.
    """

    specimen: str
    features: np.ndarray
    error: np.ndarray
    mask: np.ndarray

    @property
    def inside(self) -> np.ndarray:
        """The cells that lie in the mask, (h, w), bool."""
        return means_of(torch.from_numpy(self.mask[None].astype(np.float32)))[0].numpy() >= FULL

    @property
    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Features (N, C) and mean error (N) of the cells inside."""
        error = means_of(torch.from_numpy(self.error[None]))[0].numpy()
        return self.features[self.inside], error[self.inside]

    @torch.no_grad()
    def predicted(self, head: ErrorHead) -> np.ndarray:
        """What a head expects in each pixel, (H, W), levels."""
        height, width, channels = self.features.shape
        cells = head.levels(torch.from_numpy(self.features.reshape(-1, channels))).view(1, height, width)
        return at_pixels(cells, *self.error.shape)[0].numpy()

    def ratios(self, predicted: np.ndarray) -> np.ndarray:
        """Error over what is expected, of some pixels inside the mask."""
        found = (self.error / predicted)[self.mask]
        return found[:: max(1, len(found) // MOST_PIXELS)]


class Features(nn.Module):
    """Takes the place of an error head, and gives some of the features instead."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) → (B, stop − start, h, w), which come back from a stain in levels."""
        return features[:, self.start : self.stop].float() / LEVELS_PER_UNIT


def likeness_of(data: Datalist, inference: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Likeness:
    """What is kept of the training's sources, at most ``MOST``, evenly from the list.

    Args:
        data: the dataset it was trained on.
        inference: content of the trained bundle's ``inference.json``.
        weights: of its network.
    """
    model, images = model_in_memory(inference, weights, "cpu"), data.images("training", "source")
    some = [images[place] for place in spread_over(len(images), MOST)]
    sources = [model.prepared(read_slide(image.path).pixels)[: data.source.channels] for image in some]
    return learn(sources, [image.specimen for image in some])


def always_held_back(run: Path) -> bool:
    """Whether a run has had the same data and the same fold from its start, so that it never learnt from that fold.

    Args:
        run: its folder; what was resumed stands in its record.
    """
    path = run / PROVENANCE
    began = read_record(path) if path.is_file() else {}
    tries = [began, *began.get("resumed", [])]
    had = [(each.get("config", began.get("config", {})).get("fold"), each.get("data_sha256")) for each in tries]
    return all(each == had[0] for each in had)


def error_map_of(
    data: Datalist, inference: Mapping[str, Any], weights: Mapping[str, Tensor], device: str | torch.device, run: Path
) -> ErrorMap | None:
    """The error map of a trained network, from the pairs of the validation fold; None, with a line, without them.

    The error of a pixel is the mean over the channels of the absolute difference of stain and section, both in 8 bits.

    Args:
        data: the dataset it was trained on.
        inference: content of the trained bundle's ``inference.json``.
        weights: of its network.
        device: where to compute.
        run: the folder of its run.
    """
    if not data.paired:
        logger.info(
            "no error map: this method learns from images that are no pairs, so nothing says what its error is."
        )
        return None
    if not data.validation:
        logger.info("no error map: every pair was learnt from; train another run with --fold 0 to have one.")
        return None
    if not always_held_back(run):
        logger.info("no error map: the run was resumed with another fold or other data, and may know its fold.")
        return None
    judged = [_judge(data, pair, inference, weights, device) for pair in data.validation]
    found = calibrated([each for each in judged if each.inside.any()])
    if found is None:
        logger.info("no error map: it takes %d pairs in the validation fold, with pixels in their masks.", FEW)
        return None
    told = found.calibration
    logger.info(
        "error map: learnt from %d pairs of the validation fold; it finds the worst tenth of the windows of %s left "
        "out with AUROC %.2f, and its bound holds for %.0f %% of their pixels (%.0f %% wanted).",
        *(len(judged), "specimens" if told.specimens >= FEW else "pairs of its one specimen"),
        *(told.auroc, 100 * told.coverage, 100 * told.level),
    )
    return found


def _judge(
    data: Datalist, pair: Pair, inference: Mapping[str, Any], weights: Mapping[str, Tensor], device: str | torch.device
) -> Judged:
    """Stain a pair's source, and keep its features and errors."""
    images = load_pair(pair)
    _, target, mask = in_8bit(data, images)
    at_once, start, parts, stop = max(1, MOST_BYTES // (8 * mask.size)), 0, [], 1
    while start < stop:
        with random_states_kept():
            model = model_in_memory(inference, weights, device, error=Features(start, start + at_once))
        stain, features = model.with_error(images["source"])
        assert features is not None
        parts.append(features)
        start, stop = start + at_once, int(model.network.features)  # type: ignore[arg-type]
    error = np.abs(stain.astype(np.float32) - target).mean(0)
    return Judged(pair.specimen, np.concatenate(parts).transpose(1, 2, 0), error, mask)


def calibrated(judged: Sequence[Judged]) -> ErrorMap | None:
    """Fit a head to all, and a bound to what heads that were fit to the others expect of each specimen.

    The bound is split conformal (Vovk et al. 2005; cross-conformal, Vovk 2015): the score of a pixel is its error over
    what is expected of it by a head that has not seen its specimen, and the bound what is expected times the quantile
    ``SHARE`` of these.

    Args:
        judged: sections, all with cells inside their masks.

    Returns:
        None if there are fewer than two sections. Of one specimen, they are left out one by one.
    """
    if len(judged) < FEW:
        return None
    specimens = [each.specimen for each in judged]
    names: list[Any] = specimens if len(set(specimens)) >= FEW else list(range(len(judged)))
    kinds = list(dict.fromkeys(names))
    ratios: list[list[np.ndarray]] = []
    found: list[float] = []
    for place in range(min(GROUPS, len(kinds))):
        group = [name in kinds[place::GROUPS] for name in names]
        head = fitted([each for each, left_out in zip(judged, group, strict=True) if not left_out])
        ratios.append([])
        for each in (one for one, left_out in zip(judged, group, strict=True) if left_out):
            predicted = each.predicted(head)
            ratios[-1].append(each.ratios(predicted))
            expected, true = (windows_of(image, each.mask, WINDOW) for image in (predicted, each.error))
            found.append(auroc_of_worst(expected, true))
    covered = []
    for place, own in enumerate(ratios):
        bound = _bound([each for other, part in enumerate(ratios) if other != place for each in part])
        covered += [float((each <= bound).mean()) for each in own]
    rows = [each.rows for each in judged]
    return ErrorMap(
        fitted(judged),
        Calibration(
            bound=_bound([each for part in ratios for each in part]),
            level=SHARE,
            specimens=len(set(specimens)),
            pixels=sum(int(each.mask.sum()) for each in judged),
            auroc=float(np.nanmean(found)) if np.isfinite(found).any() else float("nan"),
            coverage=float(np.mean(covered)),
            mean=float(np.concatenate([error for _, error in rows]).mean()),
        ),
    )


def _bound(ratios: Sequence[np.ndarray]) -> float:
    return float(np.quantile(np.concatenate(ratios), SHARE))


def fitted(judged: Sequence[Judged]) -> ErrorHead:
    """A head that expects of features the mean of the errors they came with; with a fixed seed.

    It minimises p − e log p, e being an error and p what is expected of it, whose minimum is the mean of e, and which
    counts errors in proportion to what is expected.

    Args:
        judged: sections.
    """
    features, errors = (np.concatenate(parts) for parts in zip(*(each.rows for each in judged), strict=True))
    rows, wanted = torch.from_numpy(features), torch.from_numpy(errors)
    with random_states_kept():
        torch.manual_seed(0)
        head = ErrorHead(rows.shape[1])
        head.centre, head.scale = rows.mean(0), rows.std(0, correction=0) + LEAST_SCALE
        optimiser = torch.optim.AdamW(head.parameters(), RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
        for _ in range(STEPS):
            some = torch.randint(len(rows), (BATCH,))
            expected = head.levels(rows[some])
            loss = (expected - wanted[some] * torch.log(expected)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return head.eval().requires_grad_(False)
