"""A study: every cell once, whoever does it, and tables that say what the cells measured."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bundle.common.errors import InputError
from bundle.common.work.engine import share_of_cores
from bundle.studies.checks import check_cells
from bundle.studies.page import write_study
from bundle.studies.plan import plan_cells, read_variants
from bundle.studies.study import Study
from tests.conftest import ROOT, TINY, make_dataset
from tests.helpers.processes import at_work_on, hears_sigterm, wait_for

FOUR = ("--methods", "[paired,pix2pix]", "--folds", "[0,1]")
IDS = {**TINY, "epochs": 1, "patches_per_pair": 2}
EVALUATION = {"eval_patch": 32}


def command(dataset: Path, study: Path, *more: str) -> list[str]:
    words = [sys.executable, "-m", "scripts.study", "--dataset_dir", str(dataset), "--output_dir", str(study)]
    return [*words, "--ids", json.dumps(IDS), "--evaluation", json.dumps(EVALUATION), *more]


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_HOME": str(home)}


def table(study: Path) -> list[dict[str, str]]:
    """What a study measured, but for its time."""
    write_study(study)
    with (study / "table.csv").open(newline="") as file:
        return [{**line, "minutes": ""} for line in csv.DictReader(file)]


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """A study of two methods and two folds, done by two workers."""
    folder = tmp_path_factory.mktemp("study")
    make_dataset(folder / "data", pairs=4, allow_same_specimen=True)
    words = command(folder / "data", folder / "study", *FOUR, "--workers", "2")
    study = subprocess.Popen(words, cwd=ROOT, env=environment(folder), stderr=subprocess.PIPE, text=True)
    wait_for(lambda: any((folder / "study").glob("cells/*/begun.json")))
    # meanwhile the same once more
    other = subprocess.run(words, cwd=ROOT, env=environment(folder), capture_output=True, text=True, timeout=300)
    assert other.returncode == 1
    refused = f"is in the hands of a study that is at work; --workers N shares its cells out (process {study.pid} on"
    assert refused in other.stderr
    said = study.communicate(timeout=600)[1]
    assert study.returncode == 0, said
    (folder / "said").write_text(said)
    return folder / "study"


def test_two_workers_do_every_cell_once_and_share_the_cores(done):
    cells = sorted(path.name for path in (done / "cells").iterdir())
    assert cells == ["paired-fold0-seed0", "paired-fold1-seed0", "pix2pix-fold0-seed0", "pix2pix-fold1-seed0"]
    workers = set()
    for name in cells:
        folder = done / "cells" / name
        assert (folder / "done.json").exists()
        assert (folder / "training.out").read_text().count("results in") == 1  # trained once
        assert json.loads((folder / "provenance.json").read_text())["threads"] == share_of_cores(2)
        workers.add(json.loads((folder / "begun.json").read_text())["worker"])
    assert workers == {"local-0", "local-1"}


def test_a_line_says_when_a_cell_begins_and_ends_who_has_it_and_what_is_left(done):
    said = (done.parent / "said").read_text().splitlines()
    begins = [line for line in said if ": begins (cell " in line]
    ends = [line for line in said if ": done on local-" in line]
    assert len(begins) == len(ends) == 4
    assert all(re.search(r"-seed0: begins \(cell [1-4] of 4\) on local-[01]$", line) for line in begins)
    assert [re.search(r"; (\d) left", line)[1] for line in ends] == ["3", "2", "1", "0"]
    assert re.search(r"; 3 left, about \d+ min$", ends[0])


def test_rows_without_a_network_are_measured_once_a_fold(done):
    measured = {}
    for path in (done / "cells").glob("*/evaluation/patches.csv"):
        with path.open(newline="") as file:
            measured[path.parents[1].name] = {row["row"] for row in csv.DictReader(file)}
    rows = {"network", "colour table", "mean colour", "inverted source", "raw source"}
    assert measured == {
        "paired-fold0-seed0": rows,
        "paired-fold1-seed0": rows,
        "pix2pix-fold0-seed0": {"network"},
        "pix2pix-fold1-seed0": {"network"},
    }


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
    for text in (markdown, latex, page):
        assert "One specimen stands in more than one split of this dataset" in text
    assert page.count("<img") == 2 * 4  # source, real and both methods, of a test and a validation slide


def test_starting_again_does_nothing_twice_and_another_plan_is_refused(done):
    before = {path: path.stat().st_mtime for path in done.rglob("done.json")}
    words = command(done.parent / "data", done, *FOUR)
    again = subprocess.run(words, cwd=ROOT, env=environment(done.parent), capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime for path in done.rglob("done.json")} == before
    other = subprocess.run([*words, "--seeds", "[3]"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert other.returncode == 1
    assert "holds a study with other cells; name another --output_dir" in other.stderr
    assert "Traceback" not in other.stderr


@pytest.mark.slow
def test_a_study_of_two_workers_that_is_killed_ends_alone_with_the_same_table(tmp_path, done):
    words = command(done.parent / "data", tmp_path / "study", *FOUR)
    first = subprocess.Popen([*words, "--workers", "2"], cwd=ROOT, env=environment(tmp_path))
    wait_for(lambda: any((tmp_path / "study").glob("cells/*/done.json")), seconds=600)
    first.kill()
    first.wait()
    finished = {path: path.stat().st_mtime for path in (tmp_path / "study").glob("cells/*/done.json")}
    again = subprocess.run(words, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=600)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime for path in finished} == finished
    assert table(tmp_path / "study") == table(done)


@pytest.mark.parametrize("ended_by", ["Ctrl-C", "SIGKILL"])
@pytest.mark.parametrize("workers", [None, 2])
def test_a_study_that_is_stopped_leaves_no_training_behind_that_has_not_saved(tmp_path, workers, ended_by):
    make_dataset(tmp_path / "data", pairs=2)
    long = json.dumps({**IDS, "epochs": 500, "patches_per_pair": 50})
    words = [*command(tmp_path / "data", tmp_path / "study", "--methods", "one_way"), "--ids", long]
    words += [] if workers is None else ["--workers", str(workers)]
    study = subprocess.Popen(
        words, cwd=ROOT, env=environment(tmp_path), start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    cell = tmp_path / "study" / "cells" / "one_way-all-seed0"
    wait_for(lambda: (cell / "checkpoints" / "latest.pt").exists() and any(map(hears_sigterm, at_work_on(cell))))
    saved = (cell / "checkpoints" / "latest.pt").stat().st_mtime_ns
    os.killpg(study.pid, signal.SIGINT) if ended_by == "Ctrl-C" else study.kill()
    said = study.communicate(timeout=120)[1]
    if ended_by == "Ctrl-C":
        assert study.returncode == 130
        assert "stopped; 1 of 1 cells are left; repeat the command" in said
        assert not at_work_on(cell)
    else:
        wait_for(lambda: not at_work_on(cell), seconds=60)
    assert "Traceback" not in said
    assert "latest.pt is written" in (cell / "log.txt").read_text()
    assert (cell / "checkpoints" / "latest.pt").stat().st_mtime_ns > saved
    assert not (cell / "done.json").exists()


@pytest.mark.slow
def test_a_full_disk_loses_no_more_than_the_cell_in_work(tmp_path, done):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small disk to fill")
    try:
        words = command(done.parent / "data", disk / "study", *FOUR)
        first = disk / "study" / "cells" / "paired-fold0-seed0" / "done.json"
        with (tmp_path / "errors").open("w") as errors:
            study = subprocess.Popen(words, cwd=ROOT, env=environment(tmp_path), stderr=errors)
            while not first.exists() and study.poll() is None:
                time.sleep(0.1)
            filler = disk / "filler"
            with contextlib.suppress(OSError):
                filler.write_bytes(bytes(2**26))  # no space left
            assert study.wait(timeout=600) == 1
        said = (tmp_path / "errors").read_text()
        assert "No space left on device; what is done stays" in said
        assert "Traceback" not in said
        before = first.stat().st_mtime
        filler.unlink()
        again = subprocess.run(words, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=600)
        assert again.returncode == 0, again.stderr
        assert first.stat().st_mtime == before
        # one process with a full disk in between measures what two undisturbed workers do
        assert table(disk / "study") == table(done)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("more", [(), ("--workers", "2")])
@pytest.mark.slow
def test_a_cell_that_fails_is_named_and_the_others_go_on(tmp_path, more):
    make_dataset(tmp_path / "data", pairs=2)
    blocked = tmp_path / "study/cells/broken-all-seed0"
    blocked.mkdir(parents=True)
    (blocked / "checkpoints").write_text("no folder")  # which no check before the start can see
    variants = {"broken": {}, "one way": {"methods": ["one_way"]}}
    (tmp_path / "variants.json").write_text(json.dumps(variants))
    words = command(tmp_path / "data", tmp_path / "study", "--variants", str(tmp_path / "variants.json"), *more)
    done = subprocess.run(words, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    assert "failed: broken-all-seed0" in done.stderr
    assert "broken-all-seed0: training: " in done.stderr  # why, without opening a file
    assert (tmp_path / "study" / "cells" / "one way-all-seed0" / "done.json").exists()


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({"a": {"methods": ["pix3pix"]}}, "there is no configs/methods/pix3pix.json; there are cyclegan"),
        ({"a": {"id": {}}}, "variant 'a' has 'id'; it may have methods, ids, folds, seeds, tables, curves"),
        ({"a": {"ids": {"dataset_dir": "D"}}}, "variant 'a' sets dataset_dir; a study has one dataset"),
        ({}, "variants is empty"),
        ({"a": {"methods": "one_way"}}, "variant 'a': methods is 'one_way'; give a list"),
        ({"a": {"folds": 0}}, "variant 'a': folds is 0; give a list"),
        ({"a/b": {}}, "variant 'a/b' becomes the name of a folder"),
        ({"lr #1": {}}, "variant 'lr #1' becomes the name of a folder; it must be without # and ::"),
        ({"a::b": {}}, "it must be without # and ::"),
        ({"a\nb": {}}, r"variant 'a\\nb' becomes the name of a folder"),
        ({"ü" * 101: {}}, "of at most 200 bytes"),
        ({"a": {"curves": [{"axis": "x", "curve": "y", "x": "big"}]}}, "give axis, curve and a number as x"),
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
    assert Study(tmp_path / "study", "D", cells, {}, {}).cell_folder(cells[0]).name == "a-fold0-seed5"


def test_a_variant_can_have_folds_and_seeds_of_its_own(monkeypatch):
    monkeypatch.chdir(ROOT)
    cells = plan_cells({"a": {}, "b": {"folds": [1], "seeds": [7]}}, [0, 1], [5], None, {})
    assert [cell.name for cell in cells] == ["a-fold0-seed5", "a-fold1-seed5", "b-fold1-seed7"]


def test_what_no_cell_can_use_is_refused_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    data = make_dataset(tmp_path / "data")
    listed = json.loads((data / "datalist.json").read_text())
    sides = [{"source": entry["source"]} for entry in listed["training"]]
    sides += [{"target": entry["target"]} for entry in listed["training"]]
    (data / "unpaired.json").write_text(json.dumps({**listed, "training": sides}))
    variants = {
        "Pix2Pix on unpaired data": {"methods": ["pix2pix"], "ids": {"datalist": "unpaired.json"}},
        "odd patches": {"methods": ["pix2pix"], "ids": {"patch_size": 36}},
        "no way back": {"methods": ["one_way"], "ids": {"lambda_cycle": 1}},
        "mistyped": {"ids": {"lambda_pixl": 1}},
        "no epochs": {"ids": {"epochs": 0, "decay_epochs": 0}},
        "all decay": {"ids": {"epochs": 1, "decay_epochs": 2}},
        "large patches": {"ids": {"patch_size": 96}},
        "good": {},
    }
    cells = plan_cells(variants, [None], [0, 1], None, TINY)
    with pytest.raises(InputError) as refused:
        check_cells(cells, str(data), EVALUATION)
    lines = str(refused.value).splitlines()
    assert lines[0] == (
        "Pix2Pix on unpaired data: unpaired.json: training[0] has no target and 3 more are no pairs either; "
        "this method needs pairs, source and target in every entry."
    )
    assert lines[1].startswith("odd patches: patch_size is 36; this U-Net")
    assert lines[2] == "no way back: lambda_cycle is 1, but this method has no g_yx; set it to 0."
    assert lines[3].startswith("mistyped: 'lambda_pixl' is not an id")
    assert lines[4] == "no epochs: epochs is 0; it must be a whole number of at least 1."
    assert lines[5] == "all decay: decay_epochs is 2, but epochs is 1; it cannot be more."
    assert "large patches: datalist.json, training[0]: 00.png is 64×72 px, smaller than a patch of 96 px" in lines[6]
    assert not any(line.startswith("good") for line in lines)
    good = [cell for cell in cells if cell.variant == "good"]
    check_cells(good, str(data), EVALUATION)
    with pytest.raises(InputError, match="is a dataset; name a folder of its own"):
        Study(data, str(data), good, EVALUATION, variants)
    for content, message in (("{,}", "variants.json cannot be read"), ("[]", "variants.json holds a list")):
        (tmp_path / "variants.json").write_text(content)
        with pytest.raises(InputError, match=message):
            read_variants(tmp_path / "variants.json")
    with pytest.raises(InputError, match="good: datalist.json, training.0.: 64×72 px, smaller than eval_patch 256"):
        check_cells(good, str(data), {})
    with pytest.raises(InputError, match="good: 'eval_ptch' is not an id of this config; did you mean 'eval_patch'"):
        check_cells(good, str(data), {"eval_ptch": 32})
