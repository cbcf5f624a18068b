"""How many workers pay off: ``python -m scripts.bench.scale``.

``once`` times what one process does for all: reading the scan first, and looking for its hull. ``measure`` stains a
small scan with one worker and writes down what each task took. ``replay`` has a real scheduler of
Dask, in a process of its own, give as many tasks as a large scan has to as many workers as are asked for, which sleep
as long as each would take. Workers are objects in two processes: no machine at hand holds 1,024 of them.
"""

from __future__ import annotations

import heapq
import json
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import fire
import nibabel
import numpy as np

from bundle.common.atomic import write_json
from bundle.images.stained.formats import DEPTH
from scripts.bench.patches import HOME
from scripts.bench.sleepers import cluster, nap

CARD, ARITHMETIC = "H100 SXM", "fp16 weights"  # of scripts.bench.roofline
POLL_S = 0.1  # as bundle.common.work.scheduled looks


class Task(NamedTuple):
    """A task of a large scan: its name, its seconds, and the names of those before it."""

    name: str
    seconds: float
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measured:
    """What the tasks of a run took, in seconds.

    Attributes:
        axes: of the run.
        side: of its cube, voxels.
        network: of each staining task of 32 slices, what is not reading.
        reading: of each, reading and smoothing.
        joining: of each slab that was joined.
        smoothing: of each slab that was smoothed to disk, where several axes ask for that.
    """

    axes: str
    side: int
    network: list[float]
    reading: list[float]
    joining: list[float]
    smoothing: list[float]


def measure(bundle: str, scan: str, output: str, axes: str = "z", **ids: Any) -> None:
    """Stain a scan, a cube, with one worker, and write down what its tasks took.

    Tasks follow each other, so that what one took lies between its mark and the one before.

    Args:
        bundle: a trained bundle.
        scan: of a side that is a multiple of 32.
        output: the JSON file.
        axes: as of ``volume.json``.
        ids: others of it.
    """
    from monai.bundle import run  # here: neither a scheduler nor a sleeping worker needs it

    from bundle.staining.job import WORK
    from bundle.staining.run import Run

    Run.clear = lambda _: None  # type: ignore[method-assign]
    configs = [f"{bundle}/configs/inference.json", str(HOME / "configs" / "volume.json")]
    with tempfile.TemporaryDirectory() as folder:
        given = {"bundle_root": bundle, "input": scan, "output_dir": f"{folder}/stained", "axes": axes, **ids}
        run(run_id="inference", config_file=configs, device="cpu", **given)
        marks = sorted(Path(folder).glob(f"stained/{WORK}/steps/*/done.json"), key=lambda path: path.stat().st_mtime_ns)
        ends = [path.stat().st_mtime for path in marks]
        told = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in marks}
        side = json.loads((Path(folder) / "stained" / "volume.json").read_text(encoding="utf-8"))["spent"]["slices"]
    took = {path.parent.name: end - before for path, before, end in zip(marks[1:], ends, ends[1:], strict=False)}
    kinds = {kind: [name for name in took if name.startswith(f"{kind}-")] for kind in ("stain", "smooth", "join")}
    reading = [told[name]["reading_seconds"] for name in kinds["stain"]]
    found = {
        "axes": axes,
        "side": side // len(axes),
        "network": [took[name] - read for name, read in zip(kinds["stain"], reading, strict=True)],
        "reading": reading,
        "joining": [took[name] for name in kinds["join"]],
        "smoothing": [took[name] for name in kinds["smooth"]],
    }
    write_json(Path(output), found)


