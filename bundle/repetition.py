"""A run made again from its ``provenance.json``: what must be the same, what may differ, and the command."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.atomic import write_json
from bundle.datalist import checksum
from bundle.errors import InputError
from bundle.machine import code_version, hardware, versions

HOME = Path(__file__).parents[1]
NEEDED = ("config", "data_sha256", "dataset_dir", "versions", "device", "threads", "processes")


def read_record(path: Path) -> dict[str, Any]:
    """A run's ``provenance.json``.

    Raises:
        InputError: if it is not there, is no JSON, or is of a version that did not record enough.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"provenance {path} cannot be read ({error}); name a run's provenance.json.") from error
    missing = [name for name in NEEDED if not isinstance(record, dict) or name not in record]
    if missing:
        raise InputError(
            f"provenance {path} has no {', '.join(missing)}; it is of an earlier version, or of no training."
        )
    return record


def changed_files(checksums: Mapping[str, str], folder: Path) -> list[str]:
    """Files of a dataset that are not those of the record, a line each."""
    lines = []
    for name, digest in checksums.items():
        path = folder / name
        if not path.is_file():
            lines.append(f"{path} does not exist; pass --dataset_dir, the folder of the data that the run had.")
        elif checksum(path) != digest:
            lines.append(f"{path} is not the file that the run had; restore it.")
    return lines


def differences(record: Mapping[str, Any]) -> list[str]:
    """What here is not as it was for the run, and can change the last digits or more, a line each."""
    lines = [
        f"{package} was {old}, is {versions().get(package)}"
        for package, old in record["versions"].items()
        if versions().get(package) != old
    ]
    here = {"code": code_version(), **hardware()}
    for name in ("code", "processor", "capability", "gpus"):
        if record.get(name) != here[name]:
            lines.append(f"{name} was {record.get(name)}, is {here[name]}")
        elif name == "code" and str(here[name]).endswith("+"):
            lines.append(f"code was {here[name]}: files that were not committed, which may have changed since")
    again = record.get("resumed", [])
    if any(part.get("config") for part in again):
        lines.append("the run was resumed with another config; its last one is repeated from the beginning")
    for name in ("code", "versions", "processor", "device", "threads", "processes"):
        if any(part.get(name) != record.get(name) for part in again):
            lines.append(f"the run was resumed with other {name}; those it began with are repeated")
    return lines


def write_config(record: Mapping[str, Any], folder: Path) -> Path:
    """The config of the run, to be run anew.

    Args:
        record: of the run.
        folder: where to write it.

    Returns:
        The file.
    """
    configs = [record["config"], *(part["config"] for part in record.get("resumed", []) if part.get("config"))]
    config = {**configs[-1], "resume": False}
    if isinstance(config["device"], str):  # the very one, not what the rule for it finds here
        config["device"] = record["device"]
    if record.get("arithmetic", {}).get("chosen"):  # not what the clock says here
        config["precision"] = record["arithmetic"]["chosen"]
    path = folder / "config.json"
    write_json(path, config)
    return path


def command(record: Mapping[str, Any], config: Path, dataset_dir: Path, output_dir: Path) -> list[str]:
    """The training's command line, under ``torchrun`` if several processes shared the run."""
    number = record["processes"]
    shared = ["torch.distributed.run", "--standalone", f"--nproc_per_node={number}", "-m"] if number > 1 else []
    return [
        *(sys.executable, "-m", *shared, "monai.bundle", "run", "training", "--config_file", str(config)),
        *("--meta_file", str(HOME / "configs" / "metadata.json")),
        *("--logging_file", str(HOME / "configs" / "logging.conf")),
        *("--dataset_dir", str(dataset_dir), "--output_dir", str(output_dir)),
    ]


def environment(record: Mapping[str, Any]) -> dict[str, str]:
    """The environment of the training: as many threads as the run had, and this checkout's code."""
    paths = [str(HOME), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "OMP_NUM_THREADS": str(record["threads"]), "PYTHONPATH": os.pathsep.join(paths)}


def verdict(record: Mapping[str, Any], repeated: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether a repeated run led to the same weights.

    Args:
        record: of the run.
        repeated: of its repetition, which is complete.

    Returns:
        False only if the weights are known to differ; and a sentence.
    """
    wanted, found = record.get("weights_sha256"), repeated["weights_sha256"]
    if wanted is None or not record.get("complete"):
        return (
            True,
            f"weights {found}; nothing to compare them with: the run on record did not end",
        )
    if wanted == found:
        return True, f"the weights are equal to the run's, bit for bit (SHA-256 {found})"
    return False, f"the weights differ from the run's: SHA-256 was {wanted}, is {found}"
