"""A scan in, a stained volume out: the tasks of a run, and what is left in its folder at the end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from bundle.common.atomic import read_array, write_array, write_json
from bundle.common.places import clear_away
from bundle.common.work.engine import Engine
from bundle.common.work.tasks import Recipe, Task
from bundle.images.stained import stored
from bundle.images.stained.stored import DEPTH
from bundle.staining.crate import now, write_crate
from bundle.staining.fusion import FUSIONS
from bundle.staining.hull import find_hull
from bundle.staining.job import RECORD, reference_in_words
from bundle.staining.page import left
from bundle.staining.pictures import alpha
from bundle.staining.progress import Progress, bar
from bundle.staining.reference import reference_of, telling_slice
from bundle.staining.run_folder import RunFolder
from bundle.staining.stripes import stripes_of

SPENT = "spent.json"
ARITHMETIC = "arithmetic"  # task that chooses it
SOURCE, HULL = "source", "hull"  # whose box means are kept beside those of the stains
REFERENCE = "reference.npy"  # statistics of the region that all is stained with
COUNTED = ("seconds", "reading_seconds", "windows", "windows_skipped")


@dataclass(frozen=True)
class Run(RunFolder):
    """One volume being stained in one folder."""

    def go(self, engine: Engine, recipe: Recipe) -> None:
        """Do what is to be done.

        Args:
            engine: does it.
            recipe: by which a worker makes the same run.

        Raises:
            InputError: if a slice cannot be read; what is done stays.
        """
        with Progress(self.marks, self.store, self.slabs, self.shown) as progress:
            engine.work_off(replace(self, report=progress.update), recipe, progress.look)

    def tasks(self) -> list[Task]:
        """All that is to be done, in order."""
        tasks = [Task("result", self._create)]
        names = lambda: [task.name for task in tasks]
        if self.settings.hull:
            tasks.append(Task("hull", self._find_hull))
        if not self.direct:
            for number, (_, start, stop) in enumerate(self.along_z.values()):
                tasks.append(Task(f"smooth-{number:04d}", partial(self._smooth, start, stop), ["result"]))
        if self.stainer.by_specimen:
            say, before = (lambda told: f"stained with the statistics of {reference_in_words(told)}"), names()
            tasks.append(Task("reference", self._find_reference, before, say=say, on_gpu=True))
        if self.stainer.undecided:
            tasks.append(Task(ARITHMETIC, self._choose, names(), on_gpu=True))
        before = names()
        staining = [
            Task(name, partial(self._stain, name, *slab), before, on_gpu=True) for name, slab in self.slabs.items()
        ]
        joining = []
        for number, (name, (_, start, stop)) in enumerate(self.along_z.items()):
            needs = [name] if self.direct else list(self.slabs)
            joining.append(Task(f"join-{number:04d}", partial(self._join, start, stop), needs))
        if self.direct:  # each slab is joined when it is stained, so that its slices do not pile up
            joining = [
                replace(task, tidy=partial(self._remove, range(start, stop)))
                for task, (_, start, stop) in zip(joining, self.along_z.values(), strict=True)
            ]
            tasks += [task for both in zip(staining, joining, strict=True) for task in both]
        else:
            tasks += staining + joining
        joined = [task.name for task in joining]
        return [*tasks, Task("stripes", self._measure, joined), Task("finish", self._finish, ["stripes"])]

    def _remove(self, numbers: Sequence[int]) -> None:
        self.store.remove("z", numbers)
        self.layer.store.remove("z", numbers)

    def _find_hull(self) -> dict[str, Any]:
        assert self.levels is not None
        hull = find_hull(self.volume, *self.levels)
        write_array(self.work / "hull.npy", hull.planes)
        return {"planes": len(hull.planes)}

    def _slice(self, axis: str, place: int) -> np.ndarray:
        return np.stack([source.slab(axis, place, place + 1)[0] for source in self.sources])

    def _find_reference(self) -> dict[str, Any]:
        """The statistics that every process stains with, once and for all."""
        looks = self.shown and self.reference_slice is None
        with bar("looking for a section", "slice", looks) as report:
            statistics, told = reference_of(
                self.stainer, self._slice, self.settings.axes, self.volume.shape, self.reference_slice, report
            )
        write_array(self.work / REFERENCE, statistics.numpy())
        return told

    def _choose(self) -> dict[str, Any]:
        """The arithmetic that every process computes in, by that of three slices which has most contrast."""
        self._settle()
        return self.stainer.choose(telling_slice(self._slice, self.settings.axes[0], self.volume.shape))

    def _settle(self) -> None:
        """Stain as all processes do from now on."""
        if self.stainer.by_specimen:
            self.stainer.settle(torch.from_numpy(read_array(self.work / REFERENCE)))
        if self.stainer.undecided and self.marks.is_done(ARITHMETIC):
            chosen = self.marks.remembered(ARITHMETIC)["name"]
            self.stainer.take(chosen)
            if self.shown:
                print(f"goes on in {chosen}, as it has begun")

    def _create(self) -> dict[str, Any]:
        stored.create(self.made, self.settings.output_format, self.spec)
        self.layer.create()
        for bricks in () if self.direct else self.bricks:
            bricks.create()
        return {}

    def _smooth(self, start: int, stop: int) -> dict[str, Any]:
        for place, (bricks, smoothed) in enumerate(zip(self.bricks, self.smoothed, strict=True)):
            slab = smoothed.slab("z", start, stop)
            bricks.write(start, slab)
            if place == 0:
                self.boxes.write(SOURCE, start, slab)
        return {"distances": self._judge()}

    def _judge(self) -> list[float]:  # of what was read last, before the Gaussian, as sections had none
        return self.stainer.distances(np.stack([each.as_read for each in self.smoothed], axis=1))

    def _stain(self, name: str, axis: str, start: int, stop: int) -> dict[str, Any]:
        began, before = time.perf_counter(), (self.stainer.done, self.stainer.skipped)
        kept = self.marks.folder / name / SPENT  # of earlier tries, which were stopped
        spent = dict.fromkeys(COUNTED, 0) | (json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {})
        now = spent
        missing = sorted(set(range(start, stop)) - self.store.present(axis, start, stop))
        if missing:
            self._settle()
            slabs = [source.slab(axis, start, stop) for source in self.sources]
            inside = None if self.hull is None else self.hull.slab(axis, start, stop, self.volume.shape)
            spent["reading_seconds"] += time.perf_counter() - began
            if self.direct:  # before the first of its slices, so that they are there whenever these are
                self.boxes.write(SOURCE, start, slabs[0])
                spent["distances"] = self._judge()
                write_json(kept, spent)
            together = self.stainer.at_once(slabs[0].shape[1:])
            for first in range(0, len(missing), together):
                numbers = missing[first : first + together]
                places = [number - start for number in numbers]
                slices = np.stack([slab[places] for slab in slabs], axis=1)
                stained = self.stainer(slices, None if inside is None else inside[places])
                self.layer.keep(axis, numbers, stained)  # first: what is stained is done
                for number, pixels in zip(numbers, stained.pixels, strict=True):
                    self.store.write(axis, number, pixels)
                counts = (self.stainer.done - before[0], self.stainer.skipped - before[1])
                took = (time.perf_counter() - began, 0, *counts)
                now = {**spent, **{each: spent[each] + more for each, more in zip(COUNTED, took, strict=True)}}
                write_json(kept, now)
                self.report()
        return now

    def _join(self, start: int, stop: int) -> dict[str, Any]:
        began = time.perf_counter()
        slabs = [self.store.slab(axis, start, stop) for axis in self.settings.axes]
        stained = FUSIONS[self.settings.fusion](slabs)
        for name, slab in zip(self.measured, [*slabs, stained], strict=False):
            self.boxes.write(name, start, slab)
        inside = None if self.hull is None else self.hull.slab("z", start, stop, self.volume.shape)
        if inside is not None:
            self.boxes.write(HULL, start, inside)
        self.layer.join(start, stop, self._distances(start // DEPTH))
        if self.settings.alpha:
            stained = np.concatenate([stained, alpha(stained)[..., None]], axis=-1)
        stored.write_slab(self.made, self.settings.output_format, self.spec, start, stained)
        return {"seconds": time.perf_counter() - began}

    def _measure(self) -> dict[str, Any]:
        """Flicker from slice to slice, of the stain across each axis and of what was made of them."""
        stored.finish(self.made, self.settings.output_format, self.spec)
        self.layer.finish()
        beside = [SOURCE] if self.hull is None else [SOURCE, HULL]
        starts = range(0, self.volume.shape[0], DEPTH)
        return {
            name: vars(stripes_of([self.boxes.read(each, start) for each in (name, *beside)] for start in starts))
            for name in self.measured
        }

    def _finish(self) -> dict[str, Any]:
        self.layer.move(self.folder)
        if self.made.parent != self.folder and self.made.exists():  # else an earlier try was stopped after this line
            os.rename(self.made, self.folder / self.result)
        stripes = self.marks.remembered("stripes")
        record = {**self.record, "ended": now(), "result": self.result, "stripes": stripes, "spent": self._spent()}
        record |= self.layer.told([each for place in range(len(self.along_z)) for each in self._distances(place)])
        if (self.work / REFERENCE).exists():
            record["reference"] = self.marks.remembered("reference")
        if self.marks.is_done(ARITHMETIC):
            record["arithmetic"] = self.marks.remembered(ARITHMETIC)
        write_crate(self.folder / RECORD, record, left())  # once more, when there are pictures and the page
        write_json(self.folder / RECORD, record)
        return {}

    def _distances(self, place: int) -> list[float]:  # of the slices of a slab along z, from the training
        name = list(self.slabs)[place] if self.direct else f"smooth-{place:04d}"
        return self.marks.remembered(name).get("distances", [])

    def _spent(self) -> dict[str, float]:
        """What staining took, summed over all processes and tries; what a kill cut short is not in it."""
        stained = [self.marks.remembered(name) for name in self.slabs]
        spent = {name: sum(each[name] for each in stained) for name in COUNTED}
        spent["slices"] = sum(stop - start for _, start, stop in self.slabs.values())
        joined = [self.marks.remembered(f"join-{number:04d}")["seconds"] for number in range(len(self.along_z))]
        spent["joining_seconds"] = sum(joined)
        return {name: round(value, 2) for name, value in spent.items()}

    def clear(self) -> None:
        """Remove what only an unfinished run needs."""
        if (self.folder / RECORD).exists():
            clear_away(self.work)
