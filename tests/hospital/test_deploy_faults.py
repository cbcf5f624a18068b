"""What the Deploy application says of what it is given: one line, exit code 1, and nothing is left."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
import torch
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import HEVCMP51

from bundle.common.errors import InputError
from bundle.common.trained_bundle import LIKENESS
from scripts.deploy.package import package
from scripts.deploy.settings import read_rules, read_settings
from scripts.deploy.weights import check_weights
from tests.conftest import ROOT
from tests.helpers.firm import make_firm
from tests.hospital.conftest import environment_of, needs
from tests.hospital.deploy_parts import HOSTILE, LEVELS, level_words, make_bundle, run_app
from tests.hospital.series import at, ct_series, each_slice, save

Spoil = Callable[[list[Dataset]], object]


@pytest.fixture(scope="module")
def bundle(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose dataset declared reference intensities."""
    return make_bundle(trained, tmp_path_factory.mktemp("deploy") / "bundle")


def shift(numbers: tuple[int, ...], axis: int, mm: float) -> Spoil:
    """Move slices, each by its number times so much."""

    def spoil(slices: list[Dataset]) -> None:
        for number in numbers:
            place = at(number, slices).ImagePositionPatient
            place[axis] = float(place[axis]) + mm * number

    return spoil


def colour(dataset: Dataset) -> None:
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = bytes(dataset.Rows * dataset.Columns * 3)


def compress(dataset: Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = HEVCMP51
    dataset.PixelData = encapsulate([b"not a picture"])
    dataset["PixelData"].VR = "OB"


def describe(dataset: Dataset) -> None:
    with pydicom.config.disable_value_validation():
        dataset.SeriesDescription, dataset.Modality = HOSTILE, "../\x1b[2J"


def same_place(slices: list[Dataset]) -> None:
    at(3, slices).ImagePositionPatient = at(2, slices).ImagePositionPatient


SPOILT: dict[str, tuple[Spoil, str | None]] = {
    "as it should be": (lambda slices: None, None),
    "equal instance numbers": (each_slice(lambda each: setattr(each, "InstanceNumber", 1)), None),
    "a missing slice": (lambda slices: slices.remove(at(2, slices)), "lacks 1 slice"),
    "mixed spacing": (shift((3, 4, 5), 2, 0.4), "apart"),
    "gantry tilt": (shift((0, 1, 2, 3, 4, 5), 1, 0.2), "tilt"),
    "two series": (lambda slices: slices.extend(ct_series("2")), "2 series meet .*--series UID"),
    "colour": (each_slice(colour), "RGB"),
    "unknown compression": (each_slice(compress), "compressed"),
    "no rescale": (each_slice(lambda each: delattr(each, "RescaleSlope")), "RescaleSlope is missing"),
    "two slices in one place": (same_place, "place|position"),
    "another modality": (each_slice(lambda each: setattr(each, "Modality", "MR")), "no series meets .*MR"),
    "hostile tags": (each_slice(describe), r"no series meets .*\.\./\?\[2J"),
    "nothing": (lambda slices: slices.clear(), "holds no DICOM series"),
}


@pytest.mark.slow
def test_a_series_that_is_no_regular_grid_is_refused_before_anything_is_computed(bundle: Path, tmp_path: Path) -> None:
    needs("deploy")
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({**json.loads((ROOT / "scripts/deploy/rules.json").read_text()), **LEVELS}))
    folders = []
    for name, (spoil, _) in SPOILT.items():
        slices = ct_series()
        spoil(slices)
        folders.append(save(tmp_path / name, slices))
    cut = save(tmp_path / "a cut file", ct_series()) / "05_1.dcm"
    cut.write_bytes(cut.read_bytes()[:-50])
    command = [environment_of("deploy"), "-m", "tests.hospital.deploy_checks", bundle, rules, *folders, cut.parent]
    environment = {**os.environ, "HOLOSCAN_LOG_LEVEL": "OFF"}
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for name, pattern in [*((name, pattern) for name, (_, pattern) in SPOILT.items()), ("a cut file", "05_1.dcm")]:
        if pattern is None:
            assert found[name] == [6, 14, 10], name
        else:
            assert re.search(pattern, str(found[name])), f"{name}: {found[name]}"
            assert found[name].isprintable(), name


