"""The short ways run what would have been typed, and take nothing unseen from a record."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bundle.commands import main as commands
from bundle.commands.evaluate import evaluate, files_of, named_files
from bundle.commands.ids import parted
from bundle.commands.monai_run import Run, as_typed, reads_by_itk, wanted_path
from bundle.commands.stain import listed
from bundle.commands.train import advice, train
from bundle.common.errors import InputError
from bundle.common.run_folder import PROVENANCE
from tests.conftest import ROOT, TINY, make_dataset

FIRM = ["configs/train.json", "configs/methods/firm.json"]


@pytest.fixture(autouse=True)
def _home(monkeypatch):
    monkeypatch.chdir(ROOT)


def typed(capsys, monkeypatch, *words) -> list[str]:
    """What ``--show`` prints, as words."""
    monkeypatch.setattr(sys, "argv", ["virtual-staining", *map(str, words), "--show"])
    commands.main()
    line = capsys.readouterr().out.strip()
    assert "\n" not in line
    return shlex.split(line)


def configs_of(words: list[str]) -> list[str]:
    given = words[words.index("--config_file") + 1]
    return ast.literal_eval(given) if given.startswith("[") else [given]


def test_train_is_the_recommended_method(dataset, capsys, monkeypatch):
    words = typed(capsys, monkeypatch, "train", dataset, "run", "--fold", 0, "--g_xy#blocks", "3", "--zoom", "[0.9, 1]")
    assert words[:5] == ["python", "-m", "monai.bundle", "run", "training"]
    assert configs_of(words) == FIRM
    rest = words[words.index("--config_file") + 2 :]
    assert rest == ["--dataset_dir", str(dataset), "--output_dir", "run", *("--fold", "0"),
                    *("--g_xy#blocks", "3", "--zoom", "[0.9, 1]")]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "files"),
    [
        (["--method", "paired"], ["configs/train.json"]),
        (["--method=one_way", "--profile", "demo"],
         ["configs/train.json", "configs/methods/one_way.json", "configs/profiles/demo.json"]),
    ],
)  # fmt: skip
def test_train_takes_methods_and_profiles_by_name(dataset, capsys, monkeypatch, words, files):
    assert configs_of(typed(capsys, monkeypatch, "train", dataset, "run", *words)) == files


def test_elsewhere_the_line_names_files_that_are_there(dataset, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert all(Path(file).is_file() for file in configs_of(typed(capsys, monkeypatch, "train", dataset, "run")))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--epohcs", "3"], "--epohcs is no option and no id of .*; did you mean --epochs?"),
        (["--method", "frim"], "--method frim is none; did you mean firm?"),
        (["--profile", "own.json"], "--profile own.json does not exist; there are demo, nuclei_demo"),
        (["--levels", "3"], "--levels is no option and no id"),  # of another method
    ],
)
def test_train_refuses_what_is_mistyped_before_it_loads_anything(dataset, monkeypatch, words, said):
    monkeypatch.setattr(sys, "argv", ["virtual-staining", "train", str(dataset), "run", *words])
    with pytest.raises(InputError, match=said):
        commands.main()


def test_a_dataset_that_is_not_there_is_looked_for(tmp_path):
    make_dataset(tmp_path / "pairs")
    with pytest.raises(InputError, match=r"dataset .*pars does not exist; did you mean .*pairs\?"):
        train(str(tmp_path / "pars"), "run")
    with pytest.raises(InputError, match=r"has no datalist\.json"):
        train(str(tmp_path), "run")


def test_images_without_a_partner_want_another_method(dataset):
    path = dataset / "datalist.json"
    content = json.loads(path.read_text())
    assert advice(path, "firm")[0].endswith("--method paired is the paper's")
    del content["training"][0]["target"]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"1 training image without a partner, .*--method ki67, .*--method restain"):
        advice(path, "firm")
    assert advice(path, "ki67") == ["method ki67"]


def recorded(folder: Path, dataset: str, files: list[str], **config) -> Path:
    """The folder of a run with a record as a training leaves it."""
    folder.mkdir()
    command = ["monai/bundle/__main__.py", "run", "training", "--config_file", str(files), "--fold", "1"]
    values = {"datalist": "datalist.json", "fold": 1, "seed": 3, "paired": True, **config}
    record = {"command": command, "dataset_dir": dataset, "config": values}
    (folder / PROVENANCE).write_text(json.dumps(record))
    return folder


def test_evaluate_takes_what_the_run_was_trained_on(tmp_path, capsys, monkeypatch):
    files = ["/gone/configs/train.json", "/gone/configs/methods/firm.json", "configs/profiles/demo.json"]
    run = recorded(tmp_path / "run", "/data/here", files)
    words = typed(capsys, monkeypatch, "evaluate", run, "--eval_patch", 64)
    assert words[4] == "evaluation"
    assert configs_of(words) == [FIRM[0], "configs/evaluate.json", FIRM[1], "configs/profiles/demo.json"]
    rest = dict(zip(words[7::2], words[8::2], strict=True))
    assert rest == {"--dataset_dir": "/data/here", "--output_dir": str(run), "--datalist": "datalist.json",
                    "--fold": "1", "--seed": "3", "--eval_patch": "64"}  # fmt: skip
    words = typed(capsys, monkeypatch, "evaluate", run, "--dataset_dir", "moved")
    assert [word for word in words if word == "--dataset_dir"] == ["--dataset_dir"]
    assert words[-2:] == ["--dataset_dir", "moved"]


def test_evaluate_measures_unpaired_runs_by_their_own_config(tmp_path, capsys, monkeypatch):
    run = recorded(tmp_path / "run", "/data", ["configs/train.json", "configs/methods/ki67.json"], paired=False)
    assert "configs/evaluate_unpaired.json" in configs_of(typed(capsys, monkeypatch, "evaluate", run))


@pytest.mark.parametrize(
    ("dataset", "config"),
    [
        ("$__import__('os').system('x')", {}),
        ("@output_dir", {}),
        (["a"], {}),
        ("/data", {"fold": "$1"}),
        ("/data", {"datalist": "%/etc/passwd"}),
        ("/data", {"seed": -1}),
    ],
)
def test_nothing_of_a_record_is_code(tmp_path, dataset, config):
    run = recorded(tmp_path / "run", dataset, ["configs/train.json"], **config)
    with pytest.raises(InputError, match=r"provenance\.json: \w+ is .*; it must be .*: pass --\w+ yourself\."):
        evaluate(str(run), show=True)


def test_a_record_names_configs_of_ours_alone(tmp_path):
    foreign = tmp_path / "methods" / "evil.json"
    foreign.parent.mkdir()
    foreign.write_text("{}")
    record = {"command": ["x", "--config_file", str(["configs/train.json", str(foreign)])]}
    with pytest.raises(InputError, match=r"evil\.json.*, which is no config of ours; .*--overlays"):
        files_of(record, tmp_path)
    assert files_of(record, tmp_path, str(foreign)) == [str(foreign)]
    fake = {"command": ["x", f"--config_file=['configs/train.json','{tmp_path}/methods/firm.json']"]}
    assert files_of(fake, tmp_path) == [FIRM[1]]  # ours of that name, whatever lies there
    assert named_files({"command": "rm"}) == named_files({}) == []


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("a b", "a b"),
        ("7", '"7"'),
        ("True", '"True"'),
        (None, "null"),
        (3, "3"),
        (["a"], '["a"]'),
    ],
)
def test_a_value_is_typed_so_that_it_arrives_as_it_is(value, word):
    from fire.parser import DefaultParseValue

    assert as_typed(value) == word
    arrived = DefaultParseValue(word)
    assert arrived == ("null" if value is None else value)  # which the configs read as none


def test_words_are_parted_as_fire_would_read_them():
    own = ("dataset", "method", "show")
    words = ["d", "--fold", "0", "r", "--method=x", "--resume", "--show", "--a-b=c d", "--jitter", "-1"]
    assert parted(words, own) == (
        ["d", "r", "--method=x", "--show"],
        ["--fold", "0", "--resume", "--a-b", "c d", "--jitter", "-1"],
    )


def test_lists_that_a_shell_cut_are_told():
    assert listed("[a.tif, b.tif]") == listed('["a.tif", "b.tif"]') == ["a.tif", "b.tif"]
    with pytest.raises(InputError, match="a list that the shell has cut; put quotes around it"):
        listed("[a.tif,")


def test_a_path_without_a_like_is_told_plainly(tmp_path):
    with pytest.raises(InputError, match=r"input .*zzz does not exist\.$"):
        wanted_path(str(tmp_path / "zzz"), "input")


def test_a_run_here_is_recorded_as_if_it_had_been_typed(dataset, tmp_path):
    """One real training, in a process as a user starts it; then what its record says of it."""
    ids = [
        word
        for name, value in {**TINY, "epochs": 1, "patches_per_pair": 2}.items()
        for word in (f"--{name}", str(value))
    ]
    words = ["train", str(dataset), str(tmp_path / "run"), "--method", "one_way", "--validate_every", "0", *ids]
    done = subprocess.run(
        [sys.executable, "-m", "bundle.commands", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    told = next(number for number, line in enumerate(lines) if line.startswith("note: MONAI's notice below"))
    assert any("parsing config_file" in line for line in lines[told + 1 :])
    assert sum("MONAI's notice" in line for line in lines) == 1
    record = json.loads((tmp_path / "run" / PROVENANCE).read_text())
    shown = shlex.split(lines[1].removeprefix("runs: "))
    assert record["command"][0].endswith("monai/bundle/__main__.py")
    assert record["command"][1:] == shown[3:]
    assert (tmp_path / "run/bundle/models/model.pt").is_file()
    again = evaluate_words(tmp_path / "run")
    assert again[:2] == ["run", "evaluation"]
    assert str(dataset.resolve()) in again


def evaluate_words(run: Path) -> list[str]:
    caught = []
    start = Run.start
    Run.start = lambda self, show: caught.extend(self.words)
    try:
        evaluate(str(run))
    finally:
        Run.start = start
    return caught


def test_a_bundle_that_reads_by_itk_finds_it(tmp_path):
    ours, before = ROOT / "configs/inference.json", tmp_path / "inference.json"
    before.write_text('{"reader": {"_target_": "LoadImaged", "keys": "image", "reader": "ITKReader"}}')
    assert not reads_by_itk(ours)
    assert reads_by_itk(before)
    assert reads_by_itk(ROOT / "configs/series.json")
