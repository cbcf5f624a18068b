"""The pages a newcomer reads: short, wrapped, linked, and with commands that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from scripts.website.pages import linked, origin
from tests.conftest import ROOT
from tests.test_docs import PAGES, options_of

DOORS = ("xray.md", "stains.md", "hospital.md")
COMMANDS = "demo phantom laboratory register prepare pairs tile intensities versions cells cell-slide series train"
COMMANDS += " evaluate study repeat report stain resolution volume-scores insilico pacs export"  # virtual-staining's


def ids_of(*configs: str) -> set[str]:
    return set().union(*(json.loads((ROOT / "configs" / name).read_text()) for name in configs))


OPTIONS = {
    "train": {*ids_of("train.json", *(f"methods/{path.name}" for path in (ROOT / "configs" / "methods").glob("*")))},
    "evaluate": ids_of("train.json", "evaluate.json", "evaluate_unpaired.json"),
    "stain": ids_of("inference.json", "volume.json", "slide.json") | {"bundle", "kind"},
    "export": {"bundle", "hub"},
    "demo": set(),
}
OPTIONS["train"] |= {"method", "profile"}


def prose(page: Path) -> list[str]:
    """The lines that are neither code nor a table, a picture or a link's whole line."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return [line for line in text.splitlines() if not re.match(r"\||!\[|    ", line)]


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as code hosts and the site make them."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    words = (re.sub(r"[^\w\- ]", "", line.lower()) for line in re.findall(r"^#+ (.+)$", text, flags=re.M))
    return {line.replace(" ", "-") for line in words}


def test_the_front_page_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1500


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "bad_inputs.md"], ids=lambda page: page.name)
def test_prose_has_120_columns(page):
    assert [line for line in prose(page) if len(line) > 120] == []


def test_links_lead_to_headings():
    checked = 0
    for page in PAGES:
        for path, place in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if not path.startswith("http"):
                assert place in anchors(page.parent / path if path else page), f"{page.name}: {path}#{place}"
                checked += 1
    assert checked > 100


def test_the_command_is_written_with_commands_and_options_that_exist():
    checked = 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^ *(virtual-staining [a-z].*)$|`(virtual-staining [a-z][^`]*)`", text, re.M):
            command, *words = " ".join("".join(line).split(" #")[0].split()[1:]).split()
            assert command in COMMANDS.split(), f"{page.name}: {line}"
            given = {word[2:].split("#")[0] for word in words if word.startswith("--")} - {"show", "help"}
            known = OPTIONS.get(command)
            if given and known is None:
                known = options_of(f"scripts.{command.replace('-', '_')}", words[0])
            assert given <= (known or set()), f"{page.name}: {line}"
            checked += len(given)
    assert checked > 40


@pytest.mark.parametrize("name", DOORS)
def test_a_door_begins_with_five_commands_and_what_makes_their_data(name):
    text = (ROOT / "docs" / name).read_text(encoding="utf-8").replace("\\\n", " ")
    block = re.search(r"^```\n(.*?)^```", text.split("## Five lines that work")[1], flags=re.M | re.S)
    before, _, five = block[1].strip().rpartition("\n\n")
    assert len(five.splitlines()) == 5
    assert len(before.splitlines()) <= 1
    assert len(text.split("## Five lines that work")[0].splitlines()) < 12


def test_every_page_is_in_the_site():
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:")[1]
    named = set(re.findall(r"^ +- (?:.*: )?(\S+\.md)$", nav, flags=re.M))
    assert {origin(name) for name in named} == {str(page.relative_to(ROOT)) for page in PAGES} | {"CHANGELOG.md"}


@pytest.mark.parametrize(
    ("source", "text", "site"),
    [
        ("README.md", "[a](docs/trust.md#it) ![p](docs/images/demo.png)", "[a](trust.md#it) ![p](images/demo.png)"),
        ("README.md", "[a `b`](docs/README.md), [c](CHANGELOG.md)", "[a `b`](model.md), [c](changes.md)"),
        ("README.md", "[docs/trust.md](docs/trust.md)", "[Where not to believe it](trust.md)"),
        ("docs/trust.md", "[x](../README.md#more), [y](#here), [z](https://a.b/c.md)", None),
        ("docs/README.md", "see [LICENSE](../LICENSE)", "see [LICENSE](LICENSE.txt)"),
        ("docs/trust.md", "in [the code](../bundle/__init__.py).", "in the code."),
        ("docs/trust.md", "[gone](nowhere.md)", "[gone](nowhere.md)"),
        ("README.md", "```\n[a](docs/trust.md)\n```\n", "```\n[a](docs/trust.md)\n```\n"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(source, text, site):
    there = {"trust.md", "model.md", "changes.md", "index.md", "LICENSE.txt", "images/demo.png"}
    site = site or "[x](index.md#more), [y](#here), [z](https://a.b/c.md)"
    assert linked(text, source, there) == site
