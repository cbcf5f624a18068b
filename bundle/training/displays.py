"""Ignite handlers of a training run that show how it goes: progress, sample pictures, swapped light and dark."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from bundle.common import processes
from bundle.common.atomic import whole_file
from bundle.data.datalist import Datalist
from bundle.images.false_colour import shown
from bundle.training.trainers import CycleTrainer
from bundle.training.translation import Translation

logger = logging.getLogger("bundle")
COLUMNS = ("x", "fake_y", "mask", "y", "fake_x")  # of a sample picture, as in Fig. 4a
FORWARD = ("x", "fake_y", "mask", "y")  # what a method without a way back has to show


class Progress:
    """A bar over the whole run with the time left and the losses; a line a minute where there is no terminal."""

    def attach(self, engine: CycleTrainer) -> None:
        """Register with the trainer, in the main process."""
        if processes.is_main():
            engine.add_event_handler(Events.EPOCH_STARTED, self.epoch_started)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self.iteration_completed)
            engine.add_event_handler(Events.COMPLETED, self.completed)
        self.bar: Any = None
        self.messages = contextlib.ExitStack()  # log lines go above the bar while it is open

    def epoch_started(self, engine: CycleTrainer) -> None:
        """Open the bar at the first epoch that runs."""
        if self.bar is None:
            total = engine.state.max_epochs * engine.state.epoch_length
            self.messages.enter_context(logging_redirect_tqdm())
            quiet = {} if sys.stderr.isatty() else {"mininterval": 60, "ascii": True}
            self.bar = tqdm(total=total, initial=engine.state.iteration, unit="step", dynamic_ncols=True, **quiet)
        self.bar.set_description(f"epoch {engine.state.epoch}/{engine.state.max_epochs}", refresh=False)

    def iteration_completed(self, engine: CycleTrainer) -> None:
        """One step on."""
        self.bar.set_postfix({name: f"{value:.3g}" for name, value in engine.state.output.items()}, refresh=False)
        self.bar.update()

    def completed(self, engine: CycleTrainer) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()
            self.messages.close()


EARLY_STEPS = 100  # of a run, in which nothing is settled yet; ours


class Polarity:
    """Warns when an unpaired method stains what is light and leaves what is dark.

    Cycle losses are as low when both generators swap light and dark, so nothing but the discriminators speaks against
    it, and a run that begins so seldom turns. The measure is the correlation of the mean over channels of x and of
    G_XY(x), over the pixels of a batch, averaged over those of an epoch (since it was resumed).

    Args:
        data: says what is brightfield, where dark is to stay dark, and what is fluorescence, where it is to be bright.
        inverted: the source is inverted in training.
        writer: TensorBoard's.
    """

    def __init__(self, data: Datalist, inverted: bool, writer: SummaryWriter) -> None:
        alike = data.source.is_brightfield == data.target.is_brightfield
        self.expected = 1 if alike != inverted else -1
        self.writer = writer
        self.found: list[float] = []

    def attach(self, engine: CycleTrainer) -> None:
        """Register with the trainer, in the main process."""
        if processes.is_main():
            engine.add_event_handler(Events.ITERATION_COMPLETED, self.iteration_completed)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self.epoch_completed)

    def iteration_completed(self, engine: CycleTrainer) -> None:
        """Measure a batch."""
        t: Translation = engine.state.translation
        both = torch.stack([image.detach().float().mean(1).flatten() for image in (t.x, t.fake_y)])
        self.found.append(float(torch.nan_to_num(torch.corrcoef(both)[0, 1])))

    def epoch_completed(self, engine: CycleTrainer) -> None:
        """Write the epoch's mean, and a warning if it has the wrong sign."""
        value = float(np.mean(self.found)) if self.found else 0.0
        self.found = []
        self.writer.add_scalar("polarity", value, engine.state.iteration)
        if value * self.expected < 0 and engine.state.iteration >= EARLY_STEPS:
            logger.warning(
                "epoch %d: light and dark are swapped (correlation of image and virtual stain %.2f, where %s 0 is "
                "right); runs seldom recover from it, so stop, and begin anew with another --seed (docs/stains.md)",
                *(engine.state.epoch, value, "above" if self.expected > 0 else "below"),
            )


class SamplePictures:
    """Patches of the last batch of every n-th epoch, in both directions, as in Fig. 4a. A row a patch.

    Args:
        output_dir: the run's folder; pictures go to ``samples/``.
        writer: TensorBoard's.
        every: epochs between two pictures; the last epoch always has one.
        columns: what a row shows: attributes of :class:`bundle.training.translation.Translation`, or ``mask``. What the
            method does not make is left out.
    """

    def __init__(
        self,
        output_dir: str,
        writer: SummaryWriter,
        every: int = 1,
        columns: Sequence[str] = COLUMNS,
    ) -> None:
        self.folder = Path(output_dir) / "samples"
        self.writer = writer
        self.every = every
        self.columns = columns

    def attach(self, engine: CycleTrainer) -> None:
        """Register with the trainer, in the main process."""
        if processes.is_main():
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: CycleTrainer) -> None:
        """Write the picture if this epoch has one."""
        epoch = engine.state.epoch
        if epoch % self.every and epoch != engine.state.max_epochs:
            return
        grid = sample_grid(engine.state.translation, engine.state.batch["mask"], self.columns)
        with whole_file(self.folder / f"epoch_{epoch:04d}.png") as partial:
            Image.fromarray(grid.numpy()).save(partial)
        self.writer.add_image("samples", grid, epoch, dataformats="HWC")


@torch.no_grad()
def sample_grid(translation: Translation, mask: Tensor, columns: Sequence[str] = COLUMNS, rows: int = 4) -> Tensor:
    """Lay out a batch and its translations.

    Args:
        translation: of a batch.
        mask: (B, 1, H, W).
        columns: see :class:`SamplePictures`.
        rows: most patches to show.

    Returns:
        (rows · H, columns · W, 3), uint8; other than grey and RGB in false colours.
    """
    both = translation.networks.g_yx is not None
    images = [
        mask.to(translation.x) * 2 - 1 if column == "mask" else getattr(translation, column)
        for column in columns
        if both or column in FORWARD
    ]
    pictures = []
    for image in images:
        values = (image[:rows].detach().float().cpu().numpy() + 1) / 2
        pictures.append(np.concatenate([shown(np.clip(np.nan_to_num(one), 0, 1)) for one in values], axis=1))
    grid = np.rint(np.concatenate(pictures, axis=2) * 255).astype(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(grid.transpose(1, 2, 0)))
