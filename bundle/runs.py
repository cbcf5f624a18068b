"""The folder of a training run: what may start, and the record of what did."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import sys
import time
from pathlib import Path
from pydoc import locate
from typing import Any

import torch
from monai.bundle import ConfigParser

from bundle import distributed
from bundle.arithmetic import precision_fault
from bundle.atomic import write_json
from bundle.config_text import write_config
from bundle.datalist import Datalist, checksum
from bundle.errors import FULL, InputError
from bundle.folder_lock import hold
from bundle.machine import code_version, hardware, versions
from bundle.resumption import INSIST, changes
from bundle.workflow import current_parser, merged_config

LATEST = Path("checkpoints") / "latest.pt"
PREVIOUS = LATEST.with_name("previous.pt")
PROVENANCE, CONFIG = "provenance.json", "config.json"
MODEL = Path("bundle") / "models" / "model.pt"
logger = logging.getLogger("bundle")


def check(output_dir: str, resume: bool | str, precision: str) -> None:
    """Refuse ids that make no sense and a folder that holds another run; nothing is written.

    Args:
        output_dir: the run's folder.
        resume: go on from ``checkpoints/latest.pt`` if there is one; ``changed``: whatever else has changed.
        precision: ``fp32``, ``fast``, or one arithmetic.

    Raises:
        InputError: with one line for each fault.
    """
    faults = number_faults(current_parser())
    device = torch.device(current_parser().get_parsed_content("device"))
    faults += filter(None, [precision_fault(precision, device)])
    if distributed.apart():
        faults.append(
            f"torchrun started {os.environ['WORLD_SIZE']} processes, but this config does not share a training out; "
            "put 'configs/multi_gpu_train.json' right after 'configs/train.json'."
        )
    faults += folder_faults(Path(output_dir), resume)
    if faults:
        raise InputError("\n".join(faults))


def holds_run(folder: Path) -> bool:
    """Whether there is a checkpoint to go on from."""
    return any((folder / kept).exists() for kept in (LATEST, PREVIOUS))


def folder_faults(folder: Path, resume: bool | str) -> list[str]:
    """Why the current config cannot train in a folder, a line each.

    Args:
        folder: of the run, which may hold one.
        resume: the id.
    """
    if resume not in (True, False, INSIST):
        return [
            f"resume is {resume!r}; it must be true, false, or {INSIST} to go on with another config or other data."
        ]
    if not holds_run(folder) or resume == INSIST:
        return []
    if not resume:
        return [f"output_dir {folder} already holds a run; pass --resume true to go on, or another --output_dir."]
    path = folder / CONFIG
    if not path.exists():
        return [f"{path} is missing, so it cannot be told what the run there was; restore it, or --resume {INSIST}."]
    other = changes(read_record(path), merged_config())[1]
    way = f"resume with what the run in {folder} had, start another --output_dir, or insist: --resume {INSIST}."
    return [*other, way] if other else []


def begin(output_dir: str, resume: bool | str) -> None:
    """Keep other trainings out of the folder until this process ends, and see that none has been there meanwhile.

    Args:
        output_dir: the run's folder, which is there.
        resume: the id.

    Raises:
        InputError: if another training is at work in it, or was since :func:`check`.
    """
    hold(output_dir)
    faults = folder_faults(Path(output_dir), resume)
    if faults:
        raise InputError("\n".join(faults))


def read_record(path: Path) -> dict[str, Any]:
    """What a run wrote of itself.

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


def number_faults(parser: ConfigParser) -> list[str]:
    """What of the numbers of a training does not go together, a line each; each alone is checked when a run starts."""
    decay, epochs = (parser.get_parsed_content(name) for name in ("decay_epochs", "epochs"))
    faults = [f"decay_epochs is {decay}, but epochs is {epochs}; it cannot be more."] if decay > epochs else []
    return faults + validation_faults(parser)


def validation_faults(parser: ConfigParser) -> list[str]:
    """What is wrong with the ids that say when a run is validated and stopped, a line each."""
    names = ("fold", "validate_every", "validation_metric", "patience", "deploy_checkpoint")
    fold, every, metric, patience, deployed = (parser.get_parsed_content(name) for name in names)
    faults = []
    metrics = locate(parser["train#slides"]["_target_"]).metrics  # type: ignore[attr-defined]
    if metric not in metrics:
        faults.append(f"validation_metric is {metric!r}; it must be one of {', '.join(metrics)}.")
    weights = parser.get_parsed_content("objective#weights")
    checkpoints = (LATEST.stem, *(f"best_{name}" for name in (*filter(weights.get, weights), *metrics)))
    if deployed not in checkpoints:
        faults.append(f"deploy_checkpoint is {deployed!r}; it must be one of {', '.join(checkpoints)}.")
    asking = [f"patience is {patience!r}"] if patience is not None else []
    asking += [f"deploy_checkpoint is {deployed!r}"] if deployed in {f"best_{name}" for name in metrics} else []
    if fold is None or not every:
        why, way = ("fold is null", "fold") if fold is None else ("validate_every is 0", "validate_every")
        faults += [
            f"{text}, but {why}: no slide would be validated; pass --{way} N, or leave it out." for text in asking
        ]
    return faults


def record(data: Datalist, output_dir: str) -> None:
    """Write a run's config and provenance, once nothing can be refused any more.

    Args:
        data: the checked dataset.
        output_dir: the run's folder.
    """
    folder = Path(output_dir)
    config = merged_config()
    resumed = holds_run(folder)
    if resumed and (folder / CONFIG).exists():
        for line in sum(changes(read_record(folder / CONFIG), config), []):
            logger.warning("resumed with another config: %s", line)
    write_config(folder / CONFIG, config)
    device = str(current_parser().get_parsed_content("device"))
    now, path = {**provenance(data, config), "device": device, "config": config}, folder / PROVENANCE
    if resumed and path.exists():  # what the run began with stays on record
        began = read_record(path)
        if {**config, "resume": None} == {**began.get("config", {}), "resume": None}:
            del now["config"]
        now = {**began, "resumed": [*began.get("resumed", []), now]}
    write_json(path, now)
    logger.info("training on %s of %s, results in %s", data.counted("training"), data.folder, folder)
    if data.caveat:
        logger.warning(data.caveat)


def amend(output_dir: str, **facts: Any) -> None:
    """Add facts to a run's ``provenance.json``, whole or not at all; one of the same name is replaced.

    Args:
        output_dir: the run's folder.
        facts: plain JSON, by name.
    """
    path = Path(output_dir) / PROVENANCE
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **facts})


def conclude(output_dir: str, stopped: bool) -> None:
    """Put on record what a run led to, for ``python -m scripts.repeat``.

    Args:
        output_dir: the run's folder, its bundle published.
        stopped: a signal ended it before its last step.
    """
    digest = checksum(Path(output_dir) / MODEL)
    amend(output_dir, weights_sha256=digest, complete=not stopped)


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


def provenance(data: Datalist, config: dict[str, Any]) -> dict[str, Any]:
    """What a result came from: config, data, versions, machine, pixel size.

    Args:
        data: the checked dataset.
        config: the merged config.

    Returns:
        Plain JSON.
    """
    text = json.dumps(config, sort_keys=True, default=str)
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "code": code_version(),
        "dataset_dir": str(data.folder.resolve()),
        "description": data.description,
        "data_sha256": data.checksums,
        "pixel_um": data.pixel_um,
        "allow_same_specimen": data.allow_same_specimen,
        "versions": versions(),
        "machine": platform.platform(),
        **hardware(),
    }
