"""Datalists and ids as nobody writes them: read, or refused in lines; never a traceback, and no file made."""

from __future__ import annotations

import contextlib
import json
import math
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser

from bundle.common.config_text import as_text, config_fault, is_relative, write_config
from bundle.common.errors import InputError
from bundle.common.ids import CODE, TABLES, kinds_of, settle
from bundle.data.datalist import read_json
from bundle.data.load import load_datalist
from bundle.nuclei.dataset import load_nuclei
from tests.conftest import ROOT, make_dataset
from tests.helpers.nuclei import make_nuclei

BOUNDED = settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
NASTY = [
    "",
    " ",
    "..",
    "/",
    "../../etc/passwd",
    "~",
    "a\0b",
    "a\nb",
    "\ud800",
    "é",
    "é",
    "$x",
    "@x",
    "%x",
    "a@#b",
    "nan",
]
NASTY += ["-1", "1e999", "true", "null", "C:\\a.tif", "x" * 5000, "source/00.png", "./source/00.png", "source", "*"]
TEXT = st.one_of(st.sampled_from(NASTY), st.text(max_size=12))
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, -1, 10**400, 2**63, math.nan, math.inf, -0.0]))
ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
LIST_KEYS = ["pixel_um", "source", "target", "image", "training", "testing", "validation", "tissues", "description"]
LIST_KEYS += ["allow_same_specimen"]
PLACES = [
    *([key] for key in LIST_KEYS),
    *(["training", 0, key] for key in ("source", "target", "mask", "labels", "image", "specimen", "group", "fold")),
    *(["testing", 0, key] for key in ("source", "specimen", "image")),
    *([side, key] for side in ("source", "target", "image") for key in ("name", "channels", "range", "channel_names")),
    *(["source", key] for key in ("bone_intensity", "background_intensity")),
    ["training", 0],
    ["testing", 0],
]


def told_in_lines(error: InputError, begins: str = "") -> None:
    """A message is short lines that name something."""
    assert str(error).startswith(begins)
    for line in str(error).splitlines():
        assert 10 < len(line) < 2000
    assert "Traceback" not in str(error)


def listing(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("fuzz")
    make_dataset(root / "pairs")
    make_nuclei(root / "nuclei")
    lists = {name: json.loads((root / name / "datalist.json").read_text()) for name in ("pairs", "nuclei")}
    return root, lists


def spoiled(listed: dict[str, Any], place: list[Any], value: Any) -> dict[str, Any]:
    made = json.loads(json.dumps(listed))
    inner = made
    for key in place[:-1]:
        inner = inner[key] if isinstance(inner, list) or key in inner else inner.setdefault(key, {})
    inner[place[-1]] = value
    return made


@BOUNDED
@given(place=st.sampled_from(PLACES), value=ANY, nuclei=st.booleans())
def test_a_list_with_anything_anywhere_is_read_or_refused_in_lines(folders, place, value, nuclei):
    root, lists = folders
    folder = root / ("nuclei" if nuclei else "pairs")
    path = folder / "datalist.json"
    path.write_text(json.dumps(spoiled(lists[folder.name], place, value)))
    before = listing(root)
    try:
        data = (load_nuclei if nuclei else load_datalist)(str(folder))
    except InputError as error:
        told_in_lines(error)
    else:
        assert data.pixel_um is None or 0 < data.pixel_um < 1e5
        as_text([data.description, *(each.specimen for each in data.training if not each.specimen.startswith(CODE))])
    assert listing(root) == before


@BOUNDED
@given(content=st.one_of(st.binary(max_size=60), st.text(alphabet='{}[]",:0123456789eE.-ntf ', max_size=40), ANY))
def test_a_file_of_anything_is_read_or_refused_in_lines(folders, content):
    path = folders[0] / "any.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        assert isinstance(read_json(path), dict)
    except InputError as error:
        told_in_lines(error)


def parser_of(files: list[str]) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(ROOT / "configs" / file) for file in files])
    parser.update({"device": "cpu"})
    return parser


PARSERS = {
    name: parser_of(files)
    for name, files in {
        "train.json": ["train.json", "evaluate.json", "methods/field.json"],
        "evaluate_unpaired.json": ["train.json", "evaluate_unpaired.json", "methods/restain.json"],
        "inference.json": ["inference.json"],
        "volume.json": ["inference.json", "volume.json"],
        "nuclei.json": ["nuclei.json"],
    }.items()
}


@BOUNDED
@given(config=st.sampled_from(sorted(PARSERS)), data=st.data())
def test_an_id_set_to_anything_is_settled_or_refused_in_lines(tmp_path, monkeypatch, config, data):
    monkeypatch.chdir(tmp_path)
    parser = ConfigParser({**PARSERS[config].get()})
    kinds = kinds_of(parser.get())
    name = data.draw(st.sampled_from(sorted(kinds)))
    value = data.draw(ANY)
    if isinstance(value, str) and value.startswith(CODE):  # code that the user typed is the user's
        return
    parser[name] = value
    try:
        settle(parser)
    except InputError as error:
        told_in_lines(error, f"{name} is ")
    else:
        assert kinds[name].fits(parser[name])
    assert list(tmp_path.iterdir()) == []


@BOUNDED
@given(data=st.data())
def test_numbers_that_are_settled_make_sense(data):
    """No NaN, nothing endless, nothing below zero but grey values, whatever way it is written."""
    table = TABLES[data.draw(st.sampled_from(sorted(TABLES)))]
    name = data.draw(st.sampled_from(sorted(table)))
    value = data.draw(NUMBERS)
    if table[name].fits(value) and not isinstance(value, bool):
        assert math.isfinite(value)
        assert value >= 0 or name in ("bone_intensity", "background_intensity", "fill_nan")


@BOUNDED
@given(value=ANY)
def test_what_a_config_is_given_comes_back_as_it_was_or_is_refused(tmp_path, value):
    path = tmp_path / "config.json"
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    try:
        write_config(path, {"one": 1}, {"facts": {"value": value}})
    except InputError as error:
        told_in_lines(error)
        assert not path.exists()
        return
    parser = ConfigParser()
    parser.read_config(str(path))
    back = parser.get_parsed_content("facts")["value"]
    assert json.dumps(back) == json.dumps(value).replace("#", "::")  # all that MONAI does to any text


@BOUNDED
@given(text=st.text(alphabet="$@%#:_+ab" + string.whitespace, max_size=6))
def test_text_is_a_fault_exactly_where_monai_would_change_it(text):
    if config_fault("name", text) is None:
        parser = ConfigParser({"text": {"name": text}})
        assert parser.get_parsed_content("text")["name"] == text.replace("#", "::")  # all that MONAI does to any text
    else:
        assert text[:1] in CODE or is_relative(text)