@pytest.mark.slow
def test_a_fault_within_the_application_is_one_line_and_leaves_nothing(bundle: Path, tmp_path: Path) -> None:
    needs("deploy")
    slices, out = ct_series(), tmp_path / "out"
    scan = save(tmp_path / "ct", [each for each in slices if each is not at(2, slices)])
    done = run_app("-i", scan, "-o", out, "-m", bundle, *level_words())
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(r"\nerror: [^\n]*lacks 1 slice[^\n]*\n", done.stderr), done.stderr
    assert not list(out.iterdir())
    save(scan, slices)
    assert run_app("-i", scan, "-o", out, "-m", bundle, *level_words()).returncode == 0
    assert len(list(out.iterdir())) == 1

    (limited := tmp_path / "limited").mkdir()
    words = f"ulimit -f 1; exec {environment_of('deploy')} -m scripts.deploy.app -i {scan} -o {limited} -m {bundle}"
    script = ["bash", "-c", f"trap '' XFSZ; {words} {' '.join(level_words())}"]
    full = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert full.returncode == 1
    assert len(full.stderr.strip().splitlines()) == 1, full.stderr
    assert not list(limited.iterdir())


def refusal(*words: object, **variables: str) -> str:
    """What is said of a command line."""
    with pytest.raises(InputError) as caught:
        read_settings(list(map(str, words)), variables)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_intensities_are_never_assumed_and_must_fit_the_model(bundle: Path, trained: Path, tmp_path: Path) -> None:
    words = ["-i", tmp_path, "-o", tmp_path.parent / "out", "-m", bundle]
    assert "nothing is assumed" in refusal(*words)
    assert "bone_intensity of the series" in refusal(*words, "--background_intensity", 9000)
    assert "must differ" in refusal(*words, "--bone_intensity", 9000, "--background_intensity", 9000)
    assert "nan" in refusal(*words, "--bone_intensity", "nan", "--background_intensity", 9000)
    settings = read_settings([*map(str, words), *level_words()])
    assert (settings.bone_intensity, settings.background_intensity) == (28000, 9000)
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"selections": [{"conditions": {"Modality": "CT"}}], **LEVELS}))
    settings = read_settings([*map(str, words), "--rules", str(rules), "--bone_intensity", "27000"])
    assert (settings.bone_intensity, settings.background_intensity) == (27000, 9000)

    undeclared = ["-i", tmp_path, "-o", tmp_path.parent / "out", "-m", trained / "bundle"]
    assert read_settings(list(map(str, undeclared))).bone_intensity is None
    assert "declared none" in refusal(*undeclared, *level_words())


def test_what_cannot_be_called_unlike_is_not_to_be_refused(bundle: Path, tmp_path: Path) -> None:
    words = ["-i", tmp_path, "-o", tmp_path.parent / "out", "-m", bundle, *level_words()]
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"selections": [{"conditions": {"Modality": "CT"}}], "refuse_unlike": True}))
    assert not read_settings([*map(str, words)]).refuse_unlike
    assert read_settings([*map(str, words), "--rules", str(rules)]).refuse_unlike
    assert not read_settings([*map(str, words), "--rules", str(rules), "--refuse_unlike", "false"]).refuse_unlike
    before = shutil.copytree(bundle, tmp_path / "before")
    (before / LIKENESS).unlink()
    words[5] = before
    assert "has no models/likeness.npz" in refusal(*words, "--refuse_unlike", "true")
    assert "invalid choice: 'perhaps'" in refusal(*words, "--refuse_unlike", "perhaps")
    with pytest.raises(InputError, match=r"has no models/likeness\.npz, so nothing can be called unlike"):
        package(str(before), str(tmp_path / "context"), str(rules))


