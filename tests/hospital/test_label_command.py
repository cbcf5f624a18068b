"""``python -m scripts.label``: what it refuses before any server starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundle.common.errors import InputError
from scripts.label import __main__ as label
from tests.hospital.orthanc import free_ports
from tests.hospital.pacs_parts import make_bundle

LEVELS = {"bone_intensity": 30000, "background_intensity": 10000}
WEB = "http://127.0.0.1:1/dicom-web"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A bundle of a network that has learnt nothing."""
    return make_bundle(tmp_path / "bundle")


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What looks like MONAI Label's environment."""
    home = tmp_path / "venv"
    (home / "bin").mkdir(parents=True)
    for name in ("bin/python", "ready"):
        (home / name).touch()
    monkeypatch.setenv("VIRTUAL_STAINING_LABEL", str(home))
    return home


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bundle": "nowhere"}, "nowhere is no trained bundle"),
        ({"bone_intensity": 30000}, "background_intensity of the scan not given; give both"),
        ({"bone_intensity": 7, "background_intensity": 7}, "are both 7; they must differ"),
        ({"bone_intensity": "much", "background_intensity": 7}, "bone_intensity is 'much'; it must be a number"),
        ({"refuse_unlike": True}, "has no models/likeness.npz, so nothing can be called unlike; leave it out"),
        ({"refuse_unlike": "perhaps"}, "refuse_unlike is 'perhaps'; it must be true or false"),
        ({"stow": True}, "stow is true, but studies is"),
        ({"studies": "nowhere"}, "studies nowhere is no folder"),
        ({"studies": "https://jane:secret@pacs.org/dicom-web"}, "has a user or password in it"),
        ({"name": "../model"}, "name is '../model'; it must be letters"),
        ({"port": 99999}, "cannot listen on 127.0.0.1:99999"),
        ({"work_dir": "."}, "has a main.py of its own"),
    ],
)
def test_a_fault_is_one_line_and_nothing_starts(
    options: dict, words: str, model: Path, environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(label.os, "execve", lambda *words: pytest.fail("it starts"))
    (tmp_path / "main.py").touch()
    given = {"bundle": str(model), "studies": str(tmp_path), "port": free_ports(1)[0], "work_dir": "work", **options}
    with pytest.raises(InputError, match=words) as fault:
        label.main(**given)
    assert "\n" not in str(fault.value)


def test_without_the_environment_it_says_how_to_make_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTUAL_STAINING_LABEL", str(tmp_path / "none"))
    with pytest.raises(InputError, match="make it: make label"):
        label.main(str(model), str(tmp_path))


def test_the_application_is_links_and_a_second_start_takes_the_other_bundle(
    model: Path, environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    monkeypatch.setattr(label.os, "execve", lambda *words: started.append(words))
    for name in ("chdir", "umask"):
        monkeypatch.setattr(label.os, name, lambda given: None)
    other = make_bundle(tmp_path / "other")
    for bundle in (model, other):
        label.main(str(bundle), WEB, **LEVELS, stow=True, port=free_ports(1)[0], work_dir=str(tmp_path / "work"))
    work = tmp_path / "work"
    assert (work / "model" / "virtual_staining").resolve() == other
    assert (work / "main.py").resolve() == Path(label.__file__).with_name("main.py")
    python, words, variables = started[-1]
    assert python == environment / "bin" / "python"
    assert [words[at + 1] for at, word in enumerate(words) if word == "--studies"] == [WEB]
    assert variables["PATH"].startswith(f"{environment / 'bin'}:")
