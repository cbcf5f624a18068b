"""Experiments of many steps: each done once, gone on with after a kill, and done anew if what it needs is.

And what such experiments with a nucleus segmenter share: datasets put together, scores gathered, gaps with intervals.
"""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from bundle.common.atomic import whole_file, whole_folder, write_json
from bundle.common.errors import InputError

HOME = Path(__file__).parents[2]  # where commands run
SEGMENTER = "configs/nuclei.json"
SCORES = ("f1", "sensitivity", "precision")
IOU = 0.5
DRAWS = 2000


@dataclass(frozen=True)
class Steps:
    """The steps of an experiment, with a record of each in ``folder/steps`` and what it printed in ``folder/logs``."""

    folder: Path

    def record(self, name: str) -> dict[str, Any]:
        """What is known of a step; empty if it never began."""
        path = self.folder / "steps" / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def do(self, name: str, output: Path, made_by: Any, run: Callable[[bool], None], needs: Sequence[str] = ()) -> str:
        """Do a step unless it is done, with the same ``made_by`` and the same outcome of every step it needs.

        Args:
            name: of the step.
            output: what it makes; removed before the step is done anew.
            made_by: plain JSON, all that decides what it makes.
            run: does it; its argument says that the same step was begun and killed, so that it can go on.
            needs: names of steps that come before.

        Returns:
            The name.
        """
        key = {"made_by": made_by, "needs": {need: self.record(need)["ended"] for need in needs}}
        before = self.record(name)
        same = before.get("key") == json.loads(json.dumps(key))
        if same and "ended" in before and output.exists():
            return name
        if before and not same and output.exists():
            shutil.rmtree(output) if output.is_dir() else output.unlink()
        print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
        path = self.folder / "steps" / f"{name}.json"
        spent = before.get("seconds", 0.0) if same else 0.0
        write_json(path, {"key": key, "begun": time.time(), "seconds": spent})
        begin = time.time()
        run(same)
        write_json(path, {"key": key, "ended": time.time(), "seconds": spent + time.time() - begin})
        return name

    def command(
        self, name: str, output: Path, words: Sequence[str], needs: Sequence[str] = (), more: Sequence[str] = ()
    ) -> str:
        """The same for a command, ``python -m`` and ``words``; ``more`` is added to go on after a kill."""

        def run(again: bool) -> None:
            log = self.folder / "logs" / f"{name}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            line = [sys.executable, "-m", *words, *(more if again else ())]
            with log.open("a" if again else "w", encoding="utf-8") as stream:
                print(*line, file=stream, flush=True)
                code = waited(line, stream)
            if code:
                said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1]
                raise InputError(f"step {name} ended with code {code}: {said}; all of it is in {log}.")

        return self.do(name, output, list(words), run, needs)

    def bundle(
        self,
        name: str,
        output: Path,
        task: str,
        files: Sequence[str],
        ids: Mapping[str, Any],
        needs: Sequence[str] = (),
    ) -> str:
        """The same for ``python -m monai.bundle run``; a training goes on where it was killed."""
        words = ["monai.bundle", "run", task, "--config_file", str(list(files)), "--output_dir", str(output)]
        for key, value in ids.items():
            words += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
        again = ("--resume", "true") if task == "training" else ()
        return self.command(name, output if task == "training" else output / task, words, needs, again)


def waited(words: Sequence[str], stream: IO[str]) -> int:
    """Run a command to its end; where this process is stopped, stop it first, so that no two ever write one folder."""
    earlier = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with subprocess.Popen(words, cwd=HOME, stdout=stream, stderr=stream) as child:
            try:
                return child.wait()
            except BaseException:
                child.terminate()
                child.wait()
                raise
    finally:
        signal.signal(signal.SIGTERM, earlier)


