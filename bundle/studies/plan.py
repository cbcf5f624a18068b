"""What a study is to compare: variants × folds × seeds, a cell each."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.common.errors import InputError
from bundle.common.home import HOME
from bundle.common.values import is_number
from bundle.data.datalist import DATALIST

TRAINING, EVALUATION = "configs/train.json", "configs/evaluate.json"
UNPAIRED_EVALUATION = "configs/evaluate_unpaired.json"
METHODS = Path("configs") / "methods"
PROFILES = Path("configs") / "profiles"
LONGEST = 200  # bytes of a variant's name; a folder's may have 255
PARTS = ("methods", "ids", "folds", "seeds", "tables", "curves")  # of a variant


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        variant: what is compared.
        fold: the validation fold; None trains on all training pairs.
        seed: of the run.
        overlays: config files over ``train.json``, in order.
        ids: what is set beside.
        evaluation: config file over ``train.json`` that measures it.
    """

    variant: str
    fold: int | None
    seed: int
    overlays: tuple[str, ...]
    ids: Mapping[str, Any]
    evaluation: str = EVALUATION

    @property
    def data(self) -> tuple[str, int | None]:
        """What its rows without a network depend on."""
        return self.datalist, self.fold

    @property
    def datalist(self) -> str:
        """The list it is trained on and measured with."""
        return self.ids.get("datalist", DATALIST)

    @property
    def name(self) -> str:
        """The cell's folder."""
        fold = "all" if self.fold is None else f"fold{self.fold}"
        return f"{self.variant}-{fold}-seed{self.seed}"

    def command(self, task: str, dataset_dir: str, folder: Path, **ids: Any) -> list[str]:
        """The command line of its training or evaluation."""
        files = [TRAINING, *([self.evaluation] if task == "evaluation" else []), *self.overlays]
        words = [sys.executable, "-m", "monai.bundle", "run", task, "--config_file", str(files)]
        every = {"dataset_dir": dataset_dir, "output_dir": str(folder), "seed": self.seed, "fold": self.fold}
        for name, value in {**every, **self.ids, **ids}.items():
            words += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
        return words


def beside_configs(*paths: str | None) -> list[Any]:
    """Go to where ``configs/`` is: the current folder, else that of this package.

    Args:
        paths: as they were given, of where one was.

    Returns:
        The same files and folders from there.
    """
    if Path(TRAINING).is_file():
        return list(paths)
    there = [path and str(Path(path).absolute()) for path in paths]
    os.chdir(HOME)
    return there


def plan_cells(
    variants: Mapping[str, Mapping[str, Any]],
    folds: Sequence[int | None],
    seeds: Sequence[int],
    profile: str | None,
    ids: Mapping[str, Any],
    evaluation: str = EVALUATION,
) -> list[Cell]:
    """Every variant on every fold with every seed.

    Args:
        variants: by name, what :data:`PARTS` names, all of it optional: ``methods`` (names of ``configs/methods``),
            ``ids``, ``folds`` and ``seeds`` of its own, ``tables`` it stands in, ``curves`` it is a point of
            (``{"axis": …, "curve": …, "x": …}``).
        folds: validation folds.
        seeds: of the runs.
        profile: name of ``configs/profiles``; None for the paper's scale.
        ids: set in every cell; a variant's own come after.
        evaluation: the config file that measures every cell.

    Returns:
        The cells; those of one fold and seed together, so that a study cut short compares all variants.

    Raises:
        InputError: if a variant has an unknown part, or names an overlay that is not there.
    """
    faults = []
    if not Path(evaluation).is_file():
        faults.append(
            f"evaluation_config {evaluation} does not exist; there are {EVALUATION} and {UNPAIRED_EVALUATION}."
        )
    overlays: dict[str, tuple[str, ...]] = {}
    for variant, parts in variants.items():
        ill = _ill_formed(variant, parts)
        if ill:
            faults += ill
            continue
        if "dataset_dir" in parts.get("ids", {}):
            faults.append(f"variant {variant!r} sets dataset_dir; a study has one dataset, variants may set datalist.")
        files = [METHODS / f"{method}.json" for method in parts.get("methods", ())]
        files += [PROFILES / f"{profile}.json"] * (profile is not None)
        for file in files:
            if not file.is_file():
                there = ", ".join(sorted(path.stem for path in file.parent.glob("*.json")))
                faults.append(f"variant {variant!r}: there is no {file}; there are {there}.")
        overlays[variant] = tuple(map(str, files))
    for name, values in (("folds", folds), ("seeds", seeds), ("variants", list(variants))):
        if not values:
            faults.append(f"{name} is empty; name at least one.")
    if faults:
        raise InputError("\n".join(faults))
    cells = [
        Cell(variant, fold, seed, overlays[variant], {**ids, **parts.get("ids", {})}, evaluation)
        for variant, parts in variants.items()
        for seed in parts.get("seeds", seeds)
        for fold in parts.get("folds", folds)
    ]
    order = list(dict.fromkeys((cell.seed, cell.fold) for cell in cells))
    return sorted(cells, key=lambda cell: order.index((cell.seed, cell.fold)))


def read_variants(path: str | Path) -> dict[str, Any]:
    """The variants of a file.

    Raises:
        InputError: if it is missing, no JSON, or no object.
    """
    try:
        variants = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"variants {path} cannot be read: {error}") from error
    if not isinstance(variants, dict):
        raise InputError(f'variants {path} holds a {type(variants).__name__}; give {{"name": {{"methods": […]}}}}.')
    return variants


def _ill_formed(variant: str, parts: Any) -> list[str]:
    """What is wrong with the form of a variant, a line each."""
    if not isinstance(variant, str) or not variant or "/" in variant:
        return [f"variant {variant!r} becomes the name of a folder; it must be text, not empty, without a /."]
    if not variant.isprintable() or "#" in variant or "::" in variant or len(variant.encode()) > LONGEST:
        form = f"without # and ::, which a config cannot hold, line breaks and the like, of at most {LONGEST} bytes"
        return [f"variant {variant!r} becomes the name of a folder; it must be {form}."]
    if not isinstance(parts, dict):
        return [f"variant {variant!r} is {parts!r}; give its parts by name: {', '.join(PARTS)}."]
    faults = [f"variant {variant!r} has {key!r}; it may have {', '.join(PARTS)}." for key in set(parts) - set(PARTS)]
    if not isinstance(parts.get("ids", {}), dict):
        faults.append(f"variant {variant!r}: ids is {parts['ids']!r}; give values by name.")
    for key in ("methods", "folds", "seeds", "tables", "curves"):
        if not isinstance(parts.get(key, []), list):
            faults.append(f"variant {variant!r}: {key} is {parts[key]!r}; give a list.")
        elif key == "curves":
            for point in parts.get(key, []):
                if not isinstance(point, dict) or set(point) != {"axis", "curve", "x"} or not is_number(point["x"]):
                    faults.append(f"variant {variant!r}: curves has {point!r}; give axis, curve and a number as x.")
    return faults


def has_baselines(evaluation: str | Path) -> bool:
    """Whether an evaluation's config also measures what needs no network."""
    return "eval_baselines" in json.loads(Path(evaluation).read_text(encoding="utf-8"))
