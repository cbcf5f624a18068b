"""Text of a dataset is never code: what MONAI would run, refer with or open does not reach a config."""

import ast
import json
from dataclasses import replace

import pytest
from monai.bundle import ConfigParser

from bundle.common.config_text import as_text, config_fault, write_config
from bundle.common.errors import InputError
from bundle.data.datalist import Modality
from bundle.data.load import load_datalist
from bundle.nuclei.dataset import NucleiList
from bundle.nuclei.deployment import described_facts as described_nuclei
from bundle.nuclei.deployment import described_metadata, own_metadata
from bundle.preparation.pairs.dataset import prepare
from bundle.preparation.tiles.command import tile
from bundle.training.publish import described
from tests.conftest import ROOT, make_dataset

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


@pytest.mark.parametrize("text", ["stain %#1", "stain @##x", "a %::b", ":@:#"])
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


@pytest.mark.parametrize("text", [*CODE, "stain %#1"])
@pytest.mark.parametrize(
    "data",
    [
        lambda text: {"source": {"name": text}},
        lambda text: {"source": {"names": ["a", text]}},
        lambda text: {"source#name": text},
        lambda text: {"about": text},
        lambda text: {"about": {text: 1}},
    ],
)
def test_a_config_is_written_without_code_of_data_or_not_at_all(tmp_path, text, data):
    with pytest.raises(InputError, match="MONAI"):
        write_config(tmp_path / "config.json", {"source": {}, "code": "$1 + 1"}, data(text))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["_target_", "_disabled_", "+imports", "source#name", "a::b", "@x", "$x", "%x"])
def test_a_key_of_data_makes_no_component_and_sets_no_other_id(tmp_path, key):
    with pytest.raises(InputError, match="has the key"):
        write_config(tmp_path / "config.json", {}, {"facts": {key: "os.system"}})
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_read_back_by_monai_as_it_was(tmp_path):
    own = {"four": "$2 + 2", "part": {"_target_": "collections.OrderedDict", "names": []}}
    path = tmp_path / "config.json"
    write_config(path, own, {"part#names": PLAIN, "stain": {"name": "H&E, 5 %", "range": [0, 255]}})
    parser = ConfigParser()
    parser.read_config(str(path))
    assert parser.get_parsed_content("four") == 4
    assert parser.get_parsed_content("part")["names"] == PLAIN
    assert parser.get_parsed_content("stain") == {"name": "H&E, 5 %", "range": [0, 255]}
    assert own["part"]["names"] == []


def written_by(function):
    """Where calls within a function write to, as text in which names stand for what they were set to."""
    set_to = {
        target.id: ast.unparse(node.value)
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(function):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and called.attr in {"write_text", "write_bytes", "open"}:
            places = [called.value]
        elif getattr(called, "attr", getattr(called, "id", "")) in {"write_json", "dump", "open", "export_config_file"}:
            places = node.args
        else:
            continue
        names = [each.id for place in places for each in ast.walk(place) if isinstance(each, ast.Name)]
        yield " ".join([*map(ast.unparse, places), *(set_to.get(each, "") for each in names)])


def test_nothing_else_writes_configs():
    """Nor what MONAI reads beside them: every path with ``configs`` in it, and a run's ``config.json``."""
    writers = []
    for path in [*(ROOT / "bundle").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found = [text for text in written_by(node) if "config.json" in text or "'configs'" in text]
                writers += [f"{path.relative_to(ROOT)}: {node.name}: {text}" for text in found]
    assert writers == []


def test_the_check_above_sees_what_it_is_for():
    planted = "def f(folder):\n    path = folder / 'configs' / 'x.json'\n    write_json(path, {})\n"
    (text,) = written_by(ast.parse(planted).body[0])
    assert "'configs'" in text


@pytest.mark.parametrize("text", CODE)
def test_a_trained_bundle_takes_no_code_from_any_place_of_a_dataset(tmp_path, text):
    """Past the checks of the datalist: what writes the bundles refuses text wherever a dataset can put it."""
    sides = {"name": text}, {"channel_names": ("a", text, "c")}
    for change in sides:
        plain = Modality("IHC", 3, 0, 255)
        data = NucleiList(tmp_path, replace(plain, **change))
        with pytest.raises(InputError, match="segmenter#image"):
            write_config(tmp_path / "a.json", {"segmenter": {"image": {}}}, described_nuclei(data))
    data = NucleiList(tmp_path, Modality("IHC", 3, 0, 255), description=text)
    with pytest.raises(InputError, match="data_source"):
        write_config(tmp_path / "a.json", own_metadata(), described_metadata(data, "latest", "as set"))
    for place in ({"checkpoint": text}, {"thresholds": text}):
        told = {"data": NucleiList(tmp_path, Modality("IHC", 3, 0, 255)), "checkpoint": "latest", "thresholds": "set"}
        with pytest.raises(InputError, match="trained_on"):
            write_config(tmp_path / "a.json", own_metadata(), described_metadata(**{**told, **place}))
    assert list(tmp_path.iterdir()) == []