@dataclass(frozen=True)
class Trial:
    """Segmenters trained on several datasets with several seeds, each scored on the same test sets.

    Attributes:
        steps: of the experiment.
        arms: dataset of each arm and the step that made it, by name.
        tests: datasets whose testing images are scored, by name, likewise.
        seeds: how many segmenters of each arm; scores of other seeds that lie there do not count.
        ids: of the training, for ``configs/nuclei.json``.
        profiles: overlays on it.
    """

    steps: Steps
    arms: Mapping[str, tuple[Path, str]]
    tests: Mapping[str, tuple[Path, str]]
    seeds: int
    ids: Mapping[str, Any]
    profiles: Sequence[str] = ()

    def run(self, told: Callable[[], None]) -> None:
        """Train and score; ``told`` is called after each score. All arms of one seed come before the next seed."""
        files = [SEGMENTER, *self.profiles]
        for seed in range(self.seeds):
            for arm, (data, made) in self.arms.items():
                folder = self.folder(arm, seed)
                ids = {"dataset_dir": str(data), "seed": seed, **self.ids}
                name = self.steps.bundle(f"train_{folder.name}", folder, "training", files, ids, [made])
                for test, (test_data, test_made) in self.tests.items():
                    about = {"dataset_dir": str(test_data), "model_bundle": str(folder / "bundle")}
                    where = self.scored(arm, seed, test)
                    needs = [name, test_made]
                    self.steps.bundle(f"score_{where.name}", where, "evaluation", files, about, needs)
                    told()

    def folder(self, arm: str, seed: int) -> Path:
        """Of a training."""
        return self.steps.folder / "segmenters" / f"{arm}_seed{seed}"

    def scored(self, arm: str, seed: int, test: str) -> Path:
        """Of its scores on a test set."""
        return self.steps.folder / "scores" / f"{arm}_seed{seed}_on_{test}"

    def files(self, arm: str, test: str) -> dict[int, Path]:
        """The evaluations of an arm that are there, by seed."""
        every = {seed: self.scored(arm, seed, test) / "evaluation" for seed in range(self.seeds)}
        return {seed: folder for seed, folder in every.items() if (folder / "summary.json").is_file()}

    def write(self, title: str, notes: Sequence[str], against: Sequence[tuple[str, str]]) -> None:
        """Write ``results.csv`` (a line a seed), ``results.json`` and ``results.md`` of what is there.

        Args:
            title: of the Markdown.
            notes: lines below its tables.
            against: pairs of arms whose gap in F1 is wanted.
        """
        lines, rows = [], []
        for test in self.tests:
            for arm in self.arms:
                for seed, folder in self.files(arm, test).items():
                    found = json.loads((folder / "summary.json").read_text("utf-8"))
                    rows.append({"test": test, "arm": arm, "seed": seed, **flat(found)})
                if files := list(self.files(arm, test).values()):
                    lines.append({"test": test, "arm": arm, "seeds": len(files), **score_interval(files)})
        gaps = [
            {"test": test, "arm": one, "against": other, **gap(*files)}
            for test in self.tests
            for one, other in against
            for files in [[list(self.files(arm, test).values()) for arm in (one, other)]]
            if all(files)
        ]
        if rows:
            with whole_file(self.steps.folder / "results.csv") as partial, partial.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        write_json(self.steps.folder / "results.json", {"scores": lines, "gaps": gaps, "notes": list(notes)})
        with whole_file(self.steps.folder / "results.md") as partial:
            partial.write_text(markdown(title, lines, gaps, notes), encoding="utf-8")


