"""A slide in, a stained pyramid out: the tasks of a run, and what is left in its folder at the end."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bundle.common.atomic import whole_file, write_json
from bundle.common.errors import InputError
from bundle.common.run_folder import read_record
from bundle.common.verdicts import UNLIKE, Verdict, in_words, summary
from bundle.images.channel_slides import opened
from bundle.images.slide_boxes import SlideBoxes
from bundle.images.stained_slides.known import FORMATS, Packing, SlideFormat
from bundle.images.stained_slides.pyramid import TILE, Pyramid, halved
from bundle.images.stained_slides.spec import SlideSpec
from bundle.images.tissue import BOX
from bundle.networks.cells import CELL, cells_of
from bundle.staining.error_layer import LABEL, SHOWN
from bundle.staining.error_map import rounded
from bundle.staining.job import ERROR_MAP, WORK
from bundle.staining.progress import bar
from bundle.staining.stainer import Seam, Stainer
from bundle.staining.tasks import Board, Task
from bundle.staining.whole_slides.blocks import Block, blocks, windows_of
from bundle.staining.whole_slides.progress import Progress
from bundle.staining.whole_slides.regions import Regions, find_reference, refuse_unlike
from bundle.staining.whole_slides.source import SlideSource, at_pixels, find_tissue

RECORD = "slide.json"  # of a finished run
TISSUE, REFERENCE, ARITHMETIC = "tissue", "reference", "arithmetic"  # tasks
DIRECT = 3  # levels that a block writes itself: its sides are whole tiles of these


@dataclass(frozen=True)
class SlideRun:
    """One slide being stained in one folder.

    Attributes:
        source: the slide.
        spec: of the stain.
        settings: :class:`bundle.staining.whole_slides.job.Settings`.
        stainer: stains a block.
        folder: ``output_dir``.
        result: name of the file or folder of the stain.
        origin: what the record says besides, plain JSON.
    """

    source: SlideSource
    spec: SlideSpec
    settings: Any
    stainer: Stainer
    folder: Path
    result: str
    origin: Mapping[str, Any]

    @property
    def work(self) -> Path:
        """What is done so far."""
        return self.folder / WORK

    @cached_property
    def stain(self) -> Pyramid:
        """The stain, while it is being made."""
        return Pyramid(self.work / "stain.zarr", self.spec)

    @cached_property
    def error(self) -> Pyramid | None:
        """What error is expected, in cells of 4×4 px; None where the model has no error map."""
        calibration = self.stainer.trust.calibration
        if calibration is None:
            return None
        spec = replace(
            self.spec,
            name=ERROR_MAP,
            shape=(cells_of(self.spec.shape[0]), cells_of(self.spec.shape[1])),
            kind=np.dtype("<f4"),
            pixel_um=self.spec.pixel_um * CELL,
            channel_names=(LABEL,),
            rgb=False,
            background=(float("nan"),),
            shown=(0.0, float(np.ceil(SHOWN * calibration.mean))),
            about={**self.spec.about, "expected_error": self.stainer.trust.bound},
        )
        return Pyramid(self.work / "error.zarr", spec)

    @cached_property
    def board(self) -> Board:
        """What is done."""
        return Board(self.work / "steps", (self.folder / RECORD).exists)

    @cached_property
    def strips(self) -> list[list[Block]]:
        """All blocks, a strip a task."""
        stainer = self.stainer
        assert stainer.window is not None
        return list(blocks(self.spec.shape, windows_of(stainer.inferer, stainer.window, stainer.step)))

    @cached_property
    def tissue(self) -> np.ndarray | None:
        """Where tissue is, of boxes of 8×8 px; None for everywhere. Once it is found."""
        return None if self.source.kind is None else np.load(self.work / "tissue.npy", mmap_mode="r")

    @property
    def packing(self) -> Packing:
        """How pixels are compressed."""
        return self.settings.packing(self.source.path)

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
        with Progress(self.board, shown) as progress:
            self.board.work_off(self._tasks(progress))

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
        for made, pyramid in (("stain", self.stain), ("error", self.error)):
            for level in range(1 if made == "error" else DIRECT, 0 if pyramid is None else len(pyramid.spec.levels)):
                tasks.append(Task(f"level-{made}-{level}", partial(self._build, made, level), ready))
                ready = [*ready, tasks[-1].name]
        if self.settings.viewer:
            tasks.append(Task("page", self._show, ready))
            ready = [*ready, "page"]
        tasks.append(Task("write", partial(self._write, progress), ready))
        return [*tasks, Task("finish", self._finish, ["write"])]

    def _create(self) -> dict[str, Any]:
        self.stain.create()
        if self.error is not None:
            self.error.create()
        return {}

    @cached_property
    def found(self) -> tuple[np.ndarray, float]:
        """Where tissue is, looked for; and the threshold.

        Raises:
            InputError: if there is none.
        """
        with opened(self.source.facts, self.source.ratio, self.source.chosen) as scan:
            return find_tissue(scan, self.source)

    def look(self) -> None:
        """Look for tissue before anything is begun, unless that was done by whoever has begun.

        Raises:
            InputError: if there is none.
        """
        if self.source.kind is not None and not (self.work / "tissue.npy").exists():
            _ = self.found

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
        seam = Seam(strip[0].read[0].start)
        self._settle()
        rows, columns = self.spec.shape
        progress.begin(rows * columns if self.tissue is None else min(int(self.tissue.sum()) * BOX**2, rows * columns))
        with self.opened() as boxes:
            for block in strip:
                kept = self.board.folder / name / f"{block.name}.json"  # of a try that was stopped later
                if not kept.exists():
                    seam.move(block.read[1].start, block.columns.stop)
                    write_json(kept, self._stain_block(boxes, block, seam))
                told.append(json.loads(kept.read_text(encoding="utf-8")))
                progress.update()
        return {"blocks": told}

    def _stain_block(self, boxes: SlideBoxes, block: Block, seam: Seam) -> dict[str, Any]:
        """Stain a block into the finest levels of the pyramids; what is remembered of it."""
        began, before = time.perf_counter(), (self.stainer.done, self.stainer.skipped)
        told: dict[str, Any] = {"place": [block.rows.start, block.columns.start], "tissue_px": 0}
        height, width = block.rows.stop - block.rows.start, block.columns.stop - block.columns.start
        stained = np.broadcast_to(np.array(self.spec.background), (height, width, self.spec.channels))
        error: np.ndarray = np.full((cells_of(height), cells_of(width), 1), np.nan, np.float32)
        if self._wanted(block):
            source = self.source.read(boxes, *block.read)
            told["reading_seconds"] = time.perf_counter() - began
            inside = np.zeros(source.shape[1:], bool)  # windows that show none of the block itself are left out too
            inside[block.cut] = True if self.tissue is None else at_pixels(self.tissue, block.rows, block.columns)
            told["tissue_px"] = int(inside.sum())
            made = self.stainer.block(source, block.cut, inside, seam)
            stained = made.pixels[0]
            distances = self.stainer.distances(source[(slice(None), *block.cut)][None])
            told |= {"distance": distances[0]} if distances else {}
            if made.errors is not None and not self._is_unlike(told):
                error = rounded(made.errors[0])[..., None]
        self._write_levels(block, stained.astype(self.spec.kind))
        if self.error is not None:
            self.error.write(block.rows.start // CELL, block.columns.start // CELL, error)
        told |= {"seconds": time.perf_counter() - began, "windows": self.stainer.done - before[0]}
        return {**told, "windows_skipped": self.stainer.skipped - before[1]}

    def _write_levels(self, block: Block, pixels: np.ndarray) -> None:
        for level in range(min(DIRECT, len(self.spec.levels))):
            pixels = halved(pixels) if level else pixels
            self.stain.write(block.rows.start >> level, block.columns.start >> level, pixels, level)

    def _verdict(self, told: Mapping[str, Any]) -> Verdict | None:
        likeness = self.stainer.trust.likeness
        return None if likeness is None or "distance" not in told else likeness.verdict(told["distance"])

    def _is_unlike(self, told: Mapping[str, Any]) -> bool:
        verdict = self._verdict(told)
        return verdict is not None and verdict.word == UNLIKE

    def _build(self, made: str, level: int) -> dict[str, Any]:
        pyramid = self.stain if made == "stain" else self.error
        assert pyramid is not None
        pyramid.build(level)
        return {}

    def _blocks(self) -> list[dict[str, Any]]:
        """What is remembered of all blocks."""
        names = [f"stain-{number:04d}" for number in range(len(self.strips))]
        return [block for name in names for block in self.board.remembered(name)["blocks"]]

    def _record(self) -> dict[str, Any]:
        told = self._blocks()
        spent = {
            name: round(sum(block.get(name, 0) for block in told), 2)
            for name in ("seconds", "reading_seconds", "windows", "windows_skipped", "tissue_px")
        }
        record: dict[str, Any] = {**self.spec.about, **self.origin, "result": self.result, "spent": spent}
        for task in (TISSUE, REFERENCE, ARITHMETIC):
            if self.board.is_done(task):
                record[task] = self.board.remembered(task)
        verdicts = [verdict for block in told if (verdict := self._verdict(block)) is not None]
        if verdicts:
            counts = summary(verdicts)["slices"]
            places = [block["place"] for block in told if "distance" in block]
            unlike = [at for at, verdict in zip(places, verdicts, strict=True) if verdict.word == UNLIKE]
            record["likeness"] = {"blocks": counts, "unlike": unlike}
        if self.error is not None:
            record["expected_error"] = {"result": self._error_result.name, **self.stainer.trust.bound}
        return record

    @property
    def _error_result(self) -> Path:
        """Where the map of expected error goes: a format that holds no such numbers leaves it to OME-TIFF."""
        assert self.error is not None
        return self.folder / f"{ERROR_MAP}{self._error_format.suffix}"

    @cached_property
    def _error_format(self) -> SlideFormat:
        own = FORMATS[self.settings.output_format]
        try:
            own.check(self.error.spec, self.packing)  # type: ignore[union-attr]
        except InputError:
            return FORMATS["ome-tiff"]
        return own

    def _show(self) -> dict[str, Any]:
        return {}

    def _write(self, progress: Progress) -> dict[str, Any]:
        progress.end()
        made = [(self.work / self.result, FORMATS[self.settings.output_format], self.stain)]
        if self.error is not None:
            made.append((self.work / self._error_result.name, self._error_format, self.error))
        for path, own, pyramid in made:
            with bar(f"writing {path.name}", "tile", progress.shown) as report:
                own.write(path, pyramid, self.packing, counted(report, pyramid))
        return {}

    def _finish(self) -> dict[str, Any]:
        names = [self.result, *([] if self.error is None else [self._error_result.name])]
        for name in names:
            if (self.work / name).exists():  # else an earlier try was stopped after this line
                os.rename(self.work / name, self.folder / name)
        write_json(self.folder / RECORD, self._record())
        return {}

    def clear(self) -> None:
        """Remove what only an unfinished run needs."""
        if (self.folder / RECORD).exists():
            shutil.rmtree(self.work, ignore_errors=True)

    def show(self, told: Callable[[str], None] = print) -> None:
        """Say what was made, and where it is."""
        record = read_record(self.folder / RECORD)
        spent = record["spent"]
        told(
            f"{spent['windows']:.0f} windows in {spent['seconds']:.0f} s of computing; {spent['windows_skipped']:.0f} "
            "more held no tissue"
        )
        if "likeness" in record:
            told(
                in_words({"slices": record["likeness"]["blocks"], "unlike": [], "doubtful": []}).replace(
                    "slices", "blocks"
                )
            )
        names = (self.result, record.get("expected_error", {}).get("result"), "report.html")
        for path in (self.folder / name for name in names if name):
            if path.exists():
                told(str(path))


def counted(report: Callable[[int, int], None], pyramid: Pyramid) -> Callable[[], None]:
    """What is called after each tile of a pyramid, of what takes the tiles done and those in all."""
    total = sum(-(-height // TILE) * -(-width // TILE) for height, width in pyramid.spec.levels)
    done = itertools.count(1)
    return lambda: report(next(done), total)
