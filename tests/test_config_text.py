"""Text of a dataset is never code: what MONAI would run, refer with or open does not reach a config."""

import json

import pytest
from conftest import make_dataset
from monai.bundle import ConfigParser

from bundle.config_text import as_text, config_fault
from bundle.data import load_datalist
from bundle.datalist import Modality
from bundle.deployment import described
from bundle.errors import InputError
from bundle.preparation.dataset import prepare
from bundle.tiling.command import tile

CODE = ["$open('owned', 'w')", "@source", "%other.json#key", "$", "@", "%"]
PLAIN = ["SR-µCT", "5 % formalin", "me@home", "costs $5", " $1", "H&E", "a::b", ""]


def read_by_monai(text):
    """What a config with this text gives, and None if it fails."""
    parser = ConfigParser({"source": 7, "text": {"name": text}})
    try:
        parser.parse()
        return parser.get_parsed_content("text")["name"]
    except Exception:  # noqa: BLE001 - whatever it is, it is not the text
        return None


@pytest.mark.parametrize("text", PLAIN)
def test_what_monai_leaves_alone_is_no_fault(text):
    assert read_by_monai(text) == text
    assert config_fault("name", text) is None


@pytest.mark.parametrize("text", CODE[:3])
def test_what_monai_takes_for_code_is_a_fault(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_by_monai(text) != text
    assert "begin it with" in config_fault("name", text)


@pytest.mark.parametrize("text", ["stain %#1", "stain @##x", "a %::b"])
def test_a_relative_id_within_text_is_a_fault_too(text):
    assert read_by_monai(text) != text
    assert "for relative ids" in config_fault("name", text)


@pytest.mark.parametrize("text", CODE)
@pytest.mark.parametrize("nest", [lambda text: text, lambda text: [1, text], lambda text: {"names": ("a", text)}])
def test_it_is_found_however_deep(text, nest):
    with pytest.raises(InputError, match="begin it with"):
        as_text(nest(text), "name")


@pytest.mark.parametrize("text", CODE)
@pytest.mark.parametrize("key", ["source", "target", "channel_names", "description"])
def test_a_datalist_with_code_is_refused_in_one_line(tmp_path, text, key):
    folder = make_dataset(tmp_path / "data")
    listed = json.loads((folder / "datalist.json").read_text())
    if key == "description":
        listed[key] = text
    elif key == "channel_names":
        listed["target"][key] = ["a", text, "c"]
    else:
        listed[key]["name"] = text
    (folder / "datalist.json").write_text(json.dumps(listed))
    with pytest.raises(InputError) as raised:
        load_datalist(str(folder))
    assert str(raised.value).count("\n") == 0
    assert repr(text) in str(raised.value)
    assert list(tmp_path.rglob("owned")) == []


@pytest.mark.parametrize("text", CODE)
def test_what_writes_a_trained_bundle_refuses_it_too(text):
    for modality in (Modality(text, 1, 0, 1), Modality("a", 2, 0, 1, None, None, ("b", text))):
        with pytest.raises(InputError, match="begin it with"):
            described(modality)


@pytest.mark.parametrize("name", ["source_name", "target_name"])
def test_commands_that_write_datalists_refuse_it_before_they_begin(tmp_path, name):
    names = {"source_name": "a", "target_name": "b", name: "$x"}
    for command in (
        lambda: tile(source=str(tmp_path), target=str(tmp_path), output=str(tmp_path / "made"), **names),
        lambda: prepare(str(tmp_path / "pairs"), str(tmp_path / "made"), **names),
    ):
        with pytest.raises(InputError, match=rf"{name} is '\$x'"):
            command()
    assert not (tmp_path / "made").exists()
