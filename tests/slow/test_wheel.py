"""The package built, installed and used outside this repository, where none of its extras is installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from bundle.common.extras import OF_MODULE
from bundle.images.slides import read_slide
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def run(*words: str | Path, cwd: str | Path = "/", **options) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, **options
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built of a copy of what git knows: a build leaves folders behind."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).stdout.split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/images/")):
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    done = run(sys.executable, *build, folder / "source")
    assert not done.returncode, done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder of programs of an environment with the wheel, and with what is in this one except for the extras."""
    folder = tmp_path_factory.mktemp("clean")
    assert not run(sys.executable, "-m", "venv", "--without-pip", folder).returncode
    done = run(sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "--no-deps", wheel)
    assert not done.returncode, done.stderr
    packages = next(folder.glob("lib/python3*/site-packages"))
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        module = re.split(r"[.-]", path.name)[0]
        if module not in {*OF_MODULE, "bundle", "virtual_staining", "__editable__", "sitecustomize"}:
            with suppress(FileExistsError):
                (packages / path.name).symlink_to(path)
    return folder / "bin"


def test_the_wheel_has_what_it_needs_and_no_more(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"bundle"}
    for name in ("configs/train.json", "configs/methods/firm.json", "docs/configuration.md", "LICENSE"):
        assert f"bundle/shipped/{name}" in names
    assert "bundle/pretrained/phantom/models/model.pt" in names
    assert wheel.stat().st_size < 5e6


def options(values: dict[str, object]) -> list[object]:
    return [word for name, value in values.items() for word in (f"--{name}", value)]


def test_it_trains_stains_evaluates_and_reports_from_the_root(installed, tmp_path):
    command = installed / "virtual-staining"
    tiny = {"patch_size": 64, "epochs": 3, "patches_per_pair": 1, "batch_size": 3, "width": 8, "blocks": 2}
    few = {"pairs": 4, "size": 128, "screw_mm": 0.3, "volumes": "false"}
    for words in (
        ("phantom", "--output", tmp_path / "data", *options(few)),
        ("train", tmp_path / "data", tmp_path / "run", "--profile", "demo", *options(tiny)),
        ("stain", tmp_path / "data/ct/01.png", tmp_path / "stained", "--bundle", tmp_path / "run/bundle"),
        ("evaluate", tmp_path / "run", "--eval_patch", 64),
        ("report", "--output_dir", tmp_path / "run"),
    ):
        done = run(command, *words)
        assert not done.returncode, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    source, stain = (read_slide(tmp_path / name).pixels for name in ("data/ct/01.png", "stained/01_stained.png"))
    assert stain.shape == (3, *source.shape[1:])
    assert (tmp_path / "run/report.html").stat().st_size > 10_000
    record = json.loads((tmp_path / "run/provenance.json").read_text())
    assert record["dataset_dir"] == str(tmp_path / "data")


def test_the_packaged_model_stains(installed, tmp_path):
    done = run(installed / "vstain", "demo", tmp_path / "demo")
    assert not done.returncode, done.stdout[-2000:] + done.stderr[-2000:]
    assert "not for data" in done.stdout


def test_from_python(installed, tmp_path):
    code = "import numpy, bundle; from bundle.common.home import PRETRAINED, HOME; stain = bundle.load(PRETRAINED)\n"
    code += "rgb = stain(numpy.full((64, 64), 20000, numpy.uint16)); print(bundle.__file__, rgb.shape, rgb.dtype)"
    done = run(installed / "python", "-c", code)
    assert str(installed.parent) in done.stdout, done.stderr[-2000:]
    assert done.stdout.split()[1:] == ["(64,", "64,", "3)", np.dtype(np.uint8).name]


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("pacs", "stain", "--pacs", "dicom://A@127.0.0.1:1", "--series", "1.2", "--bundle", "B"), "hospital"),
        (("insilico", "--input", "I", "--labels", "L", "--output", "O", "--edits", "E"), "nuclei"),
    ],
)
def test_what_needs_an_extra_says_which(installed, tmp_path, words, extra):
    done = run(installed / "virtual-staining", *words)
    assert done.returncode == 1
    assert f"pip install 'virtual-staining[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
