"""The folder of a training run: what may start, and the record of what did."""

from __future__ import annotations

import os
from pathlib import Path
from pydoc import locate

import torch
from monai.bundle import ConfigParser

from bundle.common import processes
from bundle.common.atomic import write_json
from bundle.common.checks import checksum
from bundle.common.config import current_parser, merged_config
from bundle.common.config_text import write_config
from bundle.common.errors import InputError
from bundle.common.folder_lock import hold
from bundle.common.run_folder import CONFIG, LATEST, MODEL, PREVIOUS, PROVENANCE, amend, logger, read_record
from bundle.data.datalist import Datalist
from bundle.data.provenance import provenance
from bundle.networks.arithmetic import precision_fault
from bundle.training.resumption import INSIST, changes


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
    if processes.apart():
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
        return [
            f"output_dir {folder} already holds a run; pass --resume true to go on, once it has ended, "
            "or another --output_dir."
        ]
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


def conclude(output_dir: str, stopped: bool) -> None:
    """Put on record what a run led to, for ``python -m scripts.repeat``.

    Args:
        output_dir: the run's folder, its bundle published.
        stopped: a signal ended it before its last step.
    """
    digest = checksum(Path(output_dir) / MODEL)
    amend(output_dir, weights_sha256=digest, complete=not stopped)
