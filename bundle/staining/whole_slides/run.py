"""A slide in, a stained pyramid out: the tasks of a run, and what is left in its folder at the end."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bundle.common.atomic import whole_file, write_json
from bundle.common.errors import InputError
from bundle.images.channel_slides import opened
from bundle.images.slide_boxes import SlideBoxes
from bundle.images.stained_slides.pyramid import Pyramid, halved
from bundle.images.stained_slides.spec import SlideSpec
from bundle.images.tissue import BOX
from bundle.networks.cells import CELL, cells_of
from bundle.staining.error_map import rounded
from bundle.staining.job import BEGUN, FULL
from bundle.staining.stainer import Seam, Stainer
from bundle.staining.tasks import Board, Task
from bundle.staining.whole_slides.blocks import Block, WindowGrid, blocks, windows_of
from bundle.staining.whole_slides.outcome import RECORD, Outcome
from bundle.staining.whole_slides.progress import Progress
from bundle.staining.whole_slides.regions import Regions, find_reference, refuse_flat, refuse_unlike
from bundle.staining.whole_slides.source import SlideSource, at_pixels, find_tissue, marks_of

TISSUE, REFERENCE, ARITHMETIC = "tissue", "reference", "arithmetic"  # tasks
DIRECT = 3  # levels that a block writes itself: its sides are whole tiles of these


@dataclass(frozen=True)
class SlideRun:
    """One slide being stained in one folder.

    Attributes:
        source: the slide.
        stainer: stains a block.
        outcome: what is made of it, and where.
        marks: size and time of the slide's file when its fingerprint was taken; none are not held against it.
    """

    source: SlideSource
    stainer: Stainer
    outcome: Outcome
    marks: tuple[int, ...] = ()

    @property
    def work(self) -> Path:
        """What is done so far."""
        return self.outcome.work

    @property
    def spec(self) -> SlideSpec:
        """Of the stain."""
        return self.outcome.spec

    @cached_property
    def board(self) -> Board:
        """What is done."""
        return Board(self.work / "steps", (self.outcome.folder / RECORD).exists)

    @cached_property
    def strips(self) -> list[list[Block]]:
        """All blocks, a strip a task."""
        return list(blocks(self.spec.shape, self.windows))

    @cached_property
    def windows(self) -> WindowGrid:
        """How they lie."""
        assert self.stainer.window is not None
        return windows_of(self.stainer.inferer, self.stainer.window, self.stainer.step)

    @cached_property
    def tissue(self) -> np.ndarray | None:
        """Where tissue is, of boxes of 8×8 px; None for everywhere. Once it is found."""
        if self.source.kind is None:
            return None
        path = self.work / "tissue.npy"
        try:
            return np.load(path, mmap_mode="r")
        except (ValueError, EOFError) as error:
            raise InputError(f"{path} is damaged; remove {self.work} and stain anew.") from error

    @contextmanager
    def opened(self) -> Iterator[SlideBoxes]:
        """The slide, on the grid of the stain."""
        with opened(self.source.facts, self.source.ratio, self.source.chosen) as scan:
            yield SlideBoxes(scan)

    def go(self, shown: bool) -> None:
        """Do what is to be done, together with any other process that does so.

        Args:
            shown: whether this process shows how far all are.

        Raises:
            InputError: if the slide cannot be read or has no tissue; what is done stays.
        """
        again = f"if that cannot be made good, remove {self.work} and stain anew."
        try:
            with Progress(self.board, shown) as progress:
                self.board.work_off(self._tasks(progress))
        except OSError as error:
            if error.errno in FULL:
                raise
            where = error.filename or self.outcome.folder
            raise InputError(f"{where}: {error.strerror or error}; {again}") from error
        except json.JSONDecodeError as error:  # after a power cut, say
            raise InputError(f"a file in {self.board.folder} is damaged ({error}); {again}") from error

    def _tasks(self, progress: Progress) -> list[Task]:
        tasks = [Task("create", self._create)]
        if self.source.kind is not None:
            tasks.append(Task(TISSUE, self._keep_tissue))
        first = [task.name for task in tasks]
        if self.stainer.trust.refuse:
            tasks.append(Task("refusal", self._refuse, first))
        if self.stainer.by_specimen:
            tasks.append(Task(REFERENCE, self._find_reference, [task.name for task in tasks]))
        if self.stainer.undecided:
            tasks.append(Task(ARITHMETIC, self._choose, [task.name for task in tasks]))
        before = [task.name for task in tasks]
        staining = []
        for number, strip in enumerate(self.strips):
            name = f"stain-{number:04d}"
            staining.append(Task(name, partial(self._stain, name, strip, progress), before))
        tasks += staining
        ready = [task.name for task in staining]
        for name, pyramid in self.outcome.pyramids.items():
            for level in range(DIRECT if name == "stain" else 1, len(pyramid.spec.levels)):
                tasks.append(Task(f"level-{name}-{level}", partial(self._build, pyramid, level), ready))
                ready = [*ready, tasks[-1].name]
        tasks.append(Task("write", partial(self._write, progress), ready))
        if self.outcome.settings.viewer:
            tasks.append(Task("page", partial(self._show, progress), ["write"]))
        return [*tasks, Task("finish", self._finish, [tasks[-1].name])]

    def _create(self) -> dict[str, Any]:
        for pyramid in self.outcome.pyramids.values():
            pyramid.create()
        return {}

    @cached_property
    def found(self) -> tuple[np.ndarray, float]:
        """Where tissue is, looked for; and the threshold.

        Raises:
            InputError: if there is none.
        """
        with opened(self.source.facts, self.source.ratio, self.source.chosen) as scan:
            return find_tissue(scan, self.source)

    def look(self, levels: tuple[float, float] | None = None) -> None:
        """Look for tissue, and at values, before anything is begun, unless that was done by whoever has begun.

        Args:
            levels: bone and background in a scan's slice, if they are known.

        Raises:
            InputError: if there is none, or a slide without a usual range would come out in one colour.
        """
        if (self.work / BEGUN).exists():
            return
        tissue = None if self.source.kind is None else self.found[0]
        given = self.source.given
        is_grey = given.channels == 1 and not given.channel_names
        if is_grey or self.source.facts.dtype.kind == "f":
            with self.opened() as boxes:
                refuse_flat(Regions(self.source, boxes, tissue), levels)

    def _keep_tissue(self) -> dict[str, Any]:
        tissue, threshold = self.found
        with whole_file(self.work / "tissue.npy") as path:
            np.save(path, tissue)
        boxed_mm2 = (BOX * self.spec.pixel_um / 1000) ** 2
        return {"share": float(tissue.mean()), "mm2": float(tissue.sum() * boxed_mm2), "threshold": threshold}

    def _wanted(self, block: Block) -> bool:
        """Whether there is anything to stain in a block."""
        return self.tissue is None or bool(at_pixels(self.tissue, block.rows, block.columns).any())

    def _find_reference(self) -> dict[str, Any]:
        with self.opened() as boxes:
            statistics, told = find_reference(self.stainer, self._regions(boxes))
        with whole_file(self.work / f"{REFERENCE}.npy") as path, path.open("wb") as file:
            np.save(file, statistics.numpy())
        return told

    def _refuse(self) -> dict[str, Any]:
        with self.opened() as boxes:
            refuse_unlike(self.stainer, self._regions(boxes))
        return {}

    def _choose(self) -> dict[str, Any]:
        """The arithmetic that every process computes in, by a region of tissue."""
        self._settle()
        side = 2 * (self.stainer.window or 0)
        with self.opened() as boxes:
            _, pixels = next(self._regions(boxes).of(side, side))
            return self.stainer.choose(pixels)

    def _regions(self, boxes: SlideBoxes) -> Regions:
        return Regions(self.source, boxes, self.tissue)

    def _settle(self) -> None:
        """Stain as all processes do from now on."""
        if self.stainer.by_specimen:
            self.stainer.settle(torch.from_numpy(np.load(self.work / f"{REFERENCE}.npy")))
        if self.stainer.undecided and self.board.is_done(ARITHMETIC):
            self.stainer.take(self.board.remembered(ARITHMETIC)["name"])

    def _stain(self, name: str, strip: list[Block], progress: Progress) -> dict[str, Any]:
        told: list[dict[str, Any]] = []
        seam = Seam(strip[0].read[0].start, progress.windows)
        self._settle()
        rows, columns = self.spec.shape
        progress.begin(rows * columns if self.tissue is None else min(int(self.tissue.sum()) * BOX**2, rows * columns))
        with self.opened() as boxes:
            for block in strip:
                kept = self.board.folder / name / f"{block.name}.json"  # of a try that was stopped later
                if not kept.exists():
                    seam.move(block.read[1].start, block.columns.stop)
                    progress.block(*self._work_in(block))
                    write_json(kept, self._stain_block(boxes, block, seam))
                told.append(json.loads(kept.read_text(encoding="utf-8")))
                progress.block(0, 1)
                progress.update()
        return {"blocks": told}

    def _work_in(self, block: Block) -> tuple[int, int]:
        """Px of tissue, and windows."""
        rows, columns = (part.stop - part.start for part in block.read)
        count = self.windows.count(rows) * self.windows.count(columns)
        px = (block.rows.stop - block.rows.start) * (block.columns.stop - block.columns.start)
        return px if self.tissue is None else int(at_pixels(self.tissue, block.rows, block.columns).sum()), count

    def _stain_block(self, boxes: SlideBoxes, block: Block, seam: Seam) -> dict[str, Any]:
        """Stain a block into the finest levels of the pyramids; what is remembered of it."""
        began, before = time.perf_counter(), (self.stainer.done, self.stainer.skipped)
        told: dict[str, Any] = {"place": [block.rows.start, block.columns.start], "tissue_px": 0}
        height, width = block.rows.stop - block.rows.start, block.columns.stop - block.columns.start
        background = np.array(self.spec.background).astype(self.spec.kind)
        stained = np.broadcast_to(background, (height, width, self.spec.channels))
        error: np.ndarray = np.full((cells_of(height), cells_of(width), 1), np.nan, np.float32)
        if self._wanted(block):
            source = self.source.read(boxes, *block.read)
            self._see_unchanged()
            told["reading_seconds"] = time.perf_counter() - began
            inside = np.zeros(source.shape[1:], bool)  # windows that show none of the block itself are left out too
            inside[block.cut] = True if self.tissue is None else at_pixels(self.tissue, block.rows, block.columns)
            told["tissue_px"] = int(inside.sum())
            made = self.stainer.block(source, block.cut, inside, seam)
            stained = made.pixels[0]
            distances = self.stainer.distances(source[(slice(None), *block.cut)][None])
            told |= {"distance": distances[0]} if distances else {}
            if made.errors is not None and not self.outcome.is_unlike(told):
                error = rounded(made.errors[0])[..., None]
        self._write_levels(block, stained.astype(self.spec.kind, copy=False), told["tissue_px"] == 0)
        if self.outcome.error is not None:
            self.outcome.error.write(block.rows.start // CELL, block.columns.start // CELL, error)
        told |= {"seconds": time.perf_counter() - began, "windows": self.stainer.done - before[0]}
        return {**told, "windows_skipped": self.stainer.skipped - before[1]}

    def _see_unchanged(self) -> None:
        """See that the slide is still the file that the run began with, before anything made of it is kept."""
        if self.marks and marks_of(self.source.path) != self.marks:
            raise InputError(
                f"{self.source.path} was changed while it was stained; put back the file that it was, or choose "
                "another --output_dir."
            )

    def _write_levels(self, block: Block, pixels: np.ndarray, empty: bool) -> None:
        for level in range(min(DIRECT, len(self.spec.levels))):
            if level:  # what is of one colour stays so
                pixels = pixels[: -(-len(pixels) // 2), : -(-pixels.shape[1] // 2)] if empty else halved(pixels)
            self.outcome.stain.write(block.rows.start >> level, block.columns.start >> level, pixels, level)

    def _build(self, pyramid: Pyramid, level: int) -> dict[str, Any]:
        pyramid.build(level)
        return {}

    def _remembered(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """What is remembered of all blocks, and of the tasks that were done once for all."""
        names = [f"stain-{number:04d}" for number in range(len(self.strips))]
        told = [block for name in names for block in self.board.remembered(name)["blocks"]]
        once = (TISSUE, REFERENCE, ARITHMETIC)
        return told, {task: self.board.remembered(task) for task in once if self.board.is_done(task)}

    def _write(self, progress: Progress) -> dict[str, Any]:
        progress.end()
        self.outcome.write(progress.shown)
        return {}

    def _show(self, progress: Progress) -> dict[str, Any]:
        with opened(self.source.facts, self.source.ratio, self.source.chosen) as scan:
            self.outcome.show(scan, *self._remembered(), progress.shown)
        return {}

    def _finish(self) -> dict[str, Any]:
        self.outcome.finish(*self._remembered())
        return {}

    def clear(self) -> None:
        """Remove what only an unfinished run needs."""
        if (self.outcome.folder / RECORD).exists():
            shutil.rmtree(self.work, ignore_errors=True)
