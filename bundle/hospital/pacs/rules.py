"""Which series are stained, and how: a list of rules in a JSON file, the first that matches counts."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.common.errors import InputError
from bundle.common.trained_bundle import SPEEDS
from bundle.common.values import is_number
from bundle.hospital.pacs.series import Series
from bundle.hospital.pacs.staining import FRAMES, Wanted

TEXTS = {
    "Modality": "modality",
    "SeriesDescription": "description",
    "StudyDescription": "study_description",
    "BodyPartExamined": "body_part",
    "PatientID": "patient_id",
}
COUNTS = ("min_instances", "max_instances")
SYNTHETIC = "SYNTHETIC"  # how the description of each of our results begins


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: for messages.
        texts: patterns by field of :class:`Series`; all must match.
        min_instances: of the series.
        max_instances: of the series.
        bone_intensity: mean grey value of bone in scans of this kind.
        background_intensity: likewise, of background.
        speed: of ``volume.json``.
        frames: ``multi`` or ``single``.
        refuse_unlike: whether a scan that is unlike the training data is refused.
    """

    name: str
    texts: Mapping[str, re.Pattern[str]]
    min_instances: int
    max_instances: float
    bone_intensity: float
    background_intensity: float
    speed: str
    frames: str
    refuse_unlike: bool

    def wanted(self, bundle_root: Path) -> Wanted:
        """What is made of a series of this kind by a trained bundle."""
        return Wanted(
            bundle_root,
            self.bone_intensity,
            self.background_intensity,
            self.speed,
            self.frames,
            self.refuse_unlike,
        )

    def matches(self, series: Series) -> bool:
        """Whether a series is of this kind; what we have made is of none."""
        if is_ours(series):
            return False
        count = series.count if series.count is not None else self.min_instances
        return self.min_instances <= count <= self.max_instances and all(
            pattern.fullmatch(getattr(series, field)) for field, pattern in self.texts.items()
        )


def is_ours(series: Series) -> bool:
    """Whether a series is synthetic, as far as a list tells: SyntheticData itself cannot be asked for."""
    return series.description.lstrip().upper().startswith(SYNTHETIC)


def first_match(rules: list[Rule], series: Series) -> Rule | None:
    """The first rule for a series, if there is one."""
    return next((rule for rule in rules if rule.matches(series)), None)


def read_rules(path: str | Path) -> list[Rule]:
    """Read a rules file.

    Raises:
        InputError: with a line for each fault.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"rules {path} cannot be read ({error}).") from error
    if not isinstance(content, list) or not content:
        raise InputError(f'rules {path} must be a list of rules: [{{"match": {{…}}, "bone_intensity": …}}].')
    faults: list[str] = []
    rules = [_read_rule(f"{path}, rule {number}", entry, faults) for number, entry in enumerate(content, 1)]
    if faults:
        raise InputError("\n".join(faults))
    return rules


def _read_rule(name: str, entry: Any, faults: list[str]) -> Rule:
    entry = entry if isinstance(entry, dict) else {}
    match = entry.get("match")
    if not isinstance(match, dict) or not match:
        faults.append(f"{name}: match must say which series, by {', '.join((*TEXTS, *COUNTS))}.")
        match = {}
    allowed = ("match", "bone_intensity", "background_intensity", "speed", "frames", "refuse_unlike", "comment")
    faults += [f"{name}: {key!r} is not known; there are {', '.join(allowed)}." for key in entry if key not in allowed]
    for key in match:
        if key not in TEXTS and key not in COUNTS:
            faults.append(f"{name}: match has {key!r}; there are {', '.join((*TEXTS, *COUNTS))}.")
    for key in ("bone_intensity", "background_intensity"):
        if not is_number(entry.get(key)):
            faults.append(f"{name}: {key} is {entry.get(key)!r}; it must be a number, nothing is assumed.")
    for key, known in (("speed", SPEEDS), ("frames", FRAMES)):
        if entry.get(key, known[0]) not in known:
            faults.append(f"{name}: {key} is {entry[key]!r}; it must be one of {', '.join(known)}.")
    if not isinstance(entry.get("refuse_unlike", False), bool):
        faults.append(f"{name}: refuse_unlike is {entry['refuse_unlike']!r}; it must be true or false.")
    for key in COUNTS:
        if type(match.get(key, 1)) is not int or match.get(key, 1) < 1:
            faults.append(f"{name}: {key} is {match[key]!r}; it must be a whole number of at least 1.")
    return Rule(
        name=name,
        texts={TEXTS[key]: _pattern(name, key, match[key], faults) for key in TEXTS if key in match},
        min_instances=match.get("min_instances", 1),
        max_instances=match.get("max_instances", float("inf")),
        bone_intensity=entry.get("bone_intensity", 0),
        background_intensity=entry.get("background_intensity", 0),
        speed=entry.get("speed", SPEEDS[0]),
        frames=entry.get("frames", FRAMES[0]),
        refuse_unlike=entry.get("refuse_unlike", False),
    )


def _pattern(name: str, key: str, value: Any, faults: list[str]) -> re.Pattern[str]:
    """``"bone*"`` is a glob of the shell, ``{"regex": "bone|os.*"}`` a regular expression; capitals do not matter."""
    expression = value.get("regex") if isinstance(value, dict) and set(value) == {"regex"} else None
    if isinstance(value, str):
        expression = fnmatch.translate(value)
    try:
        return re.compile(expression, re.IGNORECASE | re.DOTALL)  # type: ignore[arg-type]  # None raises TypeError
    except (re.error, TypeError):
        faults.append(f'{name}: {key} is {value!r}; it must be a glob such as "bone*", or {{"regex": "bone|os.*"}}.')
        return re.compile("")
