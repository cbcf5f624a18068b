"""A run of MONAI's bundle program from here: its line to be pasted, or the same in this process."""

from __future__ import annotations

import difflib
import json
import runpy
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundle.commands.ids import ids_in, names_of
from bundle.common.config_text import as_path, is_relative
from bundle.common.errors import InputError
from bundle.common.home import HOME
from bundle.common.light_monai import load_lightly
from bundle.common.notice import explain

MODULE = "monai.bundle"


@dataclass(frozen=True)
class Run:
    """What is to be run.

    Attributes:
        task: the id that is run.
        files: configs, in order.
        ids: set before what the user typed. Text among them is paths, and never code, however it begins.
        typed: words of the user, each id with its value.
        fixed: of the ids, those that have an argument of their own, so that they cannot be typed besides.
    """

    task: str
    files: Sequence[str]
    ids: Mapping[str, Any] = field(default_factory=dict)
    typed: Sequence[str] = ()
    fixed: Sequence[str] = ()

    @property
    def words(self) -> list[str]:
        """All that follows ``python -m monai.bundle``."""
        paths = [as_path(str(each)) for each in self.files]
        files = as_typed(paths[0]) if len(paths) == 1 else json.dumps(paths, ensure_ascii=False)
        words = ["run", self.task, "--config_file", files]
        given = names_of(self.typed)
        for name, value in self.ids.items():
            if name not in given:
                words += [f"--{name}", as_typed(as_path(value))]
        return [*words, *self.typed]

    @property
    def line(self) -> str:
        """The same as a line for a shell."""
        return shlex.join(["python", "-m", MODULE, *self.words])

    @property
    def of_ours(self) -> bool:
        """Whether all configs are ours or a trained bundle's, and not written by the user."""
        ours = [path.resolve() for path in (HOME / "configs").rglob("*.json")]
        names = {path.name for path in ours}
        return all(
            Path(file).resolve() in ours
            or (Path(file).name in names and Path(file).with_name("metadata.json").is_file())  # of a trained bundle
            for file in self.files
        )

    def check(self) -> None:
        """Refuse an id that the configs do not have, and a path that they cannot hold, before anything takes seconds.

        Raises:
            InputError: with a line for each.
        """
        known = ids_in(self.files)
        given = names_of(self.typed)
        faults = [path_fault(name, value) for name, value in self.ids.items() if name not in given]
        for name in given:
            if name in self.fixed:
                faults.append(f"--{name} is {as_typed(self.ids[name])} already, by another word; leave --{name} out.")
            elif name not in known:
                nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f"did you mean --{nearest[0]}?" if nearest else "--help lists them."
                faults.append(f"--{name} is no option and no id of {', '.join(map(str, self.files))}; {hint}")
        if any(faults):
            raise InputError("\n".join(filter(None, faults)))

    def start(self, show: bool) -> None:
        """Run it in this process as if it had been typed, or print its line.

        Args:
            show: print it and run nothing.
        """
        self.check()
        if show:
            print(self.line)
            return
        light = self.of_ours and not any(map(reads_by_itk, self.files))
        load_lightly(light)
        if light:
            sys.modules.setdefault("itk", None)  # type: ignore[arg-type]  # of a reader that our own door leaves out
        print(f"runs: {self.line}", file=sys.stderr)
        explain("below")
        sys.argv = [MODULE, *self.words]  # whose first word runpy makes the module's file, as python -m does
        runpy.run_module(MODULE, run_name="__main__", alter_sys=True)


def reads_by_itk(file: str | Path) -> bool:
    """Whether a config makes MONAI's reader of ITK, and not only where that is installed: bundles of before do."""
    text = Path(file).read_text(encoding="utf-8")
    return '"ITKReader"' in text and "optional_import('itk')" not in text


def as_typed(value: Any) -> str:
    """A value as a word that fire, which reads numbers and lists out of words, takes for the same."""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    from fire.parser import DefaultParseValue

    if DefaultParseValue(value) == value and isinstance(DefaultParseValue(value), str):
        return value
    return json.dumps(value, ensure_ascii=False)


def path_fault(name: str, value: Any) -> str | None:
    """Why a config cannot hold a path, or a list of them; None if it can, or if it is none."""
    if isinstance(value, (list, tuple)):
        return next(filter(None, (path_fault(name, each) for each in value)), None)
    if not isinstance(value, str):
        return None
    if not value.strip():
        return f"{name} is empty; name one (a shell leaves out a variable that is not set)."
    if "#" in value or is_relative(value):
        return f"{name} is {value}; MONAI takes # in a path, and @ or % before ::, for something else: rename it."
    return None


def own_config(name: str) -> str:
    """One of the configs that come with the program, as short as it can be named from here.

    Args:
        name: in its folder of configs: ``methods/firm.json``.
    """
    path = HOME / "configs" / name
    return f"configs/{name}" if Path.cwd() == HOME else str(path)


def overlay(given: str, folder: str, option: str) -> str:
    """A config over another: one of ours by its name, or the user's own file.

    Args:
        given: ``firm``, or the path of a JSON file.
        folder: of ours, ``methods`` or ``profiles``.
        option: as the user gave it, for messages.

    Raises:
        InputError: if there is neither.
    """
    ours = names_in(folder)
    if given in ours:
        return own_config(f"{folder}/{given}.json")
    if given.endswith(".json") and Path(given).is_file():
        return given
    nearest = difflib.get_close_matches(given, ours, n=1, cutoff=0.5)
    hint = (
        f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(ours)}, or name a JSON file of your own."
    )
    what = "does not exist" if given.endswith(".json") else "is none"
    raise InputError(f"{option} {given} {what}; {hint}")


def names_in(folder: str) -> list[str]:
    """The names of our configs in a folder of them."""
    return sorted(path.stem for path in (HOME / "configs" / folder).glob("*.json"))


def wanted_path(path: str, what: str) -> Path:
    """A path that is there.

    Raises:
        InputError: if it is not, with what is there that has a similar name.
    """
    if not path.strip():
        raise InputError(f"{what} is empty; name one (a shell leaves out a variable that is not set).")
    found = Path(path)
    if found.exists():
        return found
    beside = [each.name for each in found.parent.iterdir()] if found.parent.is_dir() else []
    nearest = difflib.get_close_matches(found.name, beside, n=1, cutoff=0.6)
    hint = f"; did you mean {found.parent / nearest[0]}?" if nearest else "."
    raise InputError(f"{what} {path} does not exist{hint}")