def flat(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of one evaluation with their limits, a column each."""
    return {
        f"{name}{'' if part == 'value' else '_' + part}": summary[name][part]
        for name in (*SCORES, "mean_ap")
        for part in ("value", "low", "high")
    }


def counts(evaluations: Sequence[Path]) -> dict[str, np.ndarray]:
    """True and false positives and false negatives at IoU 0.5, all seeds together: (3,) by specimen."""
    found: dict[str, np.ndarray] = {}
    for folder in evaluations:
        with (folder / "scores.csv").open(encoding="utf-8", newline="") as stream:
            for line in csv.DictReader(stream):
                if float(line["iou"]) == IOU:
                    each = np.array([int(line[name]) for name in ("tp", "fp", "fn")])
                    found[line["specimen"]] = found.get(line["specimen"], 0) + each
    return found


def scores_of(total: np.ndarray) -> np.ndarray:
    """F1, sensitivity and precision of (…, 3) true positives, false positives, false negatives."""
    tp, fp, fn = np.moveaxis(np.asarray(total, float), -1, 0)
    parts = ((2 * tp, 2 * tp + fp + fn), (tp, tp + fn), (tp, tp + fp))
    return np.stack([over / np.maximum(under, 1e-9) for over, under in parts], axis=-1)


def resampled(number: int, seed: int = 0) -> np.ndarray:
    """How often each of ``number`` specimens is drawn, (DRAWS, number): as many as there are, with replacement."""
    return np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), DRAWS)


def score_interval(evaluations: Sequence[Path]) -> dict[str, list[float]]:
    """Each score at IoU 0.5, seeds pooled: value, and a 95 % interval of a bootstrap over specimens."""
    each = np.array(list(counts(evaluations).values()))
    drawn = scores_of(resampled(len(each)) @ each)
    limits = np.quantile(drawn, (0.025, 0.975), axis=0)
    value = scores_of(each.sum(0))
    return {name: [float(value[at]), *limits[:, at].tolist()] for at, name in enumerate(SCORES)}


def gap(one: Sequence[Path], other: Sequence[Path]) -> dict[str, list[float]]:
    """F1 of one arm less that of another on the same images: value, and a 95 % interval over the same specimens."""
    first, second = counts(one), counts(other)
    names = sorted(first.keys() & second.keys())
    drawn = resampled(len(names))
    mine, theirs = (np.array([found[name] for name in names]) for found in (first, second))
    apart = scores_of(drawn @ mine)[:, 0] - scores_of(drawn @ theirs)[:, 0]
    value = scores_of(mine.sum(0))[0] - scores_of(theirs.sum(0))[0]
    return {"f1_gap": [float(value), *np.quantile(apart, (0.025, 0.975)).tolist()]}


def markdown(
    title: str, lines: Sequence[Mapping[str, Any]], gaps: Sequence[Mapping[str, Any]], notes: Sequence[str]
) -> str:
    """Tables of scores and gaps."""
    shown = lambda three: f"{three[0]:.3f} [{three[1]:.3f}, {three[2]:.3f}]"  # noqa: E731
    text = [
        f"# {title}",
        "",
        "| tested on | trained on | seeds | F1 | sensitivity | precision |",
        "|---|---|---|---|---|---|",
    ]
    text += [
        f"| {line['test']} | {line['arm']} | {line['seeds']} | "
        + " | ".join(shown(line[name]) for name in SCORES)
        + " |"
        for line in lines
    ]
    text += ["", "| tested on | F1 of | less F1 of | gap |", "|---|---|---|---|"]
    text += [f"| {each['test']} | {each['arm']} | {each['against']} | {shown(each['f1_gap'])} |" for each in gaps]
    said = f"At IoU {IOU}, all nuclei and seeds together; 95 % intervals of a bootstrap over specimens."
    return "\n".join([*text, "", said, *notes]) + "\n"


def merged(folder: Path, training: Mapping[str, Path], testing: Path) -> None:
    """Put nucleus datasets together: the training images of some, the testing images of one.

    Args:
        folder: of the new dataset; replaced.
        training: datasets, by the name of the folder that their files get.
        testing: a dataset.
    """
    with whole_folder(folder) as partial:
        entries: dict[str, list] = {"training": [], "testing": []}
        listed: dict[str, Any] = {}
        for split, parts in (("training", training), ("testing", {"testing": testing})):
            for name, dataset in parts.items():
                listed = json.loads((dataset / "datalist.json").read_text(encoding="utf-8"))
                for entry in listed[split]:
                    files = {what: f"{name}/{entry[what]}" for what in ("image", "labels")}
                    for what, file in files.items():
                        (partial / file).parent.mkdir(parents=True, exist_ok=True)
                        if not (partial / file).exists():
                            shutil.copy(dataset / entry[what], partial / file)
                    entries[split].append({**entry, **files})
        write_json(partial / "datalist.json", {"pixel_um": listed["pixel_um"], "image": listed["image"], **entries})
