"""Names in the folder of a run, its log, and facts added to its record."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

from bundle.common.atomic import write_json
from bundle.common.errors import FULL, InputError

LATEST = Path("checkpoints") / "latest.pt"

PREVIOUS = LATEST.with_name("previous.pt")

PROVENANCE, CONFIG = "provenance.json", "config.json"

MODEL = Path("bundle") / "models" / "model.pt"


logger = logging.getLogger("bundle")


def read_record(path: Path) -> dict[str, Any]:
    """What a command of ours wrote of itself.

    Raises:
        InputError: if it is no JSON object.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); restore it, or start another --output_dir.") from error
    if not isinstance(record, dict):
        raise InputError(f"{path} is not the record of a run; restore it, or start another --output_dir.")
    return record


def amend(output_dir: str, **facts: Any) -> None:
    """Add facts to a run's ``provenance.json``, whole or not at all; one of the same name is replaced.

    Args:
        output_dir: the run's folder.
        facts: plain JSON, by name.
    """
    path = Path(output_dir) / PROVENANCE
    write_json(path, {**read_record(path), **facts})


class LogFile(logging.FileHandler):
    """A log file that a full disk ends, as it ends whatever else a run writes."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Raise what the disk said; leave anything else to ``logging``."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError) and error.errno in FULL:
            raise error
        super().handleError(record)


def log_end(error: BaseException) -> None:
    """Write what ended a run into its log file alone; the command line prints it too, as its last line."""
    record = logger.makeRecord(logger.name, logging.ERROR, __file__, 0, str(error) or repr(error), (), None)
    with contextlib.suppress(OSError):
        for handler in logger.handlers:
            if isinstance(handler, LogFile):
                handler.handle(record)


def log_to(path: str | Path) -> None:
    """Add this package's messages to a log file, with the time."""
    handler = LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
