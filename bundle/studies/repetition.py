"""A run made again from its ``provenance.json``: what must be the same, what may differ, and the command."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bundle.common import config_text
from bundle.common.checks import checksum
from bundle.common.config_text import config_fault
from bundle.common.errors import InputError
from bundle.common.home import CONFIGS, PACKAGE
from bundle.common.ids import METHODS, TRAIN
from bundle.common.machine import code_version, hardware, versions
from bundle.common.old_names import names_now
from bundle.common.values import is_text, shown

FREE = {*TRAIN, *METHODS} - {"bundle_root"}  # of these the folder of the run is given anew
NEEDED = {  # of a record, and what it is
    **dict.fromkeys(("config", "data_sha256", "versions"), dict),
    **dict.fromkeys(("dataset_dir", "device"), str),
    **dict.fromkeys(("threads", "processes"), int),
}
THREADS = 1024  # at most


def read_record(path: Path) -> dict[str, Any]:
    """A run's ``provenance.json``.

    Raises:
        InputError: if it is not there, is no JSON, or is of a version that did not record enough.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"provenance {path} cannot be read ({error}); name a run's provenance.json.") from error
    missing = [name for name in NEEDED if not isinstance(record, dict) or name not in record]
    if missing:
        raise InputError(
            f"provenance {path} has no {', '.join(missing)}; it is of an earlier version, or of no training."
        )
    wrong = [name for name, well in _parts(record).items() if not well]
    if wrong:
        raise InputError(f"provenance {path}: {wrong[0]} is {shown(record.get(wrong[0]))}; copy it from the run again.")
    return record


def _parts(record: Mapping[str, Any]) -> dict[str, bool]:
    """Whether each part of a record is what a run can have written."""
    resumed, most = record.get("resumed", []), {"threads": THREADS, "processes": max(8, os.cpu_count() or 1)}
    well = {name: isinstance(record[name], kind) for name, kind in NEEDED.items()}
    well |= {name: well[name] and 0 < record[name] <= limit for name, limit in most.items()}
    well["arithmetic"] = isinstance(record.get("arithmetic", {}), dict)
    well["dataset_dir"] = is_text(record["dataset_dir"])
    well["resumed"] = isinstance(resumed, list) and all(isinstance(part, dict) for part in resumed)
    if well["config"] and well["resumed"]:
        configs = [record["config"], *filter(None, (part.get("config") for part in resumed))]
        well["config"] = all(isinstance(config, dict) and "device" in config for config in configs)
    return well


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


def foreign_text(config: Mapping[str, Any]) -> list[str]:
    """Text of a config that no config of this package has there, a line each: code, places to write to.

    A record is a file that anyone may have written, so what it does must be ours. A training's own ids may have any
    value, as on the command line, that is no code.

    Args:
        config: a run's config.
    """
    return [
        f"{shown(key)[1:-1]}: {shown(text)}"
        for key, text in _texts(config, "")
        if not any((_place(key), name.replace("#", "::")) in _own_text() for name in names_now(text))
        and (key not in FREE or config_fault(key, text) is not None)
    ]


def _texts(config: Any, key: str) -> Iterator[tuple[str, str]]:
    """All text of a config, each with the id of the value that it is or is an item of."""
    if isinstance(config, dict):
        for name, each in config.items():
            yield from _texts(each, f"{key}#{name}".lstrip("#"))
    elif isinstance(config, list):
        for each in config:
            yield from _texts(each, key)
    elif isinstance(config, str):
        yield key, config


@functools.cache
def _own_text() -> frozenset[tuple[str, str]]:
    """The text of this package's configs, each with its place: ``@method`` is a name here and a folder there."""
    configs = (json.loads(path.read_text(encoding="utf-8")) for path in CONFIGS.rglob("*.json"))
    texts = [(_place(key), text.replace("#", "::")) for config in configs for key, text in _texts(config, "")]
    copies = {(key, text[1:]) for key, text in texts if text.startswith("%")}  # which MONAI replaces by what they name
    copied = [(to + key[len(of) :], text) for to, of in copies for key, text in texts if f"{key}#".startswith(f"{of}#")]
    return frozenset(texts + copied)


def _place(key: str) -> str:
    """An id as a config may also write it, without the numbers of a list's items."""
    return "#".join(part for part in key.lstrip("+").replace("::", "#").split("#") if not part.isdigit())


def write_config(record: Mapping[str, Any], folder: Path, trust: bool = False) -> Path:
    """The config of the run, to be run anew.

    Args:
        record: of the run.
        folder: where to write it.
        trust: also take what no config of this package has.

    Returns:
        The file.

    Raises:
        InputError: if the record has something else where a config should be, or text that is not ours.
    """
    configs = [record["config"], *(part["config"] for part in record.get("resumed", []) if part.get("config"))]
    config = {**configs[-1], "resume": False, "mlflow": False}
    if isinstance(config["device"], str):  # the very one, not what the rule for it finds here
        config["device"] = record["device"]
    if record.get("arithmetic", {}).get("chosen"):  # not what the clock says here
        config["precision"] = record["arithmetic"]["chosen"]
    foreign = [] if trust else foreign_text(config)
    if foreign:
        raise InputError(
            "the record's config runs, reads or writes what no config of this package has:\n"
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
        *("--meta_file", str(CONFIGS / "metadata.json")),
        *("--logging_file", str(CONFIGS / "logging.conf")),
        *("--dataset_dir", str(dataset_dir), "--output_dir", str(output_dir)),
    ]


def environment(record: Mapping[str, Any]) -> dict[str, str]:
    """The environment of the training: as many threads as the run had, and this checkout's code."""
    paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
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
