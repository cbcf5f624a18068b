"""What a command's function says of itself, read from its source: nothing of it is imported, so ``--help`` is quick."""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.common.home import PACKAGE

SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Examples?|Attributes|Note):$")
ARGUMENT = re.compile(r"^ {4}\*{0,2}(\w+): ?(.*)$")
WORDS = {  # of an annotation's parts
    "str": "text",
    "Path": "path",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "Any": "value",
}
NOTHING: Any = object()  # the default of what must be given


@dataclass(frozen=True)
class Option:
    """An argument of a command.

    Attributes:
        name: as typed, without the dashes.
        kind: what its value is, in words.
        text: what the docstring says of it.
        default: :data:`NOTHING` if it must be given.
        several: takes all the words that are no option.
        switch: may stand without a value.
    """

    name: str
    kind: str
    text: str
    default: Any = NOTHING
    several: bool = False
    switch: bool = False

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is NOTHING


@dataclass(frozen=True)
class Described:
    """A command.

    Attributes:
        summary: its first sentence.
        more: what else the docstring says before the arguments.
        options: in order.
    """

    summary: str
    more: str
    options: tuple[Option, ...]


def described(target: str | Callable[..., Any], left_out: Iterable[str] = ()) -> Described:
    """What a function says of itself.

    Args:
        target: ``module:function``, or the function.
        left_out: arguments that are no options.

    Raises:
        LookupError: if there is no such function, or an argument of it is not described.
    """
    if isinstance(target, str):
        module, _, name = target.partition(":")
        path = _file_of(module)
    else:
        function = inspect.unwrap(target)
        path, name = Path(inspect.getsourcefile(function) or ""), function.__name__
    node = _function(path, name)
    summary, more, texts = split_docstring(ast.get_docstring(node) or "")
    arguments = node.args
    if arguments.kwarg is not None:
        raise LookupError(f"{path}: {name} takes **{arguments.kwarg.arg}, which nobody could describe")
    options = []
    places = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [*[None] * (len(places) - len(arguments.defaults)), *arguments.defaults]
    several = [arguments.vararg] if arguments.vararg else []
    # what several words are goes first, as it is typed first
    rows: list[tuple[ast.arg, ast.expr | None, bool]] = [(each, None, True) for each in several]
    rows += [(each, default, False) for each, default in zip(places, defaults, strict=True)]
    rows += [(each, default, False) for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    for each, default, is_several in rows:
        if each.arg in left_out or (is_several and each.arg == "unexpected"):
            continue
        if not texts.get(each.arg):
            raise LookupError(f"{path}: {name} does not say what {each.arg} is")
        annotation = ast.unparse(each.annotation) if each.annotation else "Any"
        value = NOTHING if default is None else _value(path, default)
        kind = in_words(annotation)
        options.append(Option(each.arg, kind, texts[each.arg], value, is_several, isinstance(value, bool)))
    return Described(summary, more, tuple(options))


def _file_of(module: str) -> Path:
    """The file of a module of ours, found without importing the packages that it is in."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _function(path: Path, name: str) -> ast.FunctionDef:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    raise LookupError(f"{path} has no function {name}")


def _value(path: Path, node: ast.expr) -> Any:
    """What an expression gives that is written out, or names what is written out here or in another module of ours."""
    if isinstance(node, ast.Name):
        return _named(path, node.id)
    if isinstance(node, (ast.Tuple, ast.List)):
        items = [_value(path, each) for each in node.elts]
        return tuple(items) if isinstance(node, ast.Tuple) else items
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return _value(path, node.left) / _value(path, node.right)
    return ast.literal_eval(node)


def _named(path: Path, name: str) -> Any:
    """What a module gives a name, without running it where that can be read."""
    for node in _tree(path).body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id == name:
                    return _value(path, node.value)
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    for each, value in zip(target.elts, node.value.elts, strict=True):
                        if isinstance(each, ast.Name) and each.id == name:
                            return _value(path, value)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
            assert node.value is not None
            return _value(path, node.value)
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and name in {each.asname or each.name for each in node.names}
        ):
            original = next(each.name for each in node.names if (each.asname or each.name) == name)
            return _named(_file_of(node.module), original)
    raise LookupError(f"{path} does not say what {name} is")


def split_docstring(text: str) -> tuple[str, str, Mapping[str, str]]:
    """A docstring's summary, what else it says, and what its ``Args`` say, all of it whole and in plain words."""
    before: list[str] = []
    arguments: dict[str, list[str]] = {}
    section, latest = "", ""
    for line in text.splitlines():
        if title := SECTION.match(line):
            section = title[1]
        elif not section:
            before.append(line)
        elif section == "Args" and (found := ARGUMENT.match(line)):
            latest = found[1]
            arguments[latest] = [found[2]]
        elif section == "Args" and latest:
            arguments[latest].append(line.strip())
    paragraphs = [plain(" ".join(each.split("\n"))) for each in "\n".join(before).strip().split("\n\n")]
    texts = {name: plain(" ".join(filter(None, lines))) for name, lines in arguments.items()}
    return paragraphs[0], "\n\n".join(paragraphs[1:]), texts


def plain(text: str) -> str:
    """Text without the marks of a docstring: ``x`` and :func:`a.b.c` as the words that they stand for."""
    text = re.sub(r":\w+:`~?\.?([\w.]+)`", lambda found: found[1].rpartition(".")[2], text)
    text = re.sub(r"``([^`]*)``", r"\1", text)
    return re.sub(r"`([^`]*)`", r"\1", text).strip()


def in_words(annotation: str) -> str:
    """What an annotation means to whoever types a value.

    Raises:
        LookupError: if that is not known.
    """
    node = ast.parse(annotation, mode="eval").body
    return " or ".join(word for word in dict.fromkeys(_kinds(node)) if word)


def _kinds(node: ast.expr) -> list[str]:
    if isinstance(node, ast.BinOp):
        return [*_kinds(node.left), *_kinds(node.right)]
    if isinstance(node, ast.Constant) and node.value is None:
        return [""]
    if isinstance(node, (ast.Name, ast.Attribute)):
        name = node.id if isinstance(node, ast.Name) else node.attr
        if name in WORDS:
            return [WORDS[name]]
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if node.value.id in ("dict", "Mapping"):
            return ["values by name"]
        if node.value.id in ("list", "tuple", "Sequence"):
            one = next(word for word in _kinds(items[0]) if word)
            listed = one if one in ("text", "true or false") else f"{one}s"
            fixed = node.value.id == "tuple" and not any(isinstance(each, ast.Constant) for each in items)
            return [f"list of {len(items)} {listed}" if fixed else f"list of {listed}"]
    raise LookupError(f"no words for the annotation {ast.unparse(node)}")
