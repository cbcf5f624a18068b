"""``virtual-staining``: the first word says what to do; what that needs is imported only then."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from bundle.commands.table import BY_NAME, BY_SCRIPT, COMMANDS, GROUPS, PROGRAM, Command, Form
from bundle.common.command_line import HELP, check_known, chosen, command, wants_help
from bundle.common.errors import plain_errors
from bundle.common.light_monai import load_lightly


def main() -> None:
    """Run what the command line says.

    Raises:
        InputError: if its first word is no command, or as the command says.
    """
    plain_errors()
    try:
        _main()
    except KeyboardInterrupt:  # while modules are loaded; what runs then tells more
        print("\nstopped", file=sys.stderr)
        sys.exit(130)


def _main() -> None:
    # OpenMP reads it when PyTorch loads, see scripts/__init__.py
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    word = sys.argv[1] if len(sys.argv) > 1 else HELP[0]
    if word in (*HELP, "help") and len(sys.argv) <= 2:
        _show(listed())
        return
    if word == "help":
        sys.argv[1:] = [sys.argv[2], HELP[0]]
        word = sys.argv[1]
    if word == "--version":
        from importlib.metadata import version

        print(f"{PROGRAM} {version('virtual-staining')}")
        return
    run(BY_NAME[chosen(word.replace("_", "-"), BY_NAME)], sys.argv[2:], f"{PROGRAM} {word}")


def _show(text: str) -> None:
    """Print a text, of which a pager may take the beginning alone."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end


def script(name: str) -> None:
    """The same as ``python -m scripts.NAME``.

    Args:
        name: of the script.
    """
    plain_errors()
    run(BY_SCRIPT[name], sys.argv[1:], f"python -m scripts.{name}")


def listed() -> str:
    """All commands, in groups."""
    from bundle.common.help_text import columns, width_of_terminal

    width, least = width_of_terminal(), max(len(each.name) for each in COMMANDS)
    lines = ["Virtual staining: from µCT, or from one stain, to another stain.", ""]
    lines += [f"Usage: {PROGRAM} COMMAND, and {PROGRAM} COMMAND --help for what it takes."]
    for group, heading in GROUPS.items():
        rows = {each.name: each.summary for each in COMMANDS if each.group == group}
        lines += ["", f"{heading}:", *columns(rows, width, least)] if rows else []
    return "\n".join([*lines, "", f"First steps: {PROGRAM} demo demo_out"])


def run(entry: Command, words: Sequence[str], program: str) -> None:
    """Run a command, or print its help.

    Args:
        entry: of the table.
        words: after the command's name.
        program: the words before them.

    Raises:
        InputError: as the command says.
    """
    load_lightly()
    form = form_of(entry, words)
    if wants_help(words) or (form is None and not words):
        _show(help_for(entry, program, form))
        return
    if form is None:  # a word chooses, and it is none of them
        chosen(words[0], [each.word for each in entry.forms if each.word])
        raise AssertionError(entry.name)
    rest = list(words[1:] if form.word else words)
    program = f"{program} {form.word}" if form.word else program
    given: dict[str, Any] = {}
    if entry.ids:
        from bundle.commands.ids import parted
        from bundle.common.described import described

        own = [option.name for option in described(form.target, ("ids",)).options]
        rest, given["ids"] = parted(rest, own)
        check_known(rest, own)
    else:
        from bundle.common.described import described

        check_known(rest, [option.name for option in described(form.target).options])
    sys.argv = [sys.argv[0], *rest]
    command(imported(form.target), program=program, given=given)


def imported(target: str) -> Callable[..., Any]:
    """A function by ``module:function``."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def form_of(entry: Command, words: Sequence[str]) -> Form | None:
    """Which form of a command words mean; None if that is open: no word, or a wrong one."""
    if len(entry.forms) == 1:
        return entry.forms[0]
    if entry.chooser:
        if wants_help(words):
            return None
        return entry.forms[imported(entry.chooser)(words)]
    return next((form for form in entry.forms if words and words[0] == form.word), None)


def help_for(entry: Command, program: str, form: Form | None = None, width: int | None = None) -> str:
    """A command's help, of one of its forms or of all.

    Args:
        entry: of the table.
        program: the words that start it.
        form: None for all.
        width: columns; None for the terminal's.
    """
    from bundle.common.described import described
    from bundle.common.help_text import help_of

    more = []
    if entry.ids:
        from bundle.commands.ids import options_of

        more = [(each.heading, options_of(each.sections, each.left_out, each.only)) for each in entry.ids]
    texts = []
    for each in entry.forms if form is None else [form]:
        start = f"{program} {each.word}" if each.word else program
        text = help_of(
            described(each.target, ("ids",)),
            start,
            each.usage,
            [f"{start} {one}" for one in each.examples],
            more,
            width,
        )
        title = f"{each.title}\n{'=' * len(each.title)}\n" if form is None and each.title else ""
        texts.append(title + text)
    return "\n\n\n".join(texts)
