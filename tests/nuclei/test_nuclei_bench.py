"""The parts of the nucleus experiments that decide what is compared with what."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from stardist.matching import f1, precision, recall

from bundle.common.errors import InputError
from bundle.images.slides import read_slide
from scripts.bench.nuclei_data import families, halves, pictures, write_nuclei
from scripts.bench.nuclei_images import Labelled, densest, matched, scaled, wanted_diameters
from scripts.bench.steps import Steps, counts, gap, merged, score_interval, scores_of
from tests.conftest import ROOT


def disks(side: int, radius: float, centres: list[tuple[int, int]]) -> np.ndarray:
    rows, columns = np.indices((side, side))
    labels = np.zeros((side, side), np.uint16)
    for number, (row, column) in enumerate(centres, 1):
        labels[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = number
    return labels


def textured(rng: np.random.Generator, shape: tuple[int, int], colour: tuple[int, int, int]) -> np.ndarray:
    """(3, H, W) of one background colour with dark places."""
    dark = np.clip(0.3 + 6 * gaussian_filter(rng.standard_normal(shape), 4), 0, 1)
    noise = rng.normal(0, 1.5, (3, *shape))
    return np.clip(np.array(colour)[:, None, None] * (1 - 0.5 * dark) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def cut() -> list[Labelled]:
    """Three pictures of two colours, each cut into four."""
    rng = np.random.default_rng(0)
    images = []
    for number, colour in enumerate([(180, 160, 205), (181, 162, 206), (215, 215, 220)]):
        whole = textured(rng, (96, 120), colour)
        for row in (0, 48):
            for column in (0, 60):
                part = np.ascontiguousarray(whole[:, row : row + 48, column : column + 60])
                labels = np.zeros((48, 60), np.uint16)
                labels[10 : 20 + number, 10:20] = 1
                images.append(Labelled(f"{number}{row}{column}", part, labels))
    order = rng.permutation(len(images))
    return [images[place] for place in order]


def test_parts_of_one_picture_are_found_by_their_borders(cut: list[Labelled]) -> None:
    found = pictures(cut)
    true = [image.name[0] for image in cut]
    assert len(set(zip(found, true, strict=True))) == len(set(found)) == len(set(true))


def test_halves_divide_no_picture(cut: list[Labelled]) -> None:
    assert len(set(families(cut))) == 2
    training = halves(cut, 0)
    by_picture = {image.name[0]: set() for image in cut}
    for image, mine in zip(cut, training, strict=True):
        by_picture[image.name[0]].add(bool(mine))
    assert all(len(sides) == 1 for sides in by_picture.values())
    assert len(set(training)) == 2
    assert np.array_equal(training, halves(cut, 0))


def test_diameters_take_the_quantiles_of_the_model() -> None:
    assert wanted_diameters([9, 50, 20, 10], [10, 20, 30, 40, 50]).tolist() == [15, 45, 35, 25]


def test_a_scaled_image_keeps_its_nuclei_and_scales_their_diameter() -> None:
    labels = disks(100, 9.5, [(30, 30), (70, 60)])
    image = Labelled("a", (labels > 0).astype(np.uint8)[None] * 200, labels)
    larger = scaled(image, 1.6)
    assert larger.labels.shape == (160, 160)
    assert larger.diameter == pytest.approx(1.6 * image.diameter, rel=0.03)
    assert ((larger.pixels[0] > 100) == (larger.labels > 0)).mean() > 0.99


def test_the_densest_window_is_where_the_nuclei_are() -> None:
    labels = disks(100, 5, [(12, 10), (70, 70), (72, 85), (85, 75)])
    window = densest(Labelled("a", labels[None].astype(np.uint8), labels), 40)
    assert window.labels.shape == (40, 40)
    assert sorted(np.unique(window.labels)) == [0, 1, 2, 3]
    assert np.array_equal(window.labels > 0, window.pixels[0] > 0)


def test_windows_with_too_few_nuclei_are_left_out_and_the_rest_is_matched() -> None:
    rng = np.random.default_rng(0)
    places = [(row, column) for row in (20, 45, 70) for column in (20, 45, 70)]
    apart = [(row, column) for row in (8, 92) for column in (8, 92)]
    images = []
    for number, (radius, centres) in enumerate([(4, places), (8, places), (3, apart), (6, places)]):
        labels = disks(100, radius, centres)
        grey = 20 + 100 * (labels > 0) + rng.normal(0, 2, labels.shape)
        images.append(Labelled(str(number), grey.astype(np.uint8)[None], labels))
    windows, factors = matched(images, [10.0, 12.0, 14.0], 60, 0.08)
    assert [window.name for window in windows] == ["0", "1", "3"] == list(factors)
    assert all(window.cover >= 0.08 for window in windows)


def evaluation(folder: Path, table: dict[str, tuple[int, int, int]]) -> Path:
    folder.mkdir(parents=True)
    with (folder / "scores.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("image", "specimen", "iou", "tp", "fp", "fn"))
        for name, each in table.items():
            writer.writerows([(name, name, 0.5, *each), (name, name, 0.7, 0, 99, 99)])
    return folder


def test_scores_are_those_of_stardist_and_seeds_are_pooled(tmp_path: Path) -> None:
    one = evaluation(tmp_path / "one", {"a": (8, 2, 1), "b": (3, 0, 4)})
    two = evaluation(tmp_path / "two", {"a": (7, 1, 2), "b": (5, 2, 2)})
    assert {name: each.tolist() for name, each in counts([one, two]).items()} == {"a": [15, 3, 3], "b": [8, 2, 6]}
    expected = [score(23, 5, 9) for score in (f1, recall, precision)]
    assert scores_of(np.array([23, 5, 9])).tolist() == pytest.approx(expected)
    pooled = score_interval([one, two])
    assert [pooled[name][0] for name in ("f1", "sensitivity", "precision")] == pytest.approx(expected)
    assert all(low <= value <= high for value, low, high in pooled.values())


def test_a_gap_between_equals_is_zero_and_a_paired_one_is_narrower_than_its_arms(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    hard = rng.integers(10, 90, 20)
    worse = evaluation(tmp_path / "worse", {str(n): (100 - each, 5, each) for n, each in enumerate(hard)})
    better = evaluation(tmp_path / "better", {str(n): (103 - each, 5, each - 3) for n, each in enumerate(hard)})
    assert gap([worse], [worse])["f1_gap"] == [0, 0, 0]
    value, low, high = gap([better], [worse])["f1_gap"]
    assert 0 < low < value < high
    alone = score_interval([worse])["f1"]
    assert high - low < 0.3 * (alone[2] - alone[1])


def test_a_command_ends_with_the_experiment_that_runs_it() -> None:
    child = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    line = f"import sys; from scripts.bench.steps import waited; waited([sys.executable, '-c', {child!r}], sys.stdout)"
    with subprocess.Popen([sys.executable, "-c", line], cwd=ROOT, stdout=subprocess.PIPE, text=True) as experiment:
        assert experiment.stdout is not None
        number = int(experiment.stdout.readline())
        experiment.terminate()
        assert experiment.wait(60) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_datasets_are_put_together(tmp_path: Path) -> None:
    image = Labelled("x", np.full((3, 16, 16), 9, np.uint8), disks(16, 3, [(8, 8)]))
    for name in ("one", "two"):
        write_nuclei(tmp_path / name, [image], [image], {}, name)
    merged(tmp_path / "both", {"a": tmp_path / "one", "b": tmp_path / "two"}, tmp_path / "two")
    listed = json.loads((tmp_path / "both" / "datalist.json").read_text(encoding="utf-8"))
    assert [len(listed[split]) for split in ("training", "testing")] == [2, 1]
    for entry in [*listed["training"], *listed["testing"]]:
        assert np.array_equal(read_slide(tmp_path / "both" / entry["labels"]).pixels[0], image.labels)


def test_a_step_is_done_once_and_anew_if_it_or_what_it_needs_is_another(tmp_path: Path) -> None:
    steps, done = Steps(tmp_path), []

    def do(name: str, made_by: int, needs: tuple[str, ...] = ()) -> None:
        def run(again: bool) -> None:
            done.append((name, again))
            (tmp_path / name).write_text("made")

        steps.do(name, tmp_path / name, made_by, run, needs)

    do("data", 1)
    do("model", 1, ("data",))
    do("data", 1)
    do("model", 1, ("data",))
    assert done == [("data", False), ("model", False)]
    time.sleep(0.01)
    do("data", 2)
    do("model", 1, ("data",))
    assert done[2:] == [("data", False), ("model", False)]


def test_a_killed_step_goes_on_and_a_failed_one_says_why(tmp_path: Path) -> None:
    steps, seen = Steps(tmp_path), []

    def killed(again: bool) -> None:
        seen.append(again)
        if not again:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        steps.do("long", tmp_path / "long", {}, killed)
    steps.do("long", tmp_path / "long", {}, killed)
    assert seen == [False, True]
    with pytest.raises(InputError, match=r"step none ended with code 1: .*No module named no_such_module"):
        steps.command("none", tmp_path / "none", ["no_such_module"])
