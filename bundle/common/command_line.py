"""How a command reads its command line: by fire, and strictly."""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import io
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import fire
from fire.core import FireExit
from fire.decorators import GetParseFns, SetParseFns

from bundle.common.errors import InputError, plain_errors
from bundle.common.values import is_number, shown

HELP = ("--help", "-h")
FEW = 12  # names that an error lists
MISSING = re.compile(r"no value for the required argument: (\w+)|missing (?:parameter|argument)s?:? *(.+)", re.I)
AN_OPTION = re.compile(r"--|-[a-zA-Z]")  # to fire, which does not take it for a value
TOO_MANY = re.compile(r"Could not consume arg: (.+)")


def command(
    function: Callable[..., Any],
    examples: Sequence[str] = (),
    program: str | None = None,
    given: Mapping[str, Any] | None = None,
) -> None:
    """Run a function with the options of the command line, and print what it returns.

    fire alone would run the function first and find a mistyped option afterwards, and take the word ``false`` for a
    text, which is true.

    Args:
        function: its arguments are the options; see its ``Args`` for ``--help``.
        examples: whole lines, for ``--help``.
        program: the words that start it; by default what started this process.
        given: arguments that are no options, by name.

    Raises:
        InputError: if an option is none of its arguments, one is missing, or one is neither true nor false where its
            default is.
    """
    plain_errors()
    words = sys.argv[1:]
    program = program or program_name()
    if wants_help(words):
        from bundle.common.described import described
        from bundle.common.help_text import help_of

        print(help_of(described(function, given or ()), program, examples=examples))
        return
    function = functools.partial(function, **given) if given else function
    known = [name for name in inspect.signature(function).parameters if name not in (given or {})]
    check_known(words, known)
    _check_given(words, list(_texts(function)))
    try:
        bound = _as_typed(_without(function, given or {}), program)
        result = with_words(function)(*bound.args, **bound.kwargs)
        if result is not None:
            print(result)
    except KeyboardInterrupt:
        print("\nstopped; nothing half-written is left, so the same command starts again", file=sys.stderr)
        sys.exit(130)


def program_name() -> str:
    """The words that started this process."""
    path = sys.argv[0]
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and path.endswith(".py"):
        return f"python -m {spec.name.removesuffix('.__main__')}"
    return path


def wants_help(words: Iterable[str]) -> bool:
    """Whether a command line asks for help."""
    for word in words:
        if word == "--":
            return False
        if word in HELP:
            return True
    return False


def check_known(words: Iterable[str], known: Sequence[str]) -> None:
    """Refuse an option that is none.

    Args:
        words: of the command line, without the program's name.
        known: names of options.

    Raises:
        InputError: with the nearest one that there is.
    """
    for word in words:
        if word == "--":
            break
        name = option_of(word)
        if name is None or name in known:
            continue
        if name.startswith("no") and name[2:] in known:  # fire's way to say false
            continue
        raise InputError(f"--{name} is not an option; {nearest_of(name, known)}")


def option_of(word: str) -> str | None:
    """The name of the option that a word of a command line is; None if it is none."""
    return word[2:].split("=")[0].replace("-", "_") if word.startswith("--") and word != "--" else None


def nearest_of(name: str, known: Sequence[str]) -> str:
    """What to say of an option that is none of those known."""
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if nearest:
        return f"did you mean --{nearest[0]}?"
    return f"there are --{', --'.join(known)}." if len(known) <= FEW * 3 else "see --help."


def _without(function: Callable[..., Any], names: Iterable[str]) -> Callable[..., Any]:
    """The same to fire, which reads its signature, without arguments of these names; it gives what would be given."""
    signature = inspect.signature(function)
    kept = [each for each in signature.parameters.values() if each.name not in names]

    def bind(*args: Any, **kwargs: Any) -> inspect.BoundArguments:
        return inspect.Signature(kept).bind(*args, **kwargs)

    functools.update_wrapper(bind, inspect.unwrap(getattr(function, "func", function)))
    bind.__dict__.update(getattr(getattr(function, "func", function), "__dict__", {}))  # how fire is to read words
    bind.__dict__.pop("__wrapped__", None)
    bind.__signature__ = inspect.Signature(kept)  # type: ignore[attr-defined]
    return bind