def once(scan: str, bone: float, background: float, times: str = "1,2,3") -> None:
    """Print the CPU seconds of what is done once, of a scan and of the same with each voxel repeated along each axis.

    Args:
        scan: any.
        bone: its grey value of bone.
        background: likewise.
        times: how often each voxel is there along an axis.
    """
    from bundle.data.datalist import Modality
    from bundle.images.volumes.volume import open_volume
    from bundle.staining.hull import find_hull
    from bundle.staining.job import survey

    voxels = open_volume(scan).read(0, open_volume(scan).shape[0])
    print("| voxels | survey, s | hull, s |\n|---|---|---|")
    for each in (int(word) for word in str(times).strip("()").split(",")):
        with tempfile.TemporaryDirectory() as folder:
            image = nibabel.Nifti1Image(np.kron(voxels, np.ones((each,) * 3, voxels.dtype)), np.diag([0.005] * 3 + [1]))
            image.header.set_xyzt_units("mm")
            nibabel.save(image, Path(folder) / "scan.nii")
            began = time.process_time()
            survey(open_volume(f"{folder}/scan.nii"), Modality("scan", 1, 0, 65535), (bone, background), None, [])
            between = time.process_time()
            find_hull(open_volume(f"{folder}/scan.nii"), bone, background)
            now = time.process_time()
        size = "×".join(str(each * side) for side in voxels.shape)
        print(f"| {size} | {between - began:.2f} | {now - between:.2f} |", flush=True)


def of_the_gpu(side: int) -> float:
    """Seconds of a slice of the paper's network on one GPU: windows of 256 px every 64 px, by its data sheet."""
    from scripts.bench import roofline as sheet

    card = next(each for each in sheet.CARDS if each.name == CARD)
    arithmetic = next(each for each in sheet.ARITHMETICS if each.name == ARITHMETIC)
    pass_s = sheet.expected(
        sheet.count(sheet.paper(), (16, 3, sheet.WINDOW, sheet.WINDOW), arithmetic), card, arithmetic.peak
    )
    windows = sheet.overlapping_pixels(side, sheet.WINDOW, sheet.STEP) / side / sheet.WINDOW**2
    return windows * pass_s / 16


