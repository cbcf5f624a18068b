"""A study: every cell once, whoever does it, and tables that say what the cells measured."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bundle.errors import InputError
from bundle.report.study import write_study
from bundle.study import STALE_SECONDS, Study, claimed, plan_cells
from tests.conftest import ROOT, TINY, make_dataset

IDS = {**TINY, "epochs": 1, "patches_per_pair": 2}
EVALUATION = {"eval_patch": 32}


def command(dataset: Path, study: Path, *more: str) -> list[str]:
    words = [sys.executable, "-m", "scripts.study", "--dataset_dir", str(dataset), "--output_dir", str(study)]
    return [*words, "--ids", json.dumps(IDS), "--evaluation", json.dumps(EVALUATION), *more]


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_HOME": str(home)}


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """A study of two methods and two folds, done by two processes at once."""
    folder = tmp_path_factory.mktemp("study")
    make_dataset(folder / "data", pairs=4)
    words = command(folder / "data", folder / "study", "--methods", "[paired,pix2pix]", "--folds", "[0,1]")
    both = [subprocess.Popen(words, cwd=ROOT, env=environment(folder), stderr=subprocess.PIPE) for _ in range(2)]
    errors = [process.communicate(timeout=600)[1].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    return folder / "study"


def test_two_processes_do_every_cell_once(done):
    cells = sorted(path.name for path in (done / "cells").iterdir())
    assert cells == ["paired-fold0-seed0", "paired-fold1-seed0", "pix2pix-fold0-seed0", "pix2pix-fold1-seed0"]
    for name in cells:
        folder = done / "cells" / name
        assert (folder / "done.json").exists()
        assert not (folder / "claim.json").exists()
        assert (folder / "training.out").read_text().count("results in") == 1  # trained once


def test_the_table_holds_the_medians_of_the_cells(done):
    write_study(done)
    with (done / "table.csv").open(newline="") as file:
        lines = {(line["split"], line["image"]): line for line in csv.DictReader(file)}
    assert {split for split, _ in lines} == {"training", "validation", "testing"}
    values, medians = [], []
    for fold in (0, 1):
        with (done / "cells" / f"pix2pix-fold{fold}-seed0" / "evaluation" / "patches.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if (row["split"], row["row"]) == ("validation", "network")]
        medians.append(np.median([float(row["psnr"]) for row in rows]))
        values += [float(row["psnr"]) for row in rows]
    line = lines["validation", "pix2pix"]
    assert float(line["psnr_median"]) == pytest.approx(np.median(values))
    assert (float(line["psnr_low"]), float(line["psnr_high"])) == (min(medians), max(medians))
    assert line["cells"] == "2"
    assert line["lpips_median"] == "not computed"
    # a row without a network is the same for every method, so it is counted once a fold
    assert lines["testing", "colour table"]["cells"] == "2"


def test_markdown_latex_and_page_say_the_same(done):
    write_study(done)
    markdown, latex, page = ((done / name).read_text() for name in ("table.md", "table.tex", "report.html"))
    figure = next(line for line in markdown.splitlines() if line.startswith("| testing | paired |")).split(" | ")[4]
    plain = figure.replace("**", "").split(" ")[0]
    assert plain in latex
    assert plain in page
    assert "4 of 4 trainings are done" in page
    assert page.count("<img") == 2 * 4  # source, real and both methods, of a test and a validation slide


def test_starting_again_does_nothing_twice_and_another_plan_is_refused(done):
    before = {path: path.stat().st_mtime for path in done.rglob("done.json")}
    words = command(done.parent / "data", done, "--methods", "[paired,pix2pix]", "--folds", "[0,1]")
    again = subprocess.run(words, cwd=ROOT, env=environment(done.parent), capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime for path in done.rglob("done.json")} == before
    other = subprocess.run([*words, "--seeds", "[3]"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert other.returncode == 1
    assert "holds a study with other cells; name another --output_dir" in other.stderr
    assert "Traceback" not in other.stderr


def test_a_claim_keeps_others_out_until_it_ends(tmp_path):
    with claimed(tmp_path / "cell") as mine:
        with claimed(tmp_path / "cell") as other:
            assert (mine, other) == (True, False)
        assert (tmp_path / "cell" / "claim.json").exists()  # the other left it alone
    with claimed(tmp_path / "cell") as again:
        assert again


def test_a_claim_of_a_process_that_is_gone_is_taken_over(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for owner, age, free in (
        ({"host": os.uname().nodename, "pid": gone.pid}, 0, True),
        ({"host": os.uname().nodename, "pid": os.getpid()}, 0, False),
        ({"host": "elsewhere", "pid": 1}, 5, False),
        ({"host": "elsewhere", "pid": 1}, STALE_SECONDS + 5, True),
    ):
        claim = tmp_path / "claim.json"
        claim.write_text(json.dumps(owner))
        os.utime(claim, (time.time() - age,) * 2)
        with claimed(tmp_path) as mine:
            assert mine is free, owner
        claim.unlink(missing_ok=True)


def test_a_killed_study_goes_on_where_it_was(tmp_path):
    make_dataset(tmp_path / "data", pairs=2)
    words = command(tmp_path / "data", tmp_path / "study", "--methods", "[paired,cyclegan]")
    first = subprocess.Popen(words, cwd=ROOT, env=environment(tmp_path), start_new_session=True)
    cell = tmp_path / "study" / "cells" / "paired-all-seed0"
    for _ in range(1200):
        if (cell / "done.json").exists():
            break
        time.sleep(0.1)
    os.killpg(first.pid, 9)  # the study and the cell it is at
    first.wait()
    finished = (cell / "done.json").stat().st_mtime
    done = subprocess.run(words, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (cell / "done.json").stat().st_mtime == finished
    assert (tmp_path / "study" / "cells" / "cyclegan-all-seed0" / "done.json").exists()


def test_a_cell_that_fails_is_named_and_the_others_go_on(tmp_path):
    make_dataset(tmp_path / "data", pairs=2)
    variants = {"broken": {"ids": {"lambda_pixel": -1}}, "one way": {"methods": ["pix2pix"]}}
    (tmp_path / "variants.json").write_text(json.dumps(variants))
    words = command(tmp_path / "data", tmp_path / "study", "--variants", str(tmp_path / "variants.json"))
    done = subprocess.run(words, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    assert "failed: broken-all-seed0" in done.stderr
    assert (tmp_path / "study" / "cells" / "one way-all-seed0" / "done.json").exists()


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({"a": {"methods": ["pix3pix"]}}, "there is no configs/methods/pix3pix.json; there are cyclegan"),
        ({"a": {"id": {}}}, "variant 'a' has 'id'; it has methods and ids"),
        ({}, "variants is empty"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(variants, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match=message):
        plan_cells(variants, [None], [0], None, {})


def test_cells_of_one_fold_and_seed_stand_together(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    cells = plan_cells(
        {"a": {}, "b": {"methods": ["cyclegan"], "ids": {"epochs": 3}}}, [0, 1], [5], "demo", {"epochs": 2}
    )
    assert [cell.name for cell in cells] == ["a-fold0-seed5", "b-fold0-seed5", "a-fold1-seed5", "b-fold1-seed5"]
    words = cells[1].command("evaluation", "D", tmp_path, eval_patch=64)
    files = (
        "['configs/train.json', 'configs/evaluate.json', 'configs/methods/cyclegan.json', 'configs/profiles/demo.json']"
    )
    assert words[5:7] == ["--config_file", files]
    assert (
        " ".join(words[7:]) == f"--dataset_dir D --output_dir {tmp_path} --seed 5 --fold 0 --epochs 3 --eval_patch 64"
    )
    assert Study(tmp_path / "study", "D", cells, {}).cell_folder(cells[0]).name == "a-fold0-seed5"
