"""Many registrations by a table, a line each, shared out among workers."""

from __future__ import annotations

import contextlib
import inspect
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue
from tqdm import tqdm

from bundle.common.atomic import check_writable
from bundle.common.checks import listed
from bundle.common.command_line import with_words
from bundle.common.errors import InputError
from bundle.common.folder_lock import empty, held
from bundle.common.work.engine import Engine
from bundle.common.work.tasks import Marks, Recipe, Task
from bundle.preparation.csv_tables import open_table
from bundle.preparation.registration.run import register
from bundle.preparation.registration.two_slides.run import register_slides

PAIR = "pair"  # column of the name
NAME = re.compile(r"\w[\w .-]*")
FILES = re.compile(r"volume|section|source|target|\w+_(landmarks|mask)")  # columns that name files
WORK = ".work"  # in the folder of the pairs, while they are made
MODULES = (__name__,)  # what a worker imports first


def register_many(table: str, output: str, workers: int | None = None, cluster: str | None = None) -> str:
    """Register every line of a table; those that are done are not done again.

    Args:
        table: CSV with the column pair, a name, and a column for each option of a registration that is needed: volume
            and section, or source and target, and what else. An empty cell leaves an option out. A file is looked for
            from the current folder, and then from the table's own.
        output: the folder of the pairs, one folder each.
        workers: how many registrations at a time on this machine, which share its cores; none for one.
        cluster: of Dask, that does them instead: tcp://HOST:8786, or slurm with --workers.

    Returns:
        Where to look.

    Raises:
        InputError: with one line for each fault of the table, before anything starts; or naming pairs that failed.
    """
    engine = Engine(cluster, workers if cluster else workers or 1)  # of cores: no GPU is used
    root = Path(str(output))
    pairs = Pairs(root, read_options(Path(str(table))))
    check_writable(root)
    failed: dict[str, str] = {}
    busy = f"output {root} is in the hands of a registration by table that is at work"

    def note(name: str, why: str) -> None:
        failed[name] = why
        print("\n".join(f"{name}: {line}" for line in why.splitlines()))

    with held(root / WORK, busy, "wait for its end, stop it, or choose another --output."):
        shutil.rmtree(pairs.marks.folder, ignore_errors=True)  # each pair itself says whether it is done
        # alone, each registration shows its own
        with (
            engine.started(MODULES),
            tqdm(
                desc="pairs",
                total=len(pairs.lines),
                unit="pair",
                smoothing=0,  # pairs of several processes come in bursts
                dynamic_ncols=True,
                disable=engine.is_alone,
            ) as bar,
        ):
            engine.work_off(pairs, pairs.recipe(), partial(_look, bar, pairs), note)
        with contextlib.suppress(OSError):
            empty(root / WORK)
    if failed:
        raise InputError(f"failed: {listed(failed)}; why is said above. The others are in {root}.")
    return f"{len(pairs.lines)} pairs in {root}; look at the qc.html of each"


def _look(bar: tqdm, pairs: Pairs) -> int:
    """Show how many pairs are done, and how long it goes on."""
    bar.update(sum(map(pairs.marks.is_done, pairs.lines)) - bar.n)
    bar.refresh()
    return int(bar.n)


def read_options(table: Path) -> dict[str, dict[str, Any]]:
    """The options of each line of a table, by the name of its pair.

    Raises:
        InputError: with one line for each fault.
    """
    heads, lines = open_table(table)
    signature = inspect.signature(_function(heads)).parameters
    known = [PAIR, *(name for name in signature if name != "output")]
    wrong = [head for head in heads if head not in known]
    needed = [PAIR, *(name for name, each in signature.items() if each.default is each.empty and name != "output")]
    missing = [name for name in needed if name not in heads]
    if wrong or missing:
        told = [f"it lacks {listed(missing)}"] * bool(missing) + [f"{listed(wrong)} is no option"] * bool(wrong)
        raise InputError(f"table {table}: {'; '.join(told)}. There may be {', '.join(known)}.")
    faults, found = [], {}
    for number, line in enumerate(lines, start=2):
        where = f"table {table}, line {number}"
        if None in line or None in line.values():
            faults.append(f"{where}: has not as many cells as there are columns; quote what holds a comma.")
            continue
        cells = {head.strip(): cell.strip() for head, cell in line.items() if cell.strip()}
        name = cells.pop(PAIR, "")
        lacking = [head for head in needed[1:] if head not in cells]
        if not NAME.fullmatch(name):
            faults.append(f"{where}: pair is {name!r}; it becomes a folder, so give letters and digits.")
        elif name in found:
            faults.append(f"{where}: pair {name} stands there twice.")
        elif lacking:
            faults.append(f"{where}: {lacking[0]} is empty.")
        else:
            cells = {head: _beside(table, cell) if FILES.fullmatch(head) else cell for head, cell in cells.items()}
            found[name] = {head: cell if head in needed else DefaultParseValue(cell) for head, cell in cells.items()}
    if not found and not faults:
        faults.append(f"table {table} has no lines; give one for each pair.")
    if faults:
        raise InputError("\n".join(faults))
    return found


def _beside(table: Path, cell: str) -> str:
    """A file of the table's folder if there is none of that name from the current one, else the cell as it is."""
    with contextlib.suppress(OSError):  # a name too long to be one
        if not Path(cell).exists() and (table.parent / cell).exists():
            return str(table.parent / cell)
    return cell


def _function(heads: Any) -> Callable[..., str]:
    """What registers, by the columns of a table or the options of a line."""
    return register_slides if "source" in heads or "target" in heads else register


@dataclass(frozen=True)
class Pairs:
    """The registrations of a table.

    Attributes:
        root: the folder of the pairs.
        lines: the options of each, by its name.
    """

    root: Path
    lines: Mapping[str, Mapping[str, Any]]

    @property
    def marks(self) -> Marks:
        """Which lines this command has done."""
        return Marks(self.root / WORK / "steps")

    def tasks(self) -> list[Task]:
        """One a line."""
        return [Task(name, partial(self._register, name), say=lambda told: str(told["said"])) for name in self.lines]

    def recipe(self) -> Recipe:
        """By which a worker makes the same."""
        return Recipe(f"{__name__}:made_again", {"root": str(self.root.absolute()), "lines": self.lines})

    def _register(self, name: str) -> dict[str, Any]:
        options = self.lines[name]
        said = with_words(_function(options))(output=str(self.root / name), **options)
        return {"said": f"{name}: {said}"}


def made_again(root: str, lines: Mapping[str, Mapping[str, Any]]) -> Pairs:
    """What :meth:`Pairs.recipe` describes."""
    return Pairs(Path(root), lines)
