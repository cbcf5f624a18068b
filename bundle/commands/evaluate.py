"""A run measured as typed: all that it was trained on and by comes from its record."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fire.decorators import SetParseFns

from bundle.commands.ids import names_of, value_of
from bundle.commands.monai_run import Run, names_in, own_config, wanted_path
from bundle.common.errors import InputError
from bundle.common.ids import CODE, TRAIN
from bundle.common.run_folder import PROVENANCE, read_record
from bundle.common.values import shown

TAKEN = ("dataset_dir", "datalist", "fold", "seed")  # ids that a record decides about
BASE = "train.json"


@SetParseFns(**dict.fromkeys(("run", "overlays"), str))  # else 01 is a number
def evaluate(run: str, overlays: str | None = None, show: bool = False, ids: Sequence[str] = ()) -> None:
    """Measure a trained model, and write its page.

    Dataset, method, profile and fold are those of the run's own record; an id that you give comes before it. Stopped,
    the same command goes on.

    Args:
        run: the folder of the run.
        overlays: a JSON file of your own that the run was trained with; needed only then, as a record may name
            files of ours and no others.
        show: print the line for python -m monai.bundle that does the same, and run nothing.
        ids: words of the config.
    """
    folder = wanted_path(run, "run")
    if not (folder / PROVENANCE).is_file():
        raise InputError(f"run {run} has no {PROVENANCE}; name the folder that a training wrote.")
    record = read_record(folder / PROVENANCE)
    files = files_of(record, folder, overlays)
    config = record.get("config")
    config = config if isinstance(config, dict) else {}
    measured_by = "evaluate.json" if config.get("paired") is not False else "evaluate_unpaired.json"
    values = {"dataset_dir": taken("dataset_dir", record.get("dataset_dir"), folder), "output_dir": run}
    values |= {name: taken(name, config[name], folder) for name in TAKEN[1:] if name in config}
    values = {name: value for name, value in values.items() if name == "fold" or value is not None}
    method = ", ".join(Path(file).stem for file in files) or "paired"
    typed = {name: value_of(ids, name) for name in ("dataset_dir", "fold") if name in names_of(ids)}
    said = {"fold": None, "dataset_dir": None} | values | typed
    if said["dataset_dir"] is None:
        raise InputError(f"{folder / PROVENANCE} does not say which dataset; pass --dataset_dir FOLDER.")
    print(f"measures {run}: {method}, dataset {said['dataset_dir']}, fold {said['fold']}", file=sys.stderr)
    configs = [own_config(BASE), own_config(measured_by), *files]
    Run("evaluation", configs, values, ids, ("output_dir",)).start(show)


def files_of(record: Mapping[str, Any], folder: Path, own: str | None = None) -> list[str]:
    """The overlays that a run was trained with: those of ours that its record names, and the user's own.

    A record is a file that anyone may have written: it names files of ours, and nothing else of it is opened.

    Args:
        record: of the run.
        folder: of the run, for messages.
        own: a JSON file of the user's.

    Raises:
        InputError: if it names others, and ``own`` is not given.
    """
    files, strange = [], []
    for name in named_files(record):
        path = Path(name)
        if path.name == BASE:
            continue
        if path.parent.name in ("methods", "profiles") and path.stem in names_in(path.parent.name):
            files.append(own_config(f"{path.parent.name}/{path.stem}.json"))
        elif path.name == "nuclei.json":
            raise InputError(
                f"{folder} is a training of a segmenter of nuclei; measure it by python -m monai.bundle run evaluation "
                f"--config_file {own_config('nuclei.json')} with its dataset_dir and output_dir."
            )
        elif path.name != "multi_gpu_train.json":
            strange.append(name)
    if strange and own is None:
        raise InputError(
            f"{folder / PROVENANCE} names {shown(strange[0])}, which is no config of ours; if it is yours, pass "
            "--overlays FILE.json."
        )
    return [*files, *([str(wanted_path(own, "overlays"))] if own else [])]


def named_files(record: Mapping[str, Any]) -> list[str]:
    """The configs on the command line of a record."""
    words = record.get("command")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return []
    values = [
        after for word, after in zip(words, words[1:], strict=False) if word in ("--config_file", "--config-file")
    ]
    values += [word.split("=", 1)[1] for word in words if word.startswith(("--config_file=", "--config-file="))]
    if not values:
        return []
    try:
        listed = ast.literal_eval(values[-1])
    except (ValueError, SyntaxError):
        listed = values[-1].strip("[]").split(",")
    return [str(each).strip() for each in (listed if isinstance(listed, (list, tuple)) else [listed])]


def taken(name: str, value: Any, folder: Path) -> Any:
    """A value of a record, if it is plain and what the id may be.

    Raises:
        InputError: if it is not.
    """
    if (isinstance(value, str) and value.startswith(CODE)) or not TRAIN[name].fits(value):
        raise InputError(
            f"{folder / PROVENANCE}: {name} is {shown(value)}; it must be {TRAIN[name].what}: pass --{name} yourself."
        )
    return value
