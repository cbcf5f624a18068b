"""How a run goes on slides it does not train on: a scorer's metrics, the best by each, and when to stop."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from ignite.engine import Events
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from bundle.common import processes
from bundle.common.errors import InputError
from bundle.common.random_state import random_states_kept
from bundle.common.run_folder import LATEST
from bundle.data.datalist import Datalist, name_in
from bundle.data.patches import load_pair
from bundle.evaluation.scoring import score_slide
from bundle.evaluation.similarity import LPIPS_MISSING, Lpips, find_lpips
from bundle.evaluation.slide_scores import in_8bit
from bundle.evaluation.tables import METRICS, VALIDATION, best_epoch, means, write_csv
from bundle.networks.checkpoints import save_tensors
from bundle.staining.model import model_in_memory, on_background
from bundle.training.publish import described_inference
from bundle.training.trainers import CycleTrainer

logger = logging.getLogger("bundle")

Row = dict[str, Any]
Weights = Mapping[str, Mapping[str, Tensor]]


class Scorer(Protocol):
    """What :class:`Validation` asks of ``train#slides``.

    Attributes:
        metrics: columns of a row, by their names in :mod:`bundle.evaluation.tables`, which knows what is better.
        notes: what is said once at the start of a run: what cannot be computed, and why.
    """

    metrics: tuple[str, ...]
    notes: Sequence[str]

    def __len__(self) -> int:
        """Number of images that would be scored; without one nothing is done."""

    def __call__(self, weights: Weights) -> list[Row]:
        """A row an image: ``slide``, its name, and those metrics that concern it.

        Args:
            weights: state dicts of the generators by id, which stay as they are.
        """


class SlideScores:
    """Stains the slides of the validation fold as the trained bundle would, and scores them as an evaluation does.

    Only the distance of the windows may be another than that of the trained bundle.

    Args:
        data: the checked dataset.
        device: where to compute.
        patch_size: side of the training patches, px.
        invert_source: the source is inverted in training.
        step: distance between windows, px; None takes half a window.
        lpips_weights: SqueezeNet weights; None looks in the torch hub cache.
        wanted: metrics that must be computed, or the checkpoints by them.
        normalisation: of the trained bundle.

    Raises:
        InputError: if LPIPS is wanted and there are no weights, if those named are wrong, or if windows would leave
            gaps.
    """

    metrics = METRICS

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
    ) -> None:
        self.data = data
        self.device = torch.device(device)
        self.inference = inference_between_epochs(data, patch_size, invert_source, step, normalisation)
        self.lpips: Lpips | None = None
        if data.validation:
            with random_states_kept():
                self.lpips = find_lpips(lpips_weights, device)
            if self.lpips is None and {"lpips", "best_lpips"} & set(wanted):
                raise InputError(LPIPS_MISSING)
        self.notes = [] if self.lpips else [LPIPS_MISSING]

    def __len__(self) -> int:
        """Number of slides."""
        return len(self.data.validation)

    def __call__(self, weights: Weights) -> list[Row]:
        """Stain and score each slide, one at a time.

        Args:
            weights: of ``g_xy``, others are not used; they stay as they are, and so does every random number generator.

        Returns:
            The slide's name and metrics for each; one that was not computed is None.
        """
        with random_states_kept():
            model = model_in_memory(self.inference, weights["g_xy"], self.device)
        rows = []
        for pair in self.data.validation:
            images = load_pair(pair)
            _, target, mask = in_8bit(self.data, images)
            made = {"stained": model(images["source"]), "real": target}
            shown = {name: on_background(image, mask, self.data.background_rgb) for name, image in made.items()}
            name = name_in(self.data.folder, pair.source)
            rows.append({"slide": name, **score_slide(shown["stained"], shown["real"], mask, self.lpips)})
        return rows


class Validation:
    """Scores the generator on whole slides every few epochs, keeps the best, and stops a run that gains no more.

    Figures go to ``validation.csv``, TensorBoard and the log; ``checkpoints/best_<metric>.pt`` holds the generators
    of the epoch whose mean over the slides was best. All that a resumed run needs is in the state: the table's rows.

    Args:
        slides: gives a row a slide for weights of the generators; without a slide nothing is done.
        output_dir: the run's folder.
        writer: TensorBoard's.
        every: epochs between two validations; the last epoch always has one; 0 means never.
        metric: which one says whether the run gains.
        patience: stop after so many validations without a gain; None means never.
    """

    def __init__(
        self,
        slides: Scorer,
        output_dir: str,
        writer: SummaryWriter,
        every: int = 25,
        metric: str = "ssim",
        patience: int | None = None,
    ) -> None:
        self.slides = slides
        self.folder = Path(output_dir)
        self.writer = writer
        self.every = every
        self.metric = metric
        self.patience = patience
        self.rows: list[Row] = []

    def attach(self, engine: CycleTrainer) -> None:
        """Register with the trainer, before what saves the run."""
        engine.add_event_handler(Events.STARTED, self.started)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.epoch_completed)

    def state_dict(self) -> dict[str, Any]:
        """The rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the rows of an earlier part of the run."""
        self.rows = list(state["rows"])

    def started(self, engine: CycleTrainer) -> None:
        """Make the table agree with where the run begins; do not begin if there was no gain for long enough."""
        self.write_table()
        if self.every and not len(self.slides):
            logger.info("no validation during the run: fold is null, so all pairs are trained on")
        elif self.every:
            for note in self.slides.notes:
                logger.info(note)
            self.stop_if_no_gain(engine)

    def epoch_completed(self, engine: CycleTrainer) -> None:
        """Validate if it is time."""
        epoch = engine.state.epoch
        if not self.every or not len(self.slides) or (epoch % self.every and epoch != engine.state.max_epochs):
            return
        generators = engine.deployable()
        scores = self.slides(generators) if processes.is_main() else []
        scores = processes.every_state(scores)[0]  # all processes must stop after the same epoch
        self.rows = [*self.rows, *({"epoch": epoch, **row} for row in scores)]
        self.write_table()
        by_metric = {name: means(self.rows, name) for name in self.slides.metrics}
        figures = {name: values[epoch] for name, values in by_metric.items() if epoch in values}
        for name, value in figures.items():
            self.writer.add_scalar(f"validation/{name}", value, engine.state.iteration)
            if best_epoch(by_metric[name], name) == epoch and processes.is_main():
                content = {**generators, "epoch": epoch, "value": value}
                save_tensors(content, self.folder / LATEST.parent / f"best_{name}.pt")
        logger.info("validation after epoch %d  %s", epoch, "  ".join(f"{k} {v:.4f}" for k, v in figures.items()))
        self.stop_if_no_gain(engine)

    def write_table(self) -> None:
        """Write ``validation.csv``, or remove what a killed run left of it."""
        if not processes.is_main():
            return
        if self.rows:
            write_csv(self.folder / VALIDATION, ("epoch", "slide", *self.slides.metrics), self.rows)
        else:
            (self.folder / VALIDATION).unlink(missing_ok=True)

    def stop_if_no_gain(self, engine: CycleTrainer) -> None:
        """End the run if the last ``patience`` validations brought nothing better than the best before."""
        by_epoch = means(self.rows, self.metric)
        if self.patience is None or not by_epoch:
            return
        best = best_epoch(by_epoch, self.metric)
        since = sum(epoch > best for epoch in by_epoch)
        if since >= self.patience:
            logger.info(
                "stopped after epoch %d: %s was best after epoch %d; validations without a gain since then: %d "
                "(patience %d)",
                *(max(by_epoch), self.metric, best, since, self.patience),
            )
            engine.terminate()


def inference_between_epochs(
    data: Datalist, patch_size: int, invert_source: bool, step: int | None, normalisation: str
) -> dict[str, Any]:
    """The trained bundle's ``inference.json`` with windows as far apart as a validation wants them.

    Args:
        data: the checked dataset.
        patch_size: side of the training patches, px.
        invert_source: the source is inverted in training.
        step: distance between windows, px; None takes half a window.
        normalisation: of the trained bundle.

    Raises:
        InputError: if windows would leave gaps.
    """
    inference = described_inference(data, patch_size, invert_source, normalisation)
    window = inference["window"]
    inference["step"] = window // 2 if step is None else step
    if inference["step"] > window:
        raise InputError(f"validate_step is {step}; it must not be above the window of {window} px.")
    return inference
