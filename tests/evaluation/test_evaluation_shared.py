"""An evaluation by several workers, or one that was killed and goes on, says the same, byte for byte."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bundle.common.errors import InputError
from bundle.common.folder_lock import held
from bundle.common.work.engine import Engine
from bundle.data.listed_again import LEFT_OUT, again, plain
from bundle.data.load import load_datalist
from bundle.evaluation.paired import WORK, evaluate
from bundle.evaluation.working import BEGUN
from bundle.images.slides import write_slide
from tests.conftest import ROOT, make_dataset
from tests.helpers.believed import make_believed
from tests.helpers.processes import wait_for
from tests.helpers.volumes import files_of

TISSUES = {"bone": [1], "new bone": [2], "lacuna": [3], "degradation layer": [4]}
KILLED = """
import sys, time
from bundle.data.load import load_datalist
from bundle.evaluation import paired, slide_scores
score = slide_scores.SlideScores.score
def slowly(self, number, *given):
    time.sleep(60 * (number == 2))
    return score(self, number, *given)
slide_scores.SlideScores.score = slowly
data, bundle, run = sys.argv[1:]
paired.evaluate(load_datalist(data), bundle, run, "cpu", 32, 16, 0.5, ["training", "testing"], None)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Four slides with all that can be measured."""
    folder = make_dataset(tmp_path_factory.mktemp("shared") / "data", pairs=3)
    listed, rng = json.loads((folder / "datalist.json").read_text()), np.random.default_rng(1)
    for split in ("training", "testing"):
        for number, entry in enumerate(listed[split]):
            entry |= {"perfect": entry["target"], "labels": f"labels/{split}{number}.png"}
            labels = np.kron(rng.integers(1, 5, (1, 8, 9)), np.ones((1, 8, 8))).astype(np.uint8)
            write_slide(folder / entry["labels"], labels)
    (folder / "datalist.json").write_text(json.dumps({**listed, "tissues": TISSUES}))
    return folder


@pytest.fixture(scope="module")
def believed(trained, tmp_path_factory) -> Path:
    """A bundle with an error map, which finds everything like its training."""
    return make_believed(trained / "bundle", tmp_path_factory.mktemp("believed") / "bundle", usual=1e9)


def measured(data: Path, bundle: Path, run: Path, engine: Engine | None = None) -> dict[str, bytes]:
    """What an evaluation leaves, but for when and by what command."""
    listed = load_datalist(str(data))
    evaluate(listed, str(bundle), str(run), "cpu", 32, 16, 0.5, ["training", "testing"], None, engine=engine)
    return {name: content for name, content in files_of(run / "evaluation").items() if name != "provenance.json"}


@pytest.fixture(scope="module")
def alone(data, believed, tmp_path_factory) -> dict[str, bytes]:
    """What this process measures."""
    return measured(data, believed, tmp_path_factory.mktemp("alone"))


def test_two_workers_measure_what_one_process_does(data, believed, alone, tmp_path):
    assert {"patches.csv", "slides.csv", "truth.csv", "trust.csv", "abstention.csv", "table.md"} <= set(alone)
    assert sum(name.endswith("expected_error.png") for name in alone) == 4
    assert measured(data, believed, tmp_path, Engine(workers=2)) == alone


def test_a_killed_evaluation_goes_on_and_one_of_other_values_begins_anew(data, believed, alone, tmp_path, monkeypatch):
    words = [sys.executable, "-c", KILLED, str(data), str(believed), str(tmp_path)]
    killed, work = subprocess.Popen(words, cwd=ROOT), tmp_path / "evaluation" / WORK
    wait_for((work / "steps" / "slide-0001" / "done.json").exists)
    killed.kill()
    killed.wait()
    first = work / "steps" / "slide-0000" / "done.json"
    told = json.loads(first.read_text())
    told["patches"][0]["psnr"] = 99.5  # to see that it is not measured again
    first.write_text(json.dumps(told))
    assert b"99.5" in measured(data, believed, tmp_path)["patches.csv"]
    assert not work.exists()

    (work / "steps" / "slide-0000").mkdir(parents=True)
    first.write_text(json.dumps(told))
    (work / BEGUN).write_text(json.dumps({"ids": "other"}))
    assert measured(data, believed, tmp_path) == alone


def test_a_second_evaluation_into_one_folder_is_refused(data, believed, tmp_path):
    with (
        held(tmp_path / "evaluation" / WORK, "it"),
        pytest.raises(InputError, match="is in the hands of an evaluation that is at work"),
    ):
        measured(data, believed, tmp_path)


def test_a_dataset_is_the_same_after_its_way_to_a_worker(data):
    listed = load_datalist(str(data))
    there = again(json.loads(json.dumps(plain(listed))))
    for name, value in vars(listed).items():
        assert getattr(there, name) == ({} if name in LEFT_OUT else value), name
