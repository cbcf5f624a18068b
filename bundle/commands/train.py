"""A training as typed: dataset, run, method."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from fire.decorators import SetParseFns

from bundle.commands.ids import value_of
from bundle.commands.monai_run import Run, overlay, own_config, wanted_path
from bundle.common.errors import InputError

RECOMMENDED = "firm"
PAPER = "paired"  # train.json without an overlay
UNPAIRED = ("ki67", "restain")
SET = ("dataset_dir", "output_dir")  # by the command itself


@SetParseFns(**dict.fromkeys(("dataset", "run", "method", "profile"), str))  # else 01 is a number
def train(
    dataset: str,
    run: str,
    method: str = RECOMMENDED,
    profile: str | None = None,
    show: bool = False,
    ids: Sequence[str] = (),
) -> None:
    """Train a model on a dataset.

    The same command goes on with a run that was stopped if you add --resume true. A list of methods is in
    docs/training.md. Every id of the configs is an option, nested parts by #: --g_xy#blocks 6.

    Args:
        dataset: the dataset's folder, which holds datalist.json.
        run: the folder of the run; it must not hold one yet, unless --resume true is given.
        method: how to train: firm, which we recommend for registered pairs; paired, the paper's; cyclegan,
            cyclegan_inverted, one_way, field, pix2pix; for images that are no pairs ki67 (two stains) or restain
            (brightfield and fluorescence); or a JSON file of your own.
        profile: size of the job: demo, for minutes on two CPU cores; or a JSON file of your own. Without it the
            method's own, for hours on a GPU.
        show: print the line for python -m monai.bundle that does the same, and run nothing.
        ids: words of the config.
    """
    folder = wanted_path(dataset, "dataset")
    name = value_of(ids, "datalist") or "datalist.json"
    if not (folder / name).is_file():
        raise InputError(f"dataset {dataset} has no {name}; name the folder that holds one (docs/your-data.md).")
    files = [own_config("train.json")]
    files += [overlay(method, "methods", "--method")] if method != PAPER else []
    files += [overlay(profile, "profiles", "--profile")] if profile else []
    for line in advice(folder / name, method):
        print(line, file=sys.stderr)
    Run("training", files, {"dataset_dir": dataset, "output_dir": run}, ids, SET).start(show)


def advice(datalist: Path, method: str) -> list[str]:
    """What to say of the choice of a method before the run begins.

    Raises:
        InputError: if the dataset has images without a partner and the method needs pairs.
    """
    alone = images_alone(datalist)
    wish = f"virtual-staining train {datalist.parent} RUN --method"
    if alone and method not in UNPAIRED and not method.endswith(".json"):
        raise InputError(
            f"{datalist} has {alone}, and {method} learns from registered pairs; for two stains use "
            f"{wish} {UNPAIRED[0]}, for brightfield and fluorescence {wish} {UNPAIRED[1]}."
        )
    if method == RECOMMENDED:
        return [f"method {RECOMMENDED}, which we recommend for registered pairs; --method {PAPER} is the paper's"]
    return [f"method {method}" + (", the paper's" if method == PAPER else "")]


def images_alone(datalist: Path) -> str:
    """What of a dataset's training has no partner, in words; empty if nothing, or if the list cannot be read.

    Whoever loads the dataset says all that is wrong with it.
    """
    try:
        entries = json.loads(datalist.read_text(encoding="utf-8"))["training"]
        sides = [[side for side in ("source", "target") if entry.get(side)] for entry in entries]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return ""
    count = sum(len(each) == 1 for each in sides)
    return f"{count} training image{'s' * (count > 1)} without a partner" if count else ""
