"""A tile's way: to channels, through the edits of each variant, back to brightfield, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bundle.common.errors import InputError, no_memory
from bundle.common.palette import LABELLED
from bundle.images.false_colour import shown
from bundle.images.slides import read_slide, to_8bit
from bundle.nuclei.dataset import read_nuclei
from bundle.nuclei.insilico.channels import Edit, edited
from bundle.nuclei.insilico.edits import generator
from bundle.nuclei.insilico.morphology import morphology, nuclear_density, stain_means, tissue
from bundle.nuclei.insilico.sheet import Panel
from bundle.nuclei.insilico.table import INPUT, UNEDITED, Row
from bundle.nuclei.insilico.tiles import Tile
from bundle.nuclei.pictures import outlined

if TYPE_CHECKING:
    from bundle.nuclei.insilico.models import Translators


class Made(NamedTuple):
    """What a tile became.

    Attributes:
        images: of each variant that is kept, (3, H, W), uint8.
        labels: (H, W), uint16.
        rows: of every image, kept or not.
        panels: for a contact sheet, in the order of :attr:`Generation.heads`.
    """

    images: dict[str, np.ndarray]
    labels: np.ndarray
    rows: list[Row]
    panels: list[Panel]


@dataclass(frozen=True)
class Generation:
    """Makes the variants of tiles.

    Attributes:
        translators: the trained pair of generators.
        variants: the edits of each, by name.
        seed: of what edits draw.
        least_overlap: of nuclei and labels, below which an image is left out.
        most_distance: from the images of the training, above which it is left out too.
    """

    translators: Translators
    variants: Mapping[str, Sequence[Edit]]
    seed: int
    least_overlap: float
    most_distance: float

    @property
    def reference(self) -> str:
        """The variant without edits; one that is not written if the file has none."""
        return next((name for name, edits in self.variants.items() if not edits), UNEDITED)

    @property
    def heads(self) -> list[str]:
        """Of a contact sheet's columns."""
        return [f"{self.translators.tiles.name}, labels", "channels", *self.variants]

    @property
    def passes(self) -> int:
        """How many brightfield images are made of a tile."""
        return len({self.reference, *self.variants})

    def __call__(self, tile: Tile, step: Callable[[], object]) -> Made:
        """Make every variant of a tile.

        Args:
            tile: checked.
            step: called after each variant.

        Raises:
            InputError: if the device has too little memory for the tile.
        """
        pixels, labels = read_slide(tile.path).pixels, read_nuclei(tile.labels).astype(np.uint16)
        channels, images = self.translated(tile, pixels, labels, step)
        where = tissue(images[self.reference])
        brightfield = {INPUT: pixels, **images} if self.translators.forward else images
        rows = {name: self.judged(tile, name, image, labels, where) for name, image in brightfield.items()}
        coloured = to_8bit(shown(channels), 0, 1)
        first = pixels if self.translators.forward else coloured  # RGB of 0 to 255, both
        lined = outlined(first, self.translators.brightfield, labels, scale=1, colour=LABELLED).transpose(2, 0, 1)
        panels = [Panel(lined), Panel(coloured)]
        panels += [_panel(images[name], rows[name]) for name in self.variants]
        kept = {name: images[name] for name in self.variants if rows[name].kept}
        return Made(kept, labels, list(rows.values()), panels)

    def translated(
        self, tile: Tile, pixels: np.ndarray, labels: np.ndarray, step: Callable[[], object]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The channels of a tile, (C, H, W) in [0, 1], and its brightfield images, the unedited one among them."""
        images = {}
        with memory_told(tile, pixels):
            channels = self.translators.to_channels(pixels)
            for name, edits in {self.reference: (), **self.variants}.items():
                values = edited(channels, edits, labels, generator(self.seed, tile.name, name))
                images[name] = self.translators.to_brightfield(values)
                step()
        return channels, images

    def judged(self, tile: Tile, variant: str, image: np.ndarray, labels: np.ndarray, where: np.ndarray) -> Row:
        """Whether an image may go into the dataset, and its measures.

        Args:
            tile: what it is made of.
            variant: its name, or that of the input or the unedited image.
            image: (3, H, W), uint8.
            labels: (H, W).
            where: (H, W), bool; the tissue of the tile's unedited image.
        """
        stains_nuclei = any(edit.operation.stains_nuclei for edit in self.variants.get(variant, ()))
        found = morphology(nuclear_density(image, stains_nuclei), labels)
        distance = None if self.translators.distance is None else self.translators.distance(image)
        reason = "; ".join(self.faults(found.overlap, distance))
        kept, stains = variant in self.variants and not reason, stain_means(image, where)
        return Row(tile.name, variant, tile.specimen, tile.split, found, distance, stains, reason, kept)

    def faults(self, overlap: float, distance: float | None) -> list[str]:
        """Why an image is left out.

        Args:
            overlap: of its nuclei and labels.
            distance: from the images of the training; None if it is not known.
        """
        faults = []
        if overlap < self.least_overlap:
            faults.append(f"nuclei are not where the labels are: overlap {overlap:.2f}, least {self.least_overlap:g}")
        if distance is not None and distance > self.most_distance:
            name = self.translators.brightfield.name
            faults.append(f"unlike the training's {name}: distance {distance:.2f}, most {self.most_distance:g}")
        return faults


@contextmanager
def memory_told(tile: Tile, pixels: np.ndarray) -> Iterator[None]:
    """Turn a device that runs out of memory into an :class:`InputError` that says what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not no_memory(error):
            raise
        height, width = pixels.shape[1:]
        raise InputError(
            f"out of memory at tile {tile.path} of {height}×{width} px; cut smaller tiles (python -m scripts.tile), or "
            "pass --device cpu."
        ) from error


def _panel(image: np.ndarray, row: Row) -> Panel:
    overlap = row.morphology.overlap if row.morphology else float("nan")
    distance = "" if row.distance is None else f", distance {row.distance:.1f}"
    return Panel(image, f"overlap {overlap:.2f}{distance}", bool(row.reason))
