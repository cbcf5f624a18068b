"""A run made again from its ``provenance.json``: what must be the same, what may differ, and the command."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.common import config_text
from bundle.common.checks import checksum
from bundle.common.config_text import config_fault
from bundle.common.errors import InputError
from bundle.common.machine import code_version, hardware, versions
from bundle.common.old_names import names_now
from bundle.common.values import shown

HOME = Path(__file__).parents[2]
NEEDED = {  # of a record, and what it is
    **dict.fromkeys(("config", "data_sha256", "versions"), dict),
    **dict.fromkeys(("dataset_dir", "device"), str),
    **dict.fromkeys(("threads", "processes"), int),
}


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
    wrong = [name for name, kind in NEEDED.items() if not isinstance(record[name], kind)]
    if wrong:
        raise InputError(f"provenance {path}: {wrong[0]} is {shown(record[wrong[0]])}; copy it from the run again.")
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


def foreign_code(config: Any, key: str = "") -> list[str]:
    """Code in a config that no config of this package has, a line each.

    A record is a file that anyone may have written: what it runs must be ours. Where it reads and writes it still says.

    Args:
        config: a run's config, or a part of it.
        key: under which the part stands.
    """
    if isinstance(config, dict):
        return [line for name, each in config.items() for line in foreign_code(each, _last(name))]
    if isinstance(config, list):
        return [line for each in config for line in foreign_code(each, key)]
    if not is_code(config, key) or any(name.replace("#", "::") in _own_code() for name in names_now(config)):
        return []
    return [f"{key}: {config!r}"]


def is_code(value: Any, key: str) -> bool:
    """Whether MONAI would run a string of a config, refer or open with it."""
    return isinstance(value, str) and (key.startswith("_") or config_fault(key, value) is not None)


def _last(key: str) -> str:
    """Of an id such as ``train#trainer#_target_``, what it sets."""
    return key.replace("#", "::").rpartition("::")[2].lstrip("+")


@functools.cache
def _own_code() -> frozenset[str]:
    """What the configs of this package run."""
    found: set[str] = set()

    def collect(config: Any, key: str) -> None:
        if isinstance(config, dict):
            for name, each in config.items():
                collect(each, _last(name))
        elif isinstance(config, list):
            for each in config:
                collect(each, key)
        elif is_code(config, key):
            found.add(config.replace("#", "::"))  # as MONAI writes it when it has read it

    for path in (HOME / "configs").rglob("*.json"):
        collect(json.loads(path.read_text(encoding="utf-8")), "")
    return frozenset(found)


def write_config(record: Mapping[str, Any], folder: Path, trust: bool = False) -> Path:
    """The config of the run, to be run anew.

    Args:
        record: of the run.
        folder: where to write it.
        trust: also run what no config of this package has.

    Returns:
        The file.

    Raises:
        InputError: if the record holds code that no config of this package has, and is not trusted.
    """
    configs = [record["config"], *(part["config"] for part in record.get("resumed", []) if part.get("config"))]
    config = {**configs[-1], "resume": False}
    if isinstance(config["device"], str):  # the very one, not what the rule for it finds here
        config["device"] = record["device"]
    if record.get("arithmetic", {}).get("chosen"):  # not what the clock says here
        config["precision"] = record["arithmetic"]["chosen"]
    foreign = [] if trust else foreign_code(config)
    if foreign:
        raise InputError(
            "the record's config runs what no config of this package has:\n"
            + "\n".join(foreign[:5])
            + "\npass --trust true only if you know who wrote it: it can do all that you can."
        )
    path = folder / "config.json"
    config_text.write_config(path, config)
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
