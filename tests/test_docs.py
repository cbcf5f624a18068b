"""The documents tell the truth about the configs."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import shlex
from pathlib import Path

import pytest

from bundle.commands.table import BY_SCRIPT
from bundle.common.described import described
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def section(config: str) -> str:
    return PAGE.split(f"## configs/{config}\n")[1].split("\n## ")[0]


def documented(text: str) -> dict[str, str]:
    """Ids in the first column of a section's tables, with their second column."""
    rows = re.findall(r"^\| (`[^|]+`) \| ([^|]*) \|", text, flags=re.MULTILINE)
    return {name: value.strip() for cell, value in rows for name in re.findall(r"`([^`]+)`", cell)}


CONFIGS = ("train.json", "evaluate.json", "evaluate_unpaired.json", "inference.json", "volume.json", "series.json")
CONFIGS += ("nuclei.json",)


@pytest.mark.parametrize("config", [*CONFIGS, "profiles/demo.json"])
def test_every_top_level_id_is_documented(config):
    ids = set(json.loads((ROOT / "configs" / config).read_text()))
    text = section(config)
    missing = {name for name in ids if f"`{name}`" not in text}
    assert not missing
    assert set(documented(text)) <= ids


@pytest.mark.parametrize("config", CONFIGS)
def test_documented_defaults_are_the_configs(config):
    content = json.loads((ROOT / "configs" / config).read_text())
    checked = 0
    for name, cell in documented(section(config)).items():
        value = content[name]
        if isinstance(value, (dict, str)) or not re.fullmatch(r"`?(null|true|false|\[.*\]|[\d.]+)`?", cell):
            continue
        assert json.loads(cell.strip("`")) == value, name
        checked += 1
    least = {"train.json": 25, "evaluate.json": 3, "inference.json": 5, "volume.json": 4, "series.json": 1}
    least |= {"evaluate_unpaired.json": 8, "nuclei.json": 15}
    assert checked >= least[config]


@pytest.mark.parametrize("page", ["README.md", "docs/README.md", "docs/your-data.md"])
def test_commands_name_files_and_ids_that_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    commands = [line for line in text.splitlines() if line.startswith("python -m monai.bundle run")]
    assert commands
    for command in commands:
        words = shlex.split(command)
        ids = [word[2:] for word in words if word.startswith("--") and word != "--config_file"]
        files = re.findall(r"configs/[\w/]+\.json", command)
        known = set().union(*(json.loads((ROOT / file).read_text()) for file in files))
        assert set(ids) <= known, command


def options_of(script: str, word: str = "") -> set[str]:
    """What the function accepts that a script gives to ``command``, or to ``commands`` under its first word."""
    module = importlib.import_module(script)
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{script}.__main__")
    text = Path(module.__file__).read_text(encoding="utf-8")
    if found := re.search(r'^    script\("(\w+)"\)$', text, re.M):
        forms = [form for form in BY_SCRIPT[found[1]].forms if form.word in (None, word)]
        return {option.name for form in forms for option in described(form.target).options}
    name = (re.search(rf'commands\(.*"{word}": (\w+)', text) or re.search(r"command\((\w+)\)", text))[1]
    return set(inspect.signature(getattr(module, name)).parameters)


def test_commands_of_scripts_name_options_that_exist():
    checked = 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for script, rest in re.findall(r"python -m (scripts\.(?!bench|deploy)\w+)([^\n`]*)", text):
            given = set(re.findall(r" --(\w+)", rest.split(" #")[0]))
            if given:
                assert given <= options_of(script, rest.split()[0]), f"{page.name}: {script} {rest}"
            checked += len(given)
    assert checked > 40


def test_options_in_your_data_exist():
    text = (ROOT / "docs" / "your-data.md").read_text(encoding="utf-8")
    known = set().union(
        *(options_of(f"scripts.{name}") for name in ("pairs", "register", "prepare", "intensities", "laboratory"))
    )
    known |= {"config_file", "dataset_dir", "output_dir", "bundle_root", "eval_patch", "table", "logdir"}
    known |= {"method", "profile", "epochs", "fold", "precision", "resume", "source", "target", "workers", "cluster"}
    known |= {"bone_intensity", "background_intensity", "lambda_identity", "lambda_grey"}
    assert set(re.findall(r"--(\w+)", text)) <= known


def test_links_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"


def test_metadata_and_changelog_agree_on_the_version():
    metadata = json.loads((ROOT / "configs" / "metadata.json").read_text())
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{metadata["version"]}"' in pyproject
    assert metadata["version"] in metadata["changelog"]