def _as_typed(function: Callable[..., inspect.BoundArguments], program: str) -> inspect.BoundArguments:
    """What the command line gives a function, which is not run yet.

    Raises:
        InputError: if an argument is missing, or there are too many words.
    """
    caught: list[inspect.BoundArguments] = []

    def catch(*args: Any, **kwargs: Any) -> None:
        caught.append(function(*args, **kwargs))

    functools.update_wrapper(catch, function)
    catch.__dict__.pop("__wrapped__", None)
    catch.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    catch.__dict__.pop("FIRE_METADATA", None)  # which is the function's own, and stays as it is
    SetParseFns(**{**_texts(function), **GetParseFns(function)["named"]})(catch)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            fire.Fire(catch)
    except FireExit as error:
        text = said.getvalue()
        if too_many := TOO_MANY.search(text):
            raise InputError(f"{too_many[1].split()[0]!r} is a word too many; see {program} --help") from None
        if missing := MISSING.search(text):
            names = re.findall(r"\w+", missing[1] or missing[2])
            raise InputError(f"--{', --'.join(names)} is missing; see {program} --help") from None
        if not caught:
            raise InputError(f"{text.strip() or error}; see {program} --help") from None
    return caught[0]


def _texts(function: Callable[..., Any]) -> dict[str, Callable[[str], str | None]]:
    """How the options that are text alone are read: as typed, where fire would make 0.1 of 0.10, and 1000.0 of 1e3.

    The word None stays none where an option may be that.
    """
    kinds = {
        name: {part.strip() for part in inspect.formatannotation(each.annotation).strip("'").split("|")}
        for name, each in inspect.signature(function).parameters.items()
        if each.kind is not each.VAR_POSITIONAL
    }
    return {
        name: _text_or_none if "None" in found else str
        for name, found in kinds.items()
        if "str" in found and found <= {"str", "None"}
    }


def _text_or_none(word: str) -> str | None:
    return None if word == "None" else word


def _check_given(words: Sequence[str], texts: Sequence[str]) -> None:
    """Refuse an option of text without a value, which fire would take for the word True.

    Raises:
        InputError: naming it.
    """
    for word, after in itertools.zip_longest(words, words[1:]):
        name = option_of(word)
        if name is None or "=" in word:
            continue
        if name in texts and (after is None or AN_OPTION.match(after)):
            raise InputError(f"{name} is True; give it a value.")
        if name not in texts and name.startswith("no") and name[2:] in texts:
            raise InputError(f"--{name} is not an option; {nearest_of(name, texts)}")


def commands(functions: Mapping[str, Callable[..., Any]]) -> None:
    """The same for several functions: the first word of the command line says which.

    Args:
        functions: by that word.

    Raises:
        InputError: if the word is none of them, or as :func:`command` says.
    """
    plain_errors()
    word = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if word in HELP:
        width = max(map(len, functions))
        told = [f"  {name:{width}}  {(each.__doc__ or '').strip().splitlines()[0]}" for name, each in functions.items()]
        print("\n".join(["commands, each with its own --help:", *told]))
        return
    program = f"{program_name()} {chosen(word, functions)}"
    sys.argv[:2] = [f"{sys.argv[0]} {word}"]
    command(functions[word], program=program)


def chosen(word: str, names: Iterable[str]) -> str:
    """A word that is one of some names.

    Raises:
        InputError: if it is none, with the nearest one.
    """
    names = list(names)
    if word in names:
        return word
    nearest = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(names)}."
    raise InputError(f"{word!r} is not a command; {hint}")


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
    needed = "None" not in kinds  # what may be left out may be empty too: a patient's name
    if "str" in kinds and kinds <= {"str", "None"} and (isinstance(value, bool) or (needed and value == "")):
        return f"{name} is {value or 'empty'}; give it a value."
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
