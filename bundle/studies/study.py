"""A study's folder: its plan, and every cell worked off once."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bundle.common.atomic import write_json
from bundle.common.errors import InputError
from bundle.common.folder_lock import freed, held
from bundle.common.places import see_local
from bundle.common.run_folder import read_record
from bundle.common.work.engine import Engine
from bundle.data.datalist import DATALIST
from bundle.studies.cells import SAVING_SECONDS, Cells
from bundle.studies.plan import EVALUATION, Cell
from bundle.studies.progress import Progress

MODULES = ("bundle.studies.cells",)  # what a worker imports first
logger = logging.getLogger("bundle")


class Study:
    """A folder of cells, each a run's ``output_dir`` with ``done.json`` once it is trained and measured.

    Args:
        folder: the study; made, or joined if it has the same plan.
        dataset_dir: the dataset of every cell.
        cells: the plan.
        evaluation_ids: set in every evaluation.
        variants: what the report needs to know of each; see :func:`plan_cells`.

    Raises:
        InputError: if the folder holds another plan.
    """

    def __init__(
        self,
        folder: str | Path,
        dataset_dir: str,
        cells: Sequence[Cell],
        evaluation_ids: Mapping[str, Any],
        variants: Mapping[str, Mapping[str, Any]],
    ) -> None:
        see_local(folder)
        self.folder = Path(folder)
        if (self.folder / DATALIST).exists():
            raise InputError(f"output_dir {folder} is a dataset; name a folder of its own for the study.")
        self.dataset_dir = dataset_dir
        self.cells = list(cells)
        self.evaluation_ids = dict(evaluation_ids)
        measured_by = [cell.evaluation for cell in self.cells]
        plan = {
            "dataset_dir": str(Path(dataset_dir).resolve()),
            "evaluation": self.evaluation_ids,
            **({} if set(measured_by) <= {EVALUATION} else {"evaluation_config": measured_by[0]}),
            "cells": {cell.name: {"overlays": list(cell.overlays), "ids": dict(cell.ids)} for cell in self.cells},
        }
        shown = {name: {key: parts.get(key, []) for key in ("tables", "curves")} for name, parts in variants.items()}
        path = self.folder / "study.json"
        if path.exists():
            there = read_record(path)
            keys = [*plan, *({"evaluation_config"} & set(there) - set(plan))]
            differing = [key for key in keys if json.loads(json.dumps(plan.get(key))) != there.get(key)]
            if differing:
                raise InputError(
                    f"{self.folder} holds a study with other {', '.join(differing)}; name another --output_dir, "
                    "or repeat its own arguments to go on."
                )
        write_json(path, {**plan, "variants": shown})

    def cell_folder(self, cell: Cell) -> Path:
        """Its run's folder."""
        return self.folder / "cells" / cell.name

    def undone(self) -> list[str]:
        """Names of the cells that are not done."""
        return [cell.name for cell in self.cells if not (self.cell_folder(cell) / "done.json").exists()]

    def work(self, engine: Engine) -> list[str]:
        """Run every cell that is not done.

        Ctrl-C lets the trainings in work save what they have, and ends.

        Args:
            engine: does it.

        Returns:
            The names of the cells that failed.

        Raises:
            InputError: if another process is at work on the study.
        """
        busy = f"output_dir {self.folder} is in the hands of a study that is at work; --workers N shares its cells out"
        progress = Progress(self.folder, self.cells)
        cells = Cells(self.folder, self.dataset_dir, self.cells, self.evaluation_ids, Path.cwd(), progress.look)
        with held(self.folder, busy), engine.started(MODULES, bool(self.undone())):
            try:
                engine.work_off(cells, cells.recipe(), progress.look, progress.failed)
            except KeyboardInterrupt:
                logger.info("the trainings in work save what they have; Ctrl-C again ends them at once")
                for name in progress.begun:
                    freed(self.folder / "cells" / name, SAVING_SECONDS)
                raise
            finally:
                progress.look()
                progress.close()
        return progress.out


@contextmanager
def full_disk_told(folder: str | Path) -> Iterator[None]:
    """Say in one line that the disk is full; what is done stays."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"{folder}: {error.strerror}; what is done stays, so make room and start the study again."
        ) from error
