"""How ``python -m scripts.NAME`` reads its command line: by fire, and strictly."""

from __future__ import annotations

import difflib
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import fire

from bundle.common.errors import InputError, plain_errors
from bundle.common.values import is_number, shown


def command(function: Callable[..., Any]) -> None:
    """Run a function with the options of the command line, and print what it returns.

    fire alone would run the function first and find a mistyped option afterwards, and take the word ``false`` for a
    text, which is true.

    Args:
        function: its arguments are the options; see its ``Args`` for ``--help``.

    Raises:
        InputError: if an option is none of its arguments, or neither true nor false where its default is one.
    """
    plain_errors()
    known = list(inspect.signature(function).parameters)
    for word in sys.argv[1:]:
        if word == "--":
            break
        name = word[2:].split("=")[0].replace("-", "_")
        if not word.startswith("--") or name in known or name == "help":
            continue
        if name.startswith("no") and name[2:] in known:  # fire's way to say false
            continue
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean --{nearest[0]}?" if nearest else f"there are --{', --'.join(known)}."
        raise InputError(f"--{name} is not an option; {hint}")
    try:
        fire.Fire(with_words(function), serialize=lambda result: None if result is None else str(result))
    except KeyboardInterrupt:
        print("\nstopped; nothing half-written is left, so the same command starts again", file=sys.stderr)
        sys.exit(130)


def commands(functions: Mapping[str, Callable[..., Any]]) -> None:
    """The same for several functions: the first word of the command line says which.

    Args:
        functions: by that word.

    Raises:
        InputError: if the word is none of them, or as :func:`command` says.
    """
    plain_errors()
    word = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if word in ("--help", "-h"):
        width = max(map(len, functions))
        told = [f"  {name:{width}}  {(each.__doc__ or '').strip().splitlines()[0]}" for name, each in functions.items()]
        print("\n".join(["commands, each with its own --help:", *told]))
        return
    if word not in functions:
        nearest = difflib.get_close_matches(word, functions, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(functions)}."
        raise InputError(f"{word!r} is not a command; {hint}")
    sys.argv[:2] = [f"{sys.argv[0]} {word}"]
    command(functions[word])


def with_words(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, held to its signature.

    It takes ``true`` and ``false`` as words where an argument's default is one of them, and numbers alone where an
    argument is one: fire gives whatever it reads.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def strict(*given: Any, **named: Any) -> Any:
        bound = signature.bind(*given, **named)
        for name, value in bound.arguments.items():
            if isinstance(signature.parameters[name].default, bool):
                bound.arguments[name] = as_bool(name, value)
            elif fault := _fault(name, value, signature.parameters[name].annotation):
                raise InputError(fault)
        return function(*bound.args, **bound.kwargs)

    return strict


def _fault(name: str, value: Any, annotation: Any) -> str | None:
    """What is wrong with an option that is a number or text, by its annotation; None of any other."""
    kinds = {part.strip() for part in str(annotation).split("|")}
    if isinstance(value, bool) and "str" in kinds and kinds <= {"str", "None"}:  # fire's of an option without a value
        return f"{name} is {value}; give it a value."
    if not kinds & {"int", "float"} or kinds - {"int", "float", "None"} or (value is None and "None" in kinds):
        return None
    if is_number(value) and ("float" in kinds or type(value) is int):
        return None
    return f"{name} is {shown(value)}; it must be a {'' if 'float' in kinds else 'whole '}number."


def as_bool(name: str, value: Any) -> bool:
    """An option that is on or off, as fire reads it: ``true`` and ``false`` arrive as words.

    Raises:
        InputError: if it is neither.
    """
    words = {"true": True, "false": False}
    found = words.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise InputError(f"{name} is {value!r}; it must be true or false.")
    return found
