"""A slide in, a stained pyramid out: the tasks of a run, and what is left in its folder at the end."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bundle.common.atomic import whole_file, write_json
from bundle.common.errors import InputError
from bundle.common.work.engine import Engine
from bundle.common.work.tasks import Marks, Recipe, Task
from bundle.images.channel_slides import opened
from bundle.images.slide_boxes import SlideBoxes
from bundle.images.stained_slides.pyramid import Pyramid, halved
from bundle.images.stained_slides.spec import SlideSpec
from bundle.images.tissue import BOX
from bundle.networks.cells import CELL, cells_of
from bundle.staining.error_map import rounded
from bundle.staining.job import BEGUN, FULL
from bundle.staining.stainer import Seam, Stainer
from bundle.staining.whole_slides.blocks import Block, WindowGrid, blocks, windows_of
from bundle.staining.whole_slides.outcome import RECORD, Outcome
from bundle.staining.whole_slides.progress import Progress
from bundle.staining.whole_slides.regions import Regions, far_in_words, find_reference, refuse_flat, refuse_unlike
from bundle.staining.whole_slides.source import SlideSource, at_pixels, find_tissue, stamp_of

TISSUE, REFERENCE, ARITHMETIC = "tissue", "reference", "arithmetic"  # tasks
DIRECT = 3  # levels that a block writes itself: its sides are whole tiles of these


@dataclass(frozen=True)
class SlideRun:
    """One slide being stained in one folder.

    Attributes:
        source: the slide.
        stainer: stains a block.
        outcome: what is made of it, and where.
        stamp: size and time of the slide's file when its fingerprint was taken; none are not held against it.
        shown: whether this process shows how far all are.
    """

    source: SlideSource
    stainer: Stainer
    outcome: Outcome
    stamp: tuple[int, ...] = ()
    shown: bool = True

    @property
    def work(self) -> Path:
        """What is done so far."""
        return self.outcome.work

    @property
    def spec(self) -> SlideSpec:
        """Of the stain."""
        return self.outcome.spec

    @cached_property
    def marks(self) -> Marks:
        """What is done."""
        return Marks(self.work / "steps", (self.outcome.folder / RECORD).exists)

    @cached_property
    def progress(self) -> Progress:
        """How far all are."""
        return Progress(self.marks, self.shown)

    @cached_property
    def strips(self) -> dict[str, list[Block]]:
        """All blocks, by the task that stains them."""
        return {f"stain-{number:04d}": strip for number, strip in enumerate(blocks(self.spec.shape, self.windows))}

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

    def go(self, engine: Engine, recipe: Recipe) -> None:
        """Do what is to be done.

        Args:
            engine: does it.
            recipe: by which a worker makes the same run.

        Raises:
            InputError: if the slide cannot be read or has no tissue; what is done stays.
        """
        try:
            with self.progress:
                for task in self.tasks():
                    if task.name == TISSUE and not self.marks.is_done(TISSUE):  # by this process, which has looked
                        self.marks.do(task)
                self._undamaged(engine.work_off, self, recipe, self._see)
        except OSError as error:
            if error.errno in FULL:
                raise
            where = error.filename or self.outcome.folder
            raise InputError(f"{where}: {error.strerror or error}; {self._again}") from error

    @property
    def _again(self) -> str:
        return f"if that cannot be made good, remove {self.work} and stain anew."

    def _undamaged(self, work: Callable[..., Any], *given: Any) -> Any:
        try:
            return work(*given)
        except json.JSONDecodeError as error:  # after a power cut, say
            raise InputError(f"a file in {self.marks.folder} is damaged ({error}); {self._again}") from error

    def _see(self) -> int:
        """Show how far workers are; so many blocks."""
        before = next(task.needs for task in self.tasks() if task.name in self.strips)
        if all(map(self.marks.is_done, self.strips)):
            if self.progress.end():
                print("all is stained; the result is being written")
        elif all(map(self.marks.is_done, before)):
            self.progress.begin(self._total_px)
        return self.progress.look()

    @property
    def _total_px(self) -> int:
        """Of tissue."""
        rows, columns = self.spec.shape
        return rows * columns if self.tissue is None else min(int(self.tissue.sum()) * BOX**2, rows * columns)

    def tasks(self) -> list[Task]:
        """All that is to be done, in order."""
        return self._tasks

    @cached_property
    def _tasks(self) -> list[Task]:  # once, as a stainer has nothing to choose when it has chosen
        tasks = [Task("create", self._create)]
        tasks += [] if self.source.kind is None else [Task(TISSUE, self._keep_tissue)]
        first = [task.name for task in tasks]
        if self.stainer.trust.refuse:
            tasks.append(Task("refusal", self._refuse, first, on_gpu=True))
        names = lambda: [task.name for task in tasks]
        if self.stainer.by_specimen:
            tasks.append(Task(REFERENCE, self._find_reference, names(), say=far_in_words, on_gpu=True))
        if self.stainer.undecided:
            tasks.append(Task(ARITHMETIC, self._choose, names(), on_gpu=True))
        before = names()
        tasks += [Task(name, partial(self._stain, name), before, on_gpu=True) for name in self.strips]
        ready = list(self.strips)
        for name, pyramid in self.outcome.pyramids.items():
            for level in range(DIRECT if name == "stain" else 1, len(pyramid.spec.levels)):
                tasks.append(Task(f"level-{name}-{level}", partial(self._build, pyramid, level), ready))
                ready = [*ready, tasks[-1].name]
        tasks.append(Task("write", self._write, ready))
        if self.outcome.settings.viewer:
            tasks.append(Task("page", self._show, ["write"]))
        tasks.append(Task("finish", self._finish, [tasks[-1].name]))
        return [replace(task, work=partial(self._undamaged, task.work)) for task in tasks]

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
        if self.stainer.undecided and self.marks.is_done(ARITHMETIC):
            self.stainer.take(self.marks.remembered(ARITHMETIC)["name"])

    def _stain(self, name: str) -> dict[str, Any]:
        told, strip, progress = [], self.strips[name], self.progress
        seam = Seam(strip[0].read[0].start, progress.windows)
        self._settle()
        progress.begin(self._total_px)
        with self.opened() as boxes:
            for block in strip:
                kept = self.marks.folder / name / f"{block.name}.json"  # of a try that was stopped later
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
        if self.stamp and stamp_of(self.source.path) != self.stamp:
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
        told = [block for name in self.strips for block in self.marks.remembered(name)["blocks"]]
        once = (TISSUE, REFERENCE, ARITHMETIC)
        return told, {task: self.marks.remembered(task) for task in once if self.marks.is_done(task)}

    def _write(self) -> dict[str, Any]:
        self.progress.end()
        self.outcome.write(self.shown)
        return {}

    def _show(self) -> dict[str, Any]:
        with opened(self.source.facts, self.source.ratio, self.source.chosen) as scan:
            self.outcome.show(scan, *self._remembered(), self.shown)
        return {}

    def _finish(self) -> dict[str, Any]:
        self.outcome.finish(*self._remembered())
        return {}

    def clear(self) -> None:
        """Remove what only an unfinished run needs."""
        if (self.outcome.folder / RECORD).exists():
            shutil.rmtree(self.work, ignore_errors=True)