def test_a_command_line_that_lacks_or_mistypes_something_is_refused(bundle: Path, tmp_path: Path) -> None:
    levels = level_words()
    assert "--input is missing" in refusal("-o", tmp_path.parent, "-m", bundle, *levels)
    assert "is no folder" in refusal("-i", tmp_path / "none", "-o", tmp_path.parent, "-m", bundle, *levels)
    assert "no trained bundle" in refusal("-i", tmp_path, "-o", tmp_path.parent, "-m", tmp_path, *levels)
    assert "--bone_intensty" in refusal("-i", tmp_path, "-o", tmp_path.parent, "-m", bundle, "--bone_intensty", 1)
    assert "taken for part of the scan" in refusal("-i", tmp_path, "-o", tmp_path / "out", "-m", bundle, *levels)
    assert "'many'" in refusal("-i", tmp_path, "-o", tmp_path.parent, "-m", bundle, "--bone_intensity", "many")
    slides = tmp_path / "slides"
    shutil.copytree(bundle, slides)
    (slides / "configs" / "series.json").unlink()
    assert "slides alone" in refusal("-i", tmp_path, "-o", tmp_path.parent, "-m", slides, *levels)
    shutil.copytree(bundle, tmp_path / "models" / "one")
    assert read_settings(["-i", str(tmp_path), "-o", str(tmp_path.parent), "-m", str(tmp_path / "models"), *levels])
    shutil.copytree(bundle, tmp_path / "models" / "two")
    assert "2 bundles" in refusal("-i", tmp_path, "-o", tmp_path.parent, "-m", tmp_path / "models", *levels)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no JSON"),
        ("[]", "list"),
        ('{"selections": []}', "no selections"),
        ('{"selections": [{"name": "CT"}]}', r"selections\[0\] needs"),
        ('{"selections": [{"conditions": {"Modality": "(CT"}}]}', "regular expression"),
        ('{"selections": [{"conditions": {"Modality": ""}}]}', "Modality is ''"),
        ('{"selections": [{"conditions": {"Modality": "CT"}}], "bone": 3}', "'bone'"),
        ('{"selections": [{"conditions": {"Modality": "CT"}}], "bone_intensity": "$1"}', "must be a number"),
        ('{"selections": [{"conditions": {"Modality": "CT"}}], "refuse_unlike": 1}', "refuse_unlike is 1; it must be"),
    ],
)
def test_rules_that_the_sdk_would_pass_over_are_refused(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    path.write_text(content)
    with pytest.raises(InputError, match=said):
        read_rules(path)


def test_weights_and_torchscript_must_be_there_and_the_same(bundle: Path, tmp_path: Path) -> None:
    check_weights(bundle)
    shutil.copytree(bundle, tmp_path / "bundle")
    path = tmp_path / "bundle" / "models" / "model.pt"
    weights = torch.load(path, weights_only=True)
    name = next(iter(weights))
    torch.save({**weights, name: weights[name] + 1}, path)
    with pytest.raises(InputError, match="other weights"):
        check_weights(tmp_path / "bundle")
    path.with_suffix(".ts").write_bytes(b"no archive")
    with pytest.raises(InputError, match="no TorchScript"):
        check_weights(tmp_path / "bundle")
    path.with_suffix(".ts").unlink()
    with pytest.raises(InputError, match="model.ts does not exist"):
        check_weights(tmp_path / "bundle")


def test_a_python_without_the_sdk_is_told_how_to_get_one(bundle: Path, tmp_path: Path) -> None:
    words = ["-i", tmp_path, "-o", tmp_path.parent / "out", "-m", bundle, *level_words()]
    done = run_app(*words, python=sys.executable)
    assert done.returncode == 1
    assert "make deploy" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path.parent / "out").exists()


@pytest.fixture(scope="module")
def firm(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, but one section decides."""
    return make_firm(bundle, tmp_path_factory.mktemp("firm") / "bundle")


def test_where_one_section_decides_the_torchscript_holds_weights_and_sections(
    bundle: Path, firm: Path, tmp_path: Path
) -> None:
    check_weights(firm)
    root = tmp_path / "bundle"
    shutil.copytree(firm, root)
    script, sections = root / "models" / "model.ts", root / "models" / "sections.npz"
    for name, said in (("network", "other weights than"), ("sections", "other sections than models/sections.npz")):
        loaded = torch.jit.load(str(firm / "models" / "model.ts"))
        next(value for key, value in loaded.state_dict().items() if key.startswith(name)).add_(1)
        loaded.save(str(script))
        with pytest.raises(InputError, match=said):
            check_weights(root)
    sections.unlink()
    check_weights(root)  # Deploy itself does not need it
    for emptied in (torch.zeros(0, 4), torch.full((2, 4), torch.nan)):
        loaded.sections = emptied
        loaded.save(str(script))
        with pytest.raises(InputError, match=r"model\.ts holds no statistics of the training's sections"):
            check_weights(root)
    shutil.copy(bundle / "models" / "model.ts", script)
    with pytest.raises(InputError, match=r"holds no statistics .* normalisation is 'specimen'; copy it from the run"):
        check_weights(root)


def test_configs_of_which_one_alone_is_for_one_section_are_refused(bundle: Path, firm: Path, tmp_path: Path) -> None:
    words = ["-i", tmp_path, "-o", tmp_path.parent / "out", *level_words()]
    for root, other, said in ((firm, bundle, "'specimen', but .* slice by"), (bundle, firm, "'window', but .* all sl")):
        mixed = tmp_path / root.parent.name
        shutil.copytree(root, mixed)
        shutil.copy(other / "configs" / "series.json", mixed / "configs")
        assert re.search(said, refusal(*words, "-m", mixed))