def scaled(measured: Measured, side: int, slices: int, gpu_s: float) -> list[Task]:
    """What can be shared out of a cube of a side, in tasks of so many slices.

    A slice takes ``gpu_s`` in the network, times what a measured task took of the median of all; what the CPU does for
    it (reading, smoothing, joining, writing) is the measured time, times the pixels of a slice to those measured.

    Args:
        measured: of a small scan.
        side: of the large one, voxels.
        slices: of a staining task; joining stays with 32, which a chunk of the result has.
        gpu_s: seconds of the network for a slice.
    """
    larger = (side / measured.side) ** 2

    def any_of(seconds: Sequence[float], number: int, least: float = 0.0) -> float:  # 32 slices, each in its turn
        return max(least, seconds[number % len(seconds)])

    middle = statistics.median(measured.network)
    tasks, stained = [], []
    slabs = math.ceil(side / DEPTH)
    deep = [min(DEPTH, side - slab * DEPTH) / DEPTH for slab in range(slabs)]
    if len(measured.axes) > 1:
        tasks += [
            Task(f"smooth-{slab}", larger * deep[slab] * any_of(measured.smoothing, slab)) for slab in range(slabs)
        ]
        tasks.append(Task("smoothed", 0.0, tuple(task.name for task in tasks)))
    before = ("smoothed",) if tasks else ()
    for axis in measured.axes:
        for number, start in enumerate(range(0, side, slices)):
            share = min(slices, side - start) / DEPTH
            network = gpu_s * DEPTH * any_of(measured.network, start // DEPTH) / middle
            seconds = share * (network + larger * any_of(measured.reading, start // DEPTH))
            stained.append(Task(f"stain-{axis}-{number}", seconds, before))
    tasks += stained
    if len(measured.axes) > 1:  # one task between, as each of 125 joins would wait for each of 12,000 tasks
        tasks.append(Task("stained", 0.0, tuple(task.name for task in stained)))
    each = DEPTH // slices
    for slab in range(slabs):
        own = tuple(task.name for task in stained[slab * each : (slab + 1) * each])
        needs = own if len(measured.axes) == 1 else ("stained",)
        tasks.append(Task(f"join-{slab}", larger * deep[slab] * any_of(measured.joining, slab), needs))
    return tasks


def at_best(tasks: Sequence[Task], workers: int) -> float:
    """Seconds with so many workers that are given tasks in no time, in their order."""
    waits = {task.name: len(task.needs) for task in tasks}
    after: dict[str, list[int]] = {task.name: [] for task in tasks}
    for place, task in enumerate(tasks):
        for name in task.needs:
            after[name].append(place)
    ready = [place for place, task in enumerate(tasks) if not task.needs]
    busy: list[tuple[float, int]] = []
    now = 0.0
    while ready or busy:
        while ready and len(busy) < workers:
            place = heapq.heappop(ready)
            heapq.heappush(busy, (now + tasks[place].seconds, place))
        now, done = heapq.heappop(busy)
        for place in after[tasks[done].name]:
            waits[tasks[place].name] -= 1
            if not waits[tasks[place].name]:
                heapq.heappush(ready, place)
    return now


def run_through(client: Any, tasks: Sequence[Task], faster: float) -> float:
    """Seconds from the first submission to the last result, as ``bundle.common.work`` submits and looks."""
    futures: dict[str, Any] = {}
    began = time.perf_counter()
    for place, task in enumerate(tasks):
        needs = [futures[name] for name in task.needs]
        key = f"{task.name}-{time.monotonic_ns()}"
        options = {"key": key, "priority": -place, "pure": False}
        futures[task.name] = client.submit(nap, task.seconds / faster, *needs, **options)
    left = set(futures)
    while left:
        time.sleep(POLL_S)
        left = {name for name in left if futures[name].status not in ("finished", "error")}
    seconds = time.perf_counter() - began
    assert all(each.status == "finished" for each in futures.values())
    return seconds


def replay(
    durations: str,
    side: int = 4000,
    workers: str = "64,128,256,512,1024",
    slices: str = "32,8,1",
    faster: float = 4.0,
    gpu_s: float | None = None,
) -> None:
    """Print a table.

    Args:
        durations: of ``measure``.
        side: of the scan, a cube, voxels.
        workers: numbers of them.
        slices: of a staining task; today 32.
        faster: by which all durations are divided, so that a scheduler's share looks as many times as large as it is.
        gpu_s: seconds of the network for a slice; None for those of the paper's on an H100, by its data sheet.
    """
    numbers, depths = ([int(each) for each in str(text).strip("()").split(",")] for text in (workers, slices))
    measured = Measured(**json.loads(Path(durations).read_text(encoding="utf-8")))
    gpu = of_the_gpu(side) if gpu_s is None else gpu_s
    print(f"{side:,}³, axes {measured.axes}: {gpu:.3g} s of the network for a slice; {faster:g} times as fast here\n")
    heads = ["slices a task", "tasks", "a task, s", "workers", "all, s", "at best, s", "efficiency", "at best"]
    heads += ["scheduler, ms CPU a task"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    for number in numbers:
        with cluster(number) as (client, scheduler):
            run_through(client, [Task(f"first-{place}", 0.1) for place in range(2 * number)], 1.0)
            for depth in depths:
                tasks = scaled(measured, side, depth, gpu)
                total = sum(task.seconds for task in tasks)
                before = sum(scheduler.cpu_times()[:2])
                wall = run_through(client, tasks, faster) * faster
                spent = sum(scheduler.cpu_times()[:2]) - before
                best = at_best(tasks, number)
                middle = statistics.median(task.seconds for task in tasks if task.name.startswith("stain-"))
                shares = [total / number / each for each in (wall, best)]
                cells = [str(depth), f"{len(tasks):,}", f"{middle:.3g}", f"{number:,}", f"{wall:.0f}", f"{best:.0f}"]
                cells += [f"{100 * shares[0]:.0f} %", f"{100 * shares[1]:.0f} %"]
                cells += [f"{1000 * spent / len(tasks):.2g}"]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    fire.Fire({"measure": measure, "once": once, "replay": replay})
