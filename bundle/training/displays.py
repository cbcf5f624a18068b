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
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from bundle.common import processes
from bundle.common.atomic import whole_file
from bundle.common.palette import INK, PAPER
from bundle.data.datalist import Datalist
from bundle.images.false_colour import shown
from bundle.training.trainers import CycleTrainer
from bundle.training.translation import Translation

logger = logging.getLogger("bundle")
COLUMNS = ("x", "fake_y", "mask", "y", "fake_x")  # of a sample picture, as in Fig. 4a
FORWARD = ("x", "fake_y", "mask", "y")  # what a method without a way back has to show
LABELS = {
    "x": "source",
    "fake_y": "generated stain",
    "mask": "mask",
    "y": "real stain",
    "fake_x": "generated source",
    "cycled_x": "source given back",
    "cycled_y": "stain given back",
}
LEGIBLE_PX = 96  # of a column, so that its label can be read; narrower ones are magnified
LINE_PX = 12  # of a label; it takes two lines at most
COLUMNS_KEY = "columns"  # of the PNG: what it shows, as text


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
        translation = engine.state.translation
        grid = sample_grid(translation, engine.state.batch["mask"], self.columns)
        labels = [LABELS.get(column, column) for column in shown_columns(translation, self.columns)]
        step = f"epoch {epoch} of {engine.state.max_epochs}, step {engine.state.iteration}"
        told = PngInfo()
        told.add_itxt(COLUMNS_KEY, ", ".join(labels))
        told.add_itxt("step", step)
        with whole_file(self.folder / f"epoch_{epoch:04d}.png") as partial:
            Image.fromarray(labelled(grid.numpy(), labels, step)).save(partial, pnginfo=told)
        self.writer.add_image("samples", grid, epoch, dataformats="HWC")


def shown_columns(translation: Translation, columns: Sequence[str]) -> list[str]:
    """Those columns that a method makes."""
    both = translation.networks.g_yx is not None
    return [column for column in columns if both or column in FORWARD]


def labelled(grid: np.ndarray, labels: Sequence[str], step: str) -> np.ndarray:
    """A picture of samples under a strip that says what each column is, and above one that says when it was made.

    Args:
        grid: (H, W, 3), uint8, columns of one width.
        labels: a word or a few of each column.
        step: when that was.

    Returns:
        (H', W', 3), uint8; columns narrower than ``LEGIBLE_PX`` are magnified a whole number of times.
    """
    times = -(-LEGIBLE_PX * len(labels) // grid.shape[1])
    grid = grid.repeat(times, 0).repeat(times, 1)
    height, width = grid.shape[:2]
    top, bottom, column = 2 * LINE_PX + 6, LINE_PX + 6, width // len(labels)
    picture = Image.new("RGB", (width, top + height + bottom), PAPER)
    picture.paste(Image.fromarray(grid), (0, top))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(LINE_PX)
    for place, label in enumerate(labels):
        fits = draw.textlength(label, font) <= column - 4
        at = (place * column + column / 2, top / 2)
        words = label if fits else label.replace(" ", "\n", 1)
        draw.multiline_text(at, words, INK, font, anchor="mm", align="center", spacing=1)
    draw.text((4, top + height + bottom / 2), step, INK, font, anchor="lm")
    return np.asarray(picture)


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
    images = [
        mask.to(translation.x) * 2 - 1 if column == "mask" else getattr(translation, column)
        for column in shown_columns(translation, columns)
    ]
    pictures = []
    for image in images:
        values = (image[:rows].detach().float().cpu().numpy() + 1) / 2
        pictures.append(np.concatenate([shown(np.clip(np.nan_to_num(one), 0, 1)) for one in values], axis=1))
    grid = np.rint(np.concatenate(pictures, axis=2) * 255).astype(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(grid.transpose(1, 2, 0)))
