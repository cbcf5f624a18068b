"""A path that a user names, or a loop over file names, is a path: to MONAI, to fire, and to a shell."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser

from bundle.commands import main as commands
from bundle.commands.evaluate import evaluate
from bundle.commands.monai_run import Run, as_typed
from bundle.common.config_text import as_path
from bundle.common.errors import InputError
from bundle.common.run_folder import PROVENANCE
from tests.conftest import ROOT, make_dataset

EVIL = [
    "$__import__('os').mkdir('pwned')",
    "@epochs",
    "%other",
    "-x",
    "null",
    "true",
    "[a]",
    "None",
    "1e3",
    "07",
    "a b",
]


@pytest.mark.parametrize("name", EVIL)
def test_a_path_arrives_in_a_config_as_the_same_path(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    word = as_typed(as_path(name))
    assert not word.startswith("-")  # which fire takes for an option
    parser = ConfigParser({"epochs": 3, "input": DefaultParseValue(word), "other": ["@input"]})
    arrived = parser.get_parsed_content("other")[0]
    assert isinstance(arrived, str)
    assert Path(arrived).samefile(tmp_path / name)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", EVIL[:3])
def test_train_shows_a_line_that_names_the_folder(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_dataset(tmp_path / "data")
    shutil.move("data", name)
    monkeypatch.setattr(sys, "argv", ["virtual-staining", "train", name, f"{name}_run", "--show"])
    commands.main()
    words = shlex.split(capsys.readouterr().out)
    assert words[words.index("--dataset_dir") + 1] == f"./{name}"
    assert words[words.index("--output_dir") + 1] == f"./{name}_run"


def test_paths_in_a_list_are_paths_too():
    assert as_path(["a.tif", "$b.tif"]) == ["a.tif", "./$b.tif"]


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ({"input": "a#1.png"}, r"^input is a#1\.png; MONAI takes # in a path, .*: rename it\.$"),
        ({"input": ["a.png", "b@::c.png"]}, r"^input is b@::c\.png; MONAI takes"),
        ({"output_dir": " "}, r"^output_dir is empty; name one"),
    ],
)
def test_what_a_config_cannot_hold_is_refused(ids, said, tmp_path):
    config = tmp_path / "c.json"
    config.write_text("{}")
    with pytest.raises(InputError, match=said):
        Run("inference", [str(config)], ids).start(show=True)


@pytest.mark.parametrize("id_", ["--dataset_dir", "--output_dir"])
def test_what_a_word_says_is_not_said_by_an_id_too(id_, tmp_path, monkeypatch):
    make_dataset(tmp_path / "data")
    monkeypatch.setattr(sys, "argv", ["virtual-staining", "train", str(tmp_path / "data"), "run", id_, "x", "--show"])
    with pytest.raises(InputError, match=f"^{id_} is .* already, by another word; leave {id_} out"):
        commands.main()


def test_a_record_without_a_dataset_asks_for_one(tmp_path, capsys):
    record = {"command": ["x", "--config_file", "configs/train.json"], "config": {"fold": 0}}
    (tmp_path / PROVENANCE).write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"does not say which dataset; pass --dataset_dir FOLDER"):
        evaluate(str(tmp_path), show=True)
    evaluate(str(tmp_path), show=True, ids=["--dataset_dir", "mine", "--fold", "2"])
    assert "dataset mine, fold 2" in capsys.readouterr().err


def test_an_interrupt_while_modules_load_is_no_traceback(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "run", interrupted)
    monkeypatch.setattr(sys, "argv", ["virtual-staining", "phantom"])
    with pytest.raises(SystemExit) as end:
        commands.main()
    assert end.value.code == 130
    assert capsys.readouterr().err == "\nstopped\n"


def test_a_file_of_the_users_is_not_ours_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    own = tmp_path / "firm.json"
    own.write_text("{}")
    assert Run("training", ["configs/train.json"]).of_ours
    assert not Run("training", ["configs/train.json", str(own)]).of_ours
    (tmp_path / "metadata.json").write_text("{}")
    assert Run("training", [str(own)]).of_ours
