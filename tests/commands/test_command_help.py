"""Every command's help is whole: nothing cut, every option described, every example one that would run."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys

import pytest

from bundle.commands.ids import ids_in, names_of, options_of, parted, sections
from bundle.commands.main import form_of, help_for, imported, listed
from bundle.commands.table import BY_NAME, COMMANDS, GROUPS
from bundle.common.command_line import option_of
from bundle.common.described import NOTHING, described, in_words, plain, split_docstring
from bundle.common.help_text import command_lines, usage_of, wrapped
from bundle.common.ids import EVALUATE, EVALUATE_UNPAIRED, INFERENCE, METHODS, SLIDE, TRAIN, VOLUME
from tests.conftest import ROOT

FORMS = [(command, form) for command in COMMANDS for form in command.forms]
NAMES = [f"{command.name} {form.title}".strip() for command, form in FORMS]
EVERY_FORM = pytest.mark.parametrize(("command", "form"), FORMS, ids=NAMES)


def words_of(text: str) -> list[str]:
    return text.split()


def is_in(part: list[str], whole: list[str]) -> bool:
    """Whether words follow each other in a text."""
    return any(whole[start : start + len(part)] == part for start in range(len(whole) - len(part) + 1))


@EVERY_FORM
@pytest.mark.parametrize("width", [60, 100])
def test_a_help_has_every_text_whole(command, form, width):
    text = help_for(command, f"virtual-staining {command.name}", form, width)
    shown = words_of(text)
    function = inspect.unwrap(imported(form.target))
    summary, more, texts = split_docstring(inspect.getdoc(function))
    for each in (summary, *more.split("\n\n"), *(texts[name] for name in texts if name not in ("ids", "unexpected"))):
        assert is_in(words_of(each), shown), each
    for group in command.ids:
        for option in options_of(group.sections, group.left_out, group.only):
            assert is_in(words_of(option.text), shown), option.name
    for line in text.splitlines():
        assert len(line) <= width or len(line.split()) <= 2 or "virtual-staining" in line or line.startswith("      --")
    source = inspect.getdoc(function) + "".join(option.text for each in sections().values() for option in each.values())
    assert all(mark in source for mark in ("...", "…") if mark in text)
    assert "UNEXPECTED" not in text
    assert "``" not in text
    assert ":func:" not in text


@EVERY_FORM
def test_what_is_read_of_the_source_is_what_the_function_takes(command, form):
    function = inspect.unwrap(imported(form.target))
    parameters = inspect.signature(function).parameters
    options = {option.name: option for option in described(form.target, ("ids",)).options}
    assert set(options) == set(parameters) - {"ids", "unexpected"}
    for name, option in options.items():
        default = parameters[name].default
        assert option.several == (parameters[name].kind is inspect.Parameter.VAR_POSITIONAL)
        if not option.several:
            assert (option.default is NOTHING) == (default is inspect.Parameter.empty)
            assert option.default == default or option.required, name
        assert option.text
        assert option.kind == in_words(str(parameters[name].annotation))


@EVERY_FORM
def test_every_example_names_options_that_exist(command, form):
    assert form.examples
    own = {option.name for option in described(form.target, ("ids",)).options}
    for example in form.examples:
        words = shlex.split(example)
        mine, others = parted(words, own) if command.ids else (words, [])
        assert {option_of(word) for word in mine if word.startswith("--")} <= own
        files = {"train": ["train.json", "methods/firm.json"], "evaluate": ["train.json", "evaluate.json"]}
        files["stain"] = ["inference.json", "volume.json", "slide.json"]
        if others:
            assert set(names_of(others)) <= set(ids_in(ROOT / "configs" / file for file in files[command.name]))
        needed = {option.name for option in described(form.target, ("ids",)).options if option.required}
        bare = [word for word in mine if not word.startswith("--")]
        assert len(bare) >= len(needed), example  # each is given, by its name or by its place
        typed = [*([form.word] if form.word else []), *words]
        assert form_of(command, typed) is form


@pytest.mark.parametrize(
    ("name", "tables"),
    [
        ("train", (TRAIN, METHODS)),
        ("evaluate", (EVALUATE, EVALUATE_UNPAIRED)),
        ("stain", (INFERENCE, VOLUME, SLIDE)),
    ],
)
def test_every_id_of_the_configs_is_told(name, tables):
    text = help_for(BY_NAME[name], name, width=100)
    told = set(re.findall(r"^  --(\w+)", text, re.M)) | {
        word.lower() for word in re.findall(r"^  ([A-Z]+) ", text, re.M)
    }
    set_by_itself = {"bundle_root", "dataset_dir", "output_dir", "input"}
    assert set().union(*tables) - set_by_itself <= told


def test_the_list_names_every_command_and_script():
    text = listed()
    assert set(re.findall(r"^  ([\w-]+)  ", text, re.M)) == set(BY_NAME)
    assert {command.group for command in COMMANDS} <= set(GROUPS)
    scripts = {path.stem for path in (ROOT / "scripts").glob("*.py")} - {"__init__"}
    assert {command.script for command in COMMANDS if command.script} == scripts
    for command in COMMANDS:
        assert not command.summary.endswith(".")
        assert is_in(words_of(command.summary), words_of(text))


HEAVY = ("torch", "monai", "numpy", "scipy", "skimage", "matplotlib", "pydicom", "numba", "h5py")


@pytest.mark.parametrize("words", [[], ["--help"], ["train", "--help"], ["stain", "--help"], ["register", "--help"]])
def test_help_imports_nothing_that_takes_seconds(words):
    code = f"import sys; sys.argv[1:] = {words!r}\nfrom bundle.commands.main import main; main()\n"
    code += f"sys.exit(', '.join(name for name in {HEAVY} if name in sys.modules) or 0)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_a_usage_line_shows_what_must_be_given():
    assert usage_of(described("bundle.report.run:remake")) == "--output_dir OUTPUT_DIR"
    assert usage_of(described("bundle.evaluation.resolution_command:resolution")) == "IMAGES [MORE] [--OPTION VALUE]"


def test_marks_become_words():
    assert plain("``a`` as :func:`~bundle.b.c` and :data:`D` say, `e`") == "a as c and D say, e"
    assert split_docstring(
        "Sum.\n\nMore of\nit.\n\nArgs:\n    a: one\n        two.\n    b: x: y.\n\nRaises:\n    E: z."
    ) == (
        "Sum.",
        "More of it.",
        {"a": "one two.", "b": "x: y."},
    )


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ("str | None", "text"),
        ("float | tuple[float, float, float] | None", "number or list of 3 numbers"),
        ("list[int | None] | tuple[int | None, ...]", "list of whole numbers"),
        ("dict[str, Any] | None", "values by name"),
        ("Sequence[str] | None", "list of text"),
    ],
)
def test_types_are_words(annotation, words):
    assert in_words(annotation) == words


def test_a_long_line_goes_on_so_that_it_can_be_pasted():
    line = "program " + " ".join(f"--option_{number} value" for number in range(9))
    lines = command_lines(line, 60)
    assert len(lines) > 2
    assert all(len(each) <= 60 for each in lines)
    assert shlex.split("\n".join(lines).replace("\\\n", "")) == shlex.split(line)
    assert wrapped("a-b " * 30, 20)[0] == "a-b a-b a-b a-b a-b"
