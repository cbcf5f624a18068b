"""Going on with another config: what may change is said, what makes it another training is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from shutil import copytree

import pytest
from monai.bundle import ConfigParser

from bundle.common.errors import InputError
from bundle.common.run_folder import CONFIG, LATEST
from bundle.training.resumption import MAY_CHANGE, changes, differences
from tests.conftest import ROOT, TINY, run_bundle

INVERTED = "configs/methods/cyclegan_inverted.json"
NUCLEI = "configs/nuclei.json"
DEMO = "['configs/train.json','configs/profiles/demo.json']"


def composed(*files: str, **ids) -> ConfigParser:
    """A config as the command line composes it; tiny."""
    parser = ConfigParser()
    parser.read_config([str(ROOT / file) for file in files])
    parser.update({"device": "cpu", **ids})
    return parser


def begun(folder: Path, parser: ConfigParser) -> Path:
    """A folder where a run with this config has saved."""
    (folder / LATEST).parent.mkdir(parents=True)
    (folder / LATEST).touch()
    parser.parse()
    config = {key: value for key, value in parser.get().items() if key != "_meta_"}
    (folder / CONFIG).write_text(json.dumps(config, default=str))
    return folder


def check(parser: ConfigParser, folder: Path, resume: bool | str = True) -> None:
    """The step of a training that refuses."""
    parser.update({"output_dir": str(folder), "resume": resume})
    try:
        parser.get_parsed_content("training#1")
    except RuntimeError as error:  # MONAI's, around it
        raise error.__cause__ from None


def test_what_differs_is_found_by_id():
    before = {"a": 1, "b": {"c": [1, 2], "d": {"_target_": "X", "e": 1}}, "f": [1]}
    now = {"a": 1.5, "b": {"c": [1, 3], "d": {"_target_": "Y", "g": 1}}, "f": [1, 2], "h": "long " * 30}
    assert dict(differences(before, now)) == {
        "a": "a was 1, is now 1.5",
        "b#c#1": "b#c#1 was 2, is now 3",
        "b#d": 'b#d was "X", is now "Y"',
        "f": "f was [1], is now [1, 2]",
        "h": f'h was nothing, is now "{("long " * 30)[:59]}…',
    }
    assert not list(differences(before, json.loads(json.dumps(before))))


def test_only_what_the_table_names_may_change():
    before = {"epochs": 1, "train": {"sampler": {"seed": 1}, "dataset": {"seed": 1}}, "deploy": 1}
    now = {"epochs": 2, "train": {"sampler": {"seed": 2}, "dataset": {"seed": 2}}, "deploy": 2}
    free, others = changes(before, now)
    assert free == ["epochs was 1, is now 2", "train#sampler#seed was 1, is now 2"]
    assert others == ["train#dataset#seed was 1, is now 2", "deploy was 1, is now 2"]


@pytest.mark.parametrize(
    "ids",
    [
        {"learning_rate": 0.0001},
        {"lambda_pixel": 5},
        {"invert_source": True},
        {"patch_size": 128},
        {"seed": 1},
        {"mask_discriminator": True},
        {"zoom": [1.0, 1.0]},
        {"train#optimizers#g#betas": [0.9, 0.999]},
    ],
)
def test_another_training_is_refused_unless_one_insists(tmp_path, ids):
    run = begun(tmp_path / "run", composed("configs/train.json"))
    with pytest.raises(InputError, match=rf"(?s)^{next(iter(ids))}.* was .*, is now .*--resume changed\.$"):
        check(composed("configs/train.json", **ids), run)
    check(composed("configs/train.json", **ids), run, "changed")


def test_an_inverted_run_without_its_overlay_is_refused(tmp_path):
    run = begun(tmp_path / "run", composed("configs/train.json", INVERTED))
    check(composed("configs/train.json", INVERTED), run)
    with pytest.raises(InputError) as raised:
        check(composed("configs/train.json"), run)
    lines = str(raised.value).splitlines()
    assert "invert_source was true, is now false" in lines
    assert "lambda_pixel was 0, is now 6" in lines
    assert lines[-1].startswith(f"resume with what the run in {run} had, start another --output_dir, or insist: ")
    assert len(lines) == 5  # and lambda_grey, method


@pytest.mark.parametrize("method", ["pix2pix", "one_way", "cyclegan", "firm", "field"])
def test_another_method_is_refused(tmp_path, method):
    run = begun(tmp_path / "run", composed("configs/train.json"))
    with pytest.raises(InputError, match="method was "):
        check(composed("configs/train.json", f"configs/methods/{method}.json"), run)


def test_more_epochs_on_more_processes_of_another_machine_may_go_on(tmp_path):
    run = begun(tmp_path / "run", composed("configs/train.json"))
    ids = {
        "epochs": 600,
        "num_workers": 1,
        "dataset_dir": "elsewhere",
        "save_minutes": 1,
        "deploy_checkpoint": "latest",
    }
    parser = composed("configs/train.json", "configs/multi_gpu_train.json", **ids)
    parser.update({"device": "cpu"})
    check(parser, run)


def test_nuclei_too(tmp_path):
    run = begun(tmp_path / "run", composed(NUCLEI))
    check(composed(NUCLEI, epochs=500), run)
    with pytest.raises(InputError, match="lambda_distance was 0.2, is now 0.05"):
        check(composed(NUCLEI, lambda_distance=0.05), run)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is missing, so it cannot be told"), ("[]", "is not the record of a run"), ("{", "cannot be read")],
)
def test_a_run_without_its_record_is_refused(tmp_path, content, message):
    run = begun(tmp_path / "run", composed("configs/train.json"))
    (run / CONFIG).unlink()
    if content is not None:
        (run / CONFIG).write_text(content)
    with pytest.raises(InputError, match=message):
        check(composed("configs/train.json"), run)


def test_resume_is_true_false_or_changed(tmp_path):
    with pytest.raises(InputError, match="resume is 'maybe'; it must be true, false, or changed"):
        check(composed("configs/train.json"), tmp_path, "maybe")


def test_what_changed_is_said_and_recorded(trained, tmp_path):
    data, run = trained.parent / "data", copytree(trained, tmp_path / "run")
    ids = {**TINY, "dataset_dir": data, "output_dir": run, "epochs": 3, "jitter": 0.2}
    refused = run_bundle("training", DEMO, **ids, resume=True)
    assert refused.returncode == 1
    assert "jitter was 0.1, is now 0.2" in refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr
    done = run_bundle("training", DEMO, **ids, resume="changed")
    assert done.returncode == 0, done.stdout + done.stderr
    said = (run / "log.txt").read_text()
    for line in ("jitter was 0.1, is now 0.2", "epochs was 2, is now 3"):
        assert f"resumed with another config: {line}" in said
    provenance = json.loads((run / "provenance.json").read_text())
    assert provenance["config"]["jitter"] == 0.1
    assert provenance["resumed"][0]["config"]["jitter"] == 0.2
    assert json.loads((run / CONFIG).read_text())["jitter"] == 0.2, "what the next one is compared with"


def test_the_docs_have_the_same_table():
    text = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*`) \| .*\|$", text.partition("| may change |")[2].partition("\n\n")[0], re.MULTILINE)
    assert [name for row in rows for name in re.findall("`([^`]+)`", row)] == list(MAY_CHANGE)
