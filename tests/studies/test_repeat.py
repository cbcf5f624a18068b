"""A run can be made again from its ``provenance.json`` alone."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
import torch
from monai.bundle import ConfigParser

from bundle.common.errors import InputError
from bundle.common.run_folder import MODEL, PROVENANCE, amend
from bundle.studies import repetition
from bundle.studies.repeating import repeat as main
from tests.conftest import ROOT
from tests.helpers.forked import run_module


def repeat(*words) -> subprocess.CompletedProcess:
    return run_module(["scripts.repeat", *map(str, words)], ROOT)


@pytest.fixture
def record(trained, tmp_path):
    """The record of a finished run, alone in a folder, and the data in another."""
    shutil.copy(trained / PROVENANCE, tmp_path / "record.json")
    shutil.copytree(trained.parent / "data", tmp_path / "moved")
    return tmp_path / "record.json"


def test_a_run_repeated_from_its_record_alone_gives_the_same_weights_bit_for_bit(trained, record, tmp_path):
    hidden = trained.rename(trained.with_name("out of reach"))
    try:
        words = ("--provenance", record, "--output_dir", tmp_path / "new", "--dataset_dir", tmp_path / "moved")
        done = repeat(*words)
    finally:
        hidden.rename(trained)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the weights are equal to the run's, bit for bit" in done.stdout
    first, second = (torch.load(folder / MODEL, weights_only=True) for folder in (trained, tmp_path / "new"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(InputError, match="is not empty; name a new folder"):
        main(str(record), str(tmp_path / "new"), str(tmp_path / "moved"))


def test_data_that_is_not_the_runs_is_refused_by_name_before_anything_is_written(record, tmp_path):
    (tmp_path / "moved" / "mask" / "00.png").unlink()
    with (tmp_path / "moved" / "target" / "01.png").open("ab") as file:
        file.write(b"0")
    with pytest.raises(InputError) as caught:
        main(str(record), str(tmp_path / "new"), str(tmp_path / "moved"))
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert any("mask/00.png does not exist" in line for line in lines)
    assert any("target/01.png is not the file that the run had" in line for line in lines)
    assert not (tmp_path / "new").exists()


def test_every_difference_of_code_packages_and_hardware_is_named(record):
    content = json.loads(record.read_text())
    assert not [line for line in repetition.differences(content) if not line.startswith("code")]
    content["versions"] |= {"numpy": "1.0", "gone": "2"}
    content |= {"code": "0" * 40, "processor": "an abacus"}
    lines = repetition.differences(content)
    for start in ("numpy was 1.0, is ", "gone was 2, is None", f"code was {'0' * 40}", "processor was an abacus, is "):
        assert any(line.startswith(start) for line in lines)


def test_what_changed_when_a_run_was_resumed_is_told_and_its_last_config_taken(record, tmp_path):
    content = json.loads(record.read_text())
    part = {**content, "threads": 99, "config": {**content["config"], "epochs": 7, "resume": True}}
    content["resumed"] = [part]
    told = " ".join(repetition.differences(content))
    assert "resumed with another config" in told
    assert "resumed with other threads" in told
    config = json.loads(repetition.write_config(content, tmp_path).read_text())
    assert (config["epochs"], config["resume"], config["device"]) == (7, False, "cpu")


def test_as_many_processes_and_threads_as_the_run_had(record, tmp_path):
    content = {**json.loads(record.read_text()), "processes": 2, "threads": 5}
    words = repetition.command(content, tmp_path / "config.json", tmp_path, tmp_path)
    assert words[2:6] == ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    assert repetition.environment(content)["OMP_NUM_THREADS"] == "5"


def test_weights_are_compared_with_those_of_a_complete_run_alone(record):
    content = json.loads(record.read_text())
    assert repetition.verdict(content, content)[0]
    other = {**content, "weights_sha256": "0"}
    assert repetition.verdict(other, content) == (
        False,
        f"the weights differ from the run's: SHA-256 was 0, is {content['weights_sha256']}",
    )
    assert repetition.verdict({**other, "complete": False}, content)[0]


def test_a_record_that_is_none_or_too_old_is_refused(tmp_path, record):
    with pytest.raises(InputError, match=r"none.json cannot be read .*; name a run's provenance.json"):
        repetition.read_record(tmp_path / "none.json")
    old = {name: value for name, value in json.loads(record.read_text()).items() if name != "config"}
    record.write_text(json.dumps(old))
    with pytest.raises(InputError, match="has no config; it is of an earlier version"):
        repetition.read_record(record)


def test_a_fact_added_to_a_record_leaves_the_others(trained, tmp_path):
    shutil.copy(trained / PROVENANCE, tmp_path)
    before = json.loads((tmp_path / PROVENANCE).read_text())
    amend(str(tmp_path), arithmetic={"took": "bf16"})
    assert json.loads((tmp_path / PROVENANCE).read_text()) == {**before, "arithmetic": {"took": "bf16"}}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "$open('owned', 'w')"),
        ("method", "%/etc/hostname"),
        ("schedule", {"_target_": "subprocess.run", "args": ["true"]}),
        ("schedule#_target_", "subprocess.run"),
        ("+train::_target_", "subprocess.run"),
        ("imports", ["$import os"]),
        ("device", {"device": "$__import__('os').getpid()"}),
        ("zoom", ["$open('owned', 'w')", 1.1]),
        ("bundle_root", "/home/someone/.config"),
        ("train#writer#log_dir", "/home/someone/.ssh"),
        ("+train::writer::log_dir", "../elsewhere"),
        ("train", {"writer": {"log_dir": "elsewhere"}}),
        ("train", {"writer": {"log_dir": "@method"}}),  # text of ours, but not there: method may be any text
        ("+train::handlers::2::mlflow", "@lpips_weights"),
        ("training", [{"_target_": "bundle.common.run_folder.log_to", "path": "@method"}]),
        ("run", "%imports"),
    ],
)
def test_code_of_a_record_is_not_run_and_its_paths_are_not_taken(record, tmp_path, key, value):
    content = json.loads(record.read_text())
    content["config"][key] = value
    with pytest.raises(InputError, match="runs, reads or writes what no config of this package has") as caught:
        repetition.write_config(content, tmp_path)
    assert "--trust true" in str(caught.value)
    assert not (tmp_path / "config.json").exists()
    assert repetition.write_config(content, tmp_path, trust=True).is_file()


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("resumed", 3),
        ("resumed", {"config": {}}),
        ("resumed", [3]),
        ("resumed", [{"config": [1]}]),
        ("arithmetic", None),
        ("processes", 10**6),
        ("processes", 0),
        ("threads", -5),
        ("threads", 10**9),
        ("config", {}),
        ("dataset_dir", "a\0b"),
        ("dataset_dir", "\ud800"),
    ],
)
def test_what_no_run_writes_is_refused_by_its_name(record, part, value):
    record.write_text(json.dumps(json.loads(record.read_text()) | {part: value}))
    with pytest.raises(InputError, match=rf"record\.json: (config|{part}) is .*; copy it from the run again"):
        repetition.read_record(record)


def test_a_record_nested_deeply_is_refused(record):
    record.write_text('{"config": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(InputError, match="cannot be read"):
        repetition.read_record(record)


def test_a_terminal_is_not_written_to_by_a_record(record, tmp_path, capsys, monkeypatch):
    content = json.loads(record.read_text())
    content["versions"]["a\x1b[2J"] = "\x1b]0;owned\x07"
    content["config"]["x\x1b[2J"] = "$1"
    record.write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        main(str(record), str(tmp_path / "new"), str(tmp_path / "moved"))
    assert "owned" in (said := capsys.readouterr().err)
    assert not {"\x1b", "\x07"} & set(said + str(caught.value))


def test_the_device_of_a_record_is_no_way_in(record, tmp_path):
    content = json.loads(record.read_text()) | {"device": "$open('owned', 'w')"}
    with pytest.raises(InputError, match="runs, reads or writes what no config of this package has"):
        repetition.write_config(content, tmp_path)


@pytest.mark.parametrize("method", sorted(path.stem for path in (ROOT / "configs" / "methods").glob("*.json")))
def test_all_that_the_methods_run_is_ours(method):
    parser = ConfigParser()
    files = ["train.json", "multi_gpu_train.json", f"methods/{method}.json", "profiles/demo.json"]
    parser.read_config([str(ROOT / "configs" / file) for file in files])
    assert repetition.foreign_text(dict(parser.get())) == []


def test_a_repetition_takes_the_values_of_a_run_and_tells_no_server(record, tmp_path):
    content = json.loads(record.read_text())
    content["config"] |= {"method": "my own", "lpips_weights": "/there/weights.pth", "mlflow": "https://elsewhere"}
    config = json.loads(repetition.write_config(content, tmp_path).read_text())
    assert (config["method"], config["lpips_weights"], config["mlflow"]) == ("my own", "/there/weights.pth", False)
