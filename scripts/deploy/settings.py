"""What a run of the Deploy application is asked to do, from its command line, its rules file and a MAP's variables."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from bundle.common.errors import InputError
from bundle.common.trained_bundle import LEVELS, config_files, intensity_faults, read_stock_config, refusal_faults

RULES = Path(__file__).with_name("rules.json")
# what a MONAI Application Package sets in its container, as the SDK's own RuntimeEnv reads them
VARIABLES = {"input": "HOLOSCAN_INPUT_PATH", "output": "HOLOSCAN_OUTPUT_PATH", "model": "HOLOSCAN_MODEL_PATH"}
RULES_VARIABLE = "VIRTUAL_STAINING_RULES"


@dataclass(frozen=True)
class Rules:
    """Which series may be stained, and what its grey values are.

    Attributes:
        selections: as the SDK's ``DICOMSeriesSelectorOperator`` has them.
        bone_intensity: mean grey value of bone in such a series; None if the file does not say.
        background_intensity: likewise, of background.
        refuse_unlike: whether a series that is unlike the model's training data is refused.
    """

    selections: tuple[Mapping[str, Any], ...]
    bone_intensity: float | None
    background_intensity: float | None
    refuse_unlike: bool = False


@dataclass(frozen=True)
class Settings:
    """A checked request.

    Attributes:
        input: folder of the DICOM files, read with its sub-folders.
        output: folder for the result.
        bundle_root: the trained bundle.
        rules: which series may be stained.
        rules_file: where the rules are from.
        series_uid: the one series, where several meet the rules.
        frames: ``multi``, one object of many frames, or ``single``, an object for every slice.
        bone_intensity: mean grey value of bone in the series; None where the model declared none.
        background_intensity: likewise, of background.
        refuse_unlike: refuse a series that is unlike the model's training data; else it is said of the result.
    """

    input: Path
    output: Path
    bundle_root: Path
    rules: Rules
    rules_file: Path
    series_uid: str | None
    frames: str
    bone_intensity: float | None
    background_intensity: float | None
    refuse_unlike: bool


class Arguments(argparse.ArgumentParser):
    """A command line whose faults are one line, like those of every other command here."""

    def error(self, message: str) -> NoReturn:
        """Raise :class:`InputError` where argparse would print its usage and exit with 2."""
        raise InputError(f"{message}; python -m {self.prog} --help lists the options.")


def arguments() -> Arguments:
    """The options of ``python -m scripts.deploy.app``."""
    parser = Arguments(prog="scripts.deploy.app", description=__doc__, allow_abbrev=False)
    parser.add_argument("-i", "--input", help="folder with DICOM files, searched with its sub-folders")
    parser.add_argument("-o", "--output", help="folder for the stained series")
    parser.add_argument("-m", "--model", help="the trained bundle: output_dir/bundle of a run, or an unpacked export")
    parser.add_argument("--rules", help="JSON: which series may be stained (default: scripts/deploy/rules.json)")
    parser.add_argument("--bone_intensity", type=float, help="mean grey value of bone in the series, rescaled")
    parser.add_argument("--background_intensity", type=float, help="likewise, of background")
    parser.add_argument(
        "--refuse_unlike", choices=("true", "false"), help="refuse a series that is unlike the model's training data"
    )
    parser.add_argument("--series", help="SeriesInstanceUID, where several series meet the rules")
    parser.add_argument(
        "--frames", choices=("multi", "single"), default="multi", help="one multi-frame object, or one object per slice"
    )
    return parser


def read_settings(words: Sequence[str], variables: Mapping[str, str] = os.environ) -> Settings:
    """Read and check a command line; nothing is loaded or computed.

    Args:
        words: what stands after ``python -m scripts.deploy.app``.
        variables: of the environment; a MAP's container sets the folders there.

    Raises:
        InputError: on the first thing that is missing or wrong.
    """
    given = arguments().parse_args(list(words))
    folders = {name: getattr(given, name) or variables.get(variable) for name, variable in VARIABLES.items()}
    for name, variable in VARIABLES.items():
        if not folders[name]:
            raise InputError(f"--{name} is missing; give -{name[0]} FOLDER, or set {variable}.")
    source = Path(str(folders["input"]))
    if not source.is_dir():
        raise InputError(f"--input {source} is no folder; give the one that has the DICOM files.")
    output = Path(str(folders["output"]))
    if output.resolve().is_relative_to(source.resolve()):
        raise InputError(
            f"--output {output} is in --input {source}, where the result would be taken for part of the scan."
        )
    bundle_root = find_bundle(Path(str(folders["model"])))
    rules_file = Path(given.rules or variables.get(RULES_VARIABLE) or RULES)
    rules = read_rules(rules_file)
    levels = {
        f"{name}_intensity": chosen
        if (chosen := getattr(given, f"{name}_intensity")) is not None
        else getattr(rules, f"{name}_intensity")
        for name in LEVELS
    }
    check_levels(bundle_root, rules_file, **levels)
    refuse = rules.refuse_unlike if given.refuse_unlike is None else given.refuse_unlike == "true"
    if faults := refusal_faults(bundle_root, refuse):
        raise InputError(faults[0])
    return Settings(
        input=source,
        output=output,
        bundle_root=bundle_root,
        rules=rules,
        rules_file=rules_file,
        series_uid=given.series,
        frames=given.frames,
        **levels,
        refuse_unlike=refuse,
    )


def find_bundle(path: Path) -> Path:
    """The bundle at a path, or the one in it: a MAP keeps its model in a folder of ``/opt/holoscan/models``.

    Raises:
        InputError: if there is none, or more than one.
    """
    if (path / "configs" / "inference.json").is_file():
        return path
    inner = sorted(folder.parents[1] for folder in path.glob("*/configs/inference.json"))
    if len(inner) > 1:
        raise InputError(f"--model {path} holds {len(inner)} bundles; give one of them, such as {inner[0]}.")
    if inner:
        return inner[0]
    config_files(path)
    return path


def check_levels(
    bundle_root: Path, rules_file: Path, bone_intensity: float | None, background_intensity: float | None
) -> None:
    """See that the grey values of bone and background in the series are given, for nothing is assumed.

    Raises:
        InputError: if not, or if the model cannot use them.
    """
    given = {"bone_intensity": bone_intensity, "background_intensity": background_intensity}
    source = read_stock_config(bundle_root)["source"]
    missing = [name for name, value in given.items() if value is None]
    if missing and None not in (source.get(name) for name in given):
        raise InputError(
            f"{' and '.join(missing)} of the series are not given, and nothing is assumed: give --bone_intensity N "
            f"--background_intensity N, or write them into {rules_file}."
        )
    for name, value in given.items():
        if value is not None and not math.isfinite(value):
            raise InputError(f"{name} is {value}; it must be a grey value of the series.")
    if faults := intensity_faults(source, bone_intensity, background_intensity):
        raise InputError(faults[0])


def read_rules(path: Path) -> Rules:
    """Read a rules file, and see that the SDK would take each rule for what it says.

    The SDK skips a selection without conditions and a condition without a value, and compares a broken pattern only
    when a series comes by; here they are faults.

    Raises:
        InputError: if it cannot be read, or a rule of it cannot be meant.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--rules {path} cannot be read ({error.strerror}); give a rules file.") from error
    except ValueError as error:
        raise InputError(f"--rules {path} is no JSON ({error}).") from error
    intensities = [f"{name}_intensity" for name in LEVELS]
    known = ["selections", *intensities, "refuse_unlike"]
    if not isinstance(content, dict) or not set(content) <= set(known):
        found = sorted(set(content) - set(known)) if isinstance(content, dict) else type(content).__name__
        raise InputError(f"--rules {path} has {found}; it may have {', '.join(known)}.")
    levels = {}
    for name in intensities:
        value = content.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InputError(f"--rules {path}, {name} is {value!r}; it must be a number.")
        levels[name] = None if value is None else float(value)
    refuse = content.get("refuse_unlike", False)
    if not isinstance(refuse, bool):
        raise InputError(f"--rules {path}, refuse_unlike is {refuse!r}; it must be true or false.")
    selections = content.get("selections")
    if not isinstance(selections, list) or not selections:
        raise InputError(f"--rules {path} has no selections; list at least one, as in {RULES}.")
    for number, selection in enumerate(selections):
        check_selection(f"--rules {path}, selections[{number}]", selection)
    return Rules(tuple(selections), **levels, refuse_unlike=refuse)


def check_selection(place: str, selection: Any) -> None:
    """See that one selection has conditions, each with a value that can be compared.

    Raises:
        InputError: if not.
    """
    conditions = selection.get("conditions") if isinstance(selection, dict) else None
    if not isinstance(conditions, dict) or not conditions or not isinstance(selection.get("name", ""), str):
        raise InputError(f"{place} needs a name and conditions, as in {RULES}.")
    for keyword, value in conditions.items():
        if isinstance(value, str) and value:
            try:
                re.compile(value)
            except re.error as error:
                raise InputError(f"{place}, {keyword}: {value!r} is no regular expression ({error}).") from error
        elif isinstance(value, bool) or not isinstance(value, int | float | list) or value == []:
            raise InputError(f"{place}, {keyword} is {value!r}; it must be a pattern, a number or a list.")
