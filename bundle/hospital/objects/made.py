"""Which model made a stain and how: what it says of itself in DICOM, and the UIDs that follow from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from bundle.common.errors import InputError
from bundle.common.trained_bundle import fingerprint
from bundle.images.dicom.words import plain, uid_for


class Scan(Protocol):
    """What of a source, or of a PACS's list of it, UIDs follow from."""

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID."""

    @property
    def instance_uids(self) -> Sequence[str]:
        """SOPInstanceUIDs of the slices, in any order."""


@dataclass(frozen=True)
class Made:
    """A model and what else a stain by it depends on.

    Attributes:
        name: of the model, from its ``metadata.json``; at most 64 characters.
        version: likewise.
        sha256: of its weights, hexadecimal.
        settings: what a stain depends on besides model and scan, of JSON's types.
        code: SHA-256 of the Python code that runs, its first 12 digits.
        likeness: how like the training data the scan is, a line of ASCII; empty where that is not known.
        unlike: whether the scan is unlike them.
    """

    name: str
    version: str
    sha256: str
    settings: Mapping[str, Any]
    code: str
    likeness: str = ""
    unlike: bool = False

    def series_uid(self, source: Scan, kind: str) -> str:
        """SeriesInstanceUID of a stain: the same for the same model, settings, scan and kind of object."""
        return self._uid(source, kind)

    def instance_uid(self, source: Scan, kind: str, number: int) -> str:
        """SOPInstanceUID of a series' object number so and so, likewise."""
        return self._uid(source, kind, number)

    def _uid(self, source: Scan, *what: object) -> str:
        content = [self.sha256, dict(self.settings), source.series_uid, sorted(source.instance_uids), *what]
        return uid_for(json.dumps(content, sort_keys=True).encode())


class Judged(Protocol):
    """What is known of how like the training data a scan is."""

    @property
    def words(self) -> str:
        """It in one line of ASCII; empty if nothing is to be said."""

    @property
    def unlike(self) -> bool:
        """Whether the scan is unlike them."""


def judged_by(made_by: Made, judged: Judged) -> Made:
    """A model and settings, with what is known of the scan."""
    return replace(made_by, likeness=judged.words, unlike=judged.unlike)


def made(bundle_root: str | Path, settings: Mapping[str, Any]) -> Made:
    """Describe a trained bundle.

    Args:
        bundle_root: its folder.
        settings: what a stain depends on besides model and scan, of JSON's types.

    Raises:
        InputError: if it is none.
    """
    path = Path(bundle_root) / "configs" / "metadata.json"
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
        name, version = (_word(metadata[key]) for key in ("name", "version"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} does not say what the model is ({error}); give RUN/bundle of a run.") from error
    return Made(name, version, fingerprint(bundle_root), json.loads(json.dumps(dict(settings))), code())


def _word(text: object) -> str:
    """A text as LO takes it, in ASCII, which no character set takes for other; a backslash would part it in two."""
    return plain(text).encode("ascii", "replace").decode().replace("\\", "/")


def code() -> str:
    """The first 12 digits of the SHA-256 of this package's Python code."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[2]
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
