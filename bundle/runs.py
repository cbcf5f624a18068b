"""The folder of a training run: what may start, and the record of what did."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from bundle.atomic import write_json
from bundle.datalist import Datalist
from bundle.errors import InputError
from bundle.workflow import current_parser, merged_config

LATEST = Path("checkpoints") / "latest.pt"
PACKAGES = ("torch", "monai", "pytorch-ignite", "numpy", "scikit-image", "itk", "tifffile")
WHOLE_NUMBERS = ("epochs", "batch_size", "patch_size", "patches_per_pair")
logger = logging.getLogger("bundle")


def check(output_dir: str, resume: bool, precision: str) -> None:
    """Refuse ids that make no sense and a folder that holds another run; nothing is written.

    Args:
        output_dir: the run's folder.
        resume: go on from ``checkpoints/latest.pt`` if there is one.
        precision: ``fp32``.

    Raises:
        InputError: with one line for each fault.
    """
    faults = number_faults(current_parser())
    if precision != "fp32":
        faults.append(f"precision is {precision!r}; this version has only 'fp32'.")
    if (Path(output_dir) / LATEST).exists() and not resume:
        faults.append(
            f"output_dir {output_dir} already holds a run; pass --resume true to go on, or another --output_dir."
        )
    if faults:
        raise InputError("\n".join(faults))


def number_faults(parser: ConfigParser) -> list[str]:
    """What is wrong with the sizes and lengths of a training, a line each."""
    values = {name: parser.get_parsed_content(name) for name in (*WHOLE_NUMBERS, "decay_epochs")}
    faults = []
    for name, value in values.items():
        least = 0 if name == "decay_epochs" else 1
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            faults.append(f"{name} is {value!r}; it must be a whole number of at least {least}.")
    if not faults and values["decay_epochs"] > values["epochs"]:
        faults.append(f"decay_epochs is {values['decay_epochs']}, but epochs is {values['epochs']}; it cannot be more.")
    return faults


def record(data: Datalist, output_dir: str) -> None:
    """Write a run's config and provenance, and begin its log, once nothing can be refused any more.

    Args:
        data: the checked dataset.
        output_dir: the run's folder.
    """
    folder = Path(output_dir)
    config = merged_config()
    write_json(folder / "config.json", config)
    now, path = provenance(data, config), folder / "provenance.json"
    if path.exists():  # resumed: what the run began with stays on record
        began = json.loads(path.read_text(encoding="utf-8"))
        now = {**began, "resumed": [*began.get("resumed", []), now]}
    write_json(path, now)
    log_to(folder / "log.txt")
    number = len(data.training)
    logger.info("training on %d pair%s of %s, results in %s", number, "s" * (number != 1), data.folder, folder)
    if data.caveat:
        logger.warning(data.caveat)


def log_to(path: Path) -> None:
    """Add this package's messages to a log file, with the time."""
    handler = logging.FileHandler(path, encoding="utf-8")
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
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "machine": platform.platform(),
    }


def code_version() -> str | None:
    """The git commit of this checkout, ``+`` added if files differ from it; None outside git."""
    folder = Path(__file__).parent
    describe = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
