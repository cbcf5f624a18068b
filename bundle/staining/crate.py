"""The origin of a result as others read it: RO-Crate 1.1 with the profile Process Run Crate 0.5, as plain JSON-LD.

All of it comes from the record, so it is the same whenever it is written. Text out of files (names of scans, of stains)
is text here too: no identifier is made of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import Any

from bundle.common.atomic import write_json
from bundle.common.html import RESEARCH

CRATE = "ro-crate-metadata.json"
TIME = "%Y-%m-%dT%H:%M:%S%z"  # of records
PACKAGE = "virtual-staining"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
VERSION = "https://w3id.org/ro/crate/1.1"
FORMATS = {".html": "text/html", ".json": "application/json", ".png": "image/png", ".tif": "image/tiff"}
LICENCE = "Whoever publishes this result states its licence; it depends on those of input and model."
CHECKSUMS = {  # in a fingerprint
    "scan": "SHA-256 of a channel's voxels and geometry",
    "slide": "SHA-256 of the checksums of the slide's files",
    "model": "SHA-256 of the file of weights",
}


def write_crate(record: Path, told: Mapping[str, Any], parts: Mapping[str, str]) -> None:
    """Write ``ro-crate-metadata.json`` into the folder of a result.

    Args:
        record: the file of the result's record, there already or about to be.
        told: what it says, plain JSON.
        parts: names of what this program leaves in its folder, each with what it is; what is not there is left out.
    """
    folder, others = record.parent, [name for name in parts if name not in (CRATE, record.name)]
    made = [_part(folder, name, parts[name]) for name in others if (folder / name).exists()]
    made.append(_part(folder, record.name, "how the result was made, all of it"))
    graph = [
        {"@id": CRATE, "@type": "CreativeWork", "conformsTo": _to(VERSION), "about": _to("./")},
        _root(told, made),
        *made,
        _action(told, made),
        *_named("#input", _input_name(told), _checksums(told, "scan", "slide"), "what was stained"),
        *_named("#model", _model_name(told), _checksums(told, "model"), "the trained model that made the stain"),
        _software(told),
        {"@id": "#licence", "@type": "CreativeWork", "name": "none stated", "description": LICENCE},
        {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
    ]
    write_json(folder / CRATE, {"@context": f"{VERSION}/context", "@graph": graph})


def now() -> str:
    """The time, as records have it."""
    return time.strftime(TIME)


def _to(name: str) -> dict[str, str]:
    return {"@id": name}


def _to_all(entities: list[dict[str, Any]]) -> Any:
    """To each; to one alone without a list about it, as RO-Crate has it."""
    found = [_to(entity["@id"]) for entity in entities]
    return found[0] if len(found) == 1 else found


def _part(folder: Path, name: str, what: str) -> dict[str, Any]:
    if (folder / name).is_dir():
        return {"@id": f"{name}/", "@type": "Dataset", "name": name, "description": what}
    kind = FORMATS.get(PurePath(name).suffix)
    entity = {"@id": name, "@type": "File", "name": name, "description": what}
    return entity if kind is None else {**entity, "encodingFormat": kind}


def _root(told: Mapping[str, Any], made: list[dict[str, Any]]) -> dict[str, Any]:
    started = _time(told.get("started"))
    return {
        "@id": "./",
        "@type": "Dataset",
        "conformsTo": _to(PROFILE),
        "name": f"{told.get('stain')}, generated from {_input_name(told)}",
        "description": f"{RESEARCH} Synthetic: computed from an image by a trained model; no tissue was stained.",
        **({} if started is None else {"datePublished": started}),
        "license": _to("#licence"),
        "hasPart": _to_all(made),
        "mentions": _to("#staining"),
    }


def _action(told: Mapping[str, Any], made: list[dict[str, Any]]) -> dict[str, Any]:
    times = {"startTime": _time(told.get("started")), "endTime": _time(told.get("ended"))}
    return {
        "@id": "#staining",
        "@type": "CreateAction",
        "name": "Virtual staining",
        "description": f"{told.get('source')} to {told.get('stain')}, with the settings that the record holds",
        "instrument": _to("#software"),
        "object": [_to("#input"), _to("#model")],
        "result": _to_all(made),
        **{name: at for name, at in times.items() if at is not None},
    }


def _software(told: Mapping[str, Any]) -> dict[str, Any]:
    try:
        number = version(PACKAGE)
    except PackageNotFoundError:  # the copy in a trained bundle
        number = None
    code = told.get("code") and f"commit {told['code']}"
    both = ", ".join(filter(None, (number, code)))
    software = {"@id": "#software", "@type": "SoftwareApplication", "name": PACKAGE}
    return {**software, "softwareVersion": both} if both else software


def _named(name: str, title: str, checksums: list[tuple[str, str]], what: str) -> list[dict[str, Any]]:
    """Something outside the crate, and its checksums."""
    values = [
        {"@id": f"{name}-checksum-{place}", "@type": "PropertyValue", "name": kind, "propertyID": kind, "value": value}
        for place, (kind, value) in enumerate(checksums)
    ]
    entity: dict[str, Any] = {"@id": name, "@type": "CreativeWork", "name": title, "description": what}
    return [{**entity, "identifier": _to_all(values)}, *values] if values else [entity]


def _checksums(told: Mapping[str, Any], *names: str) -> list[tuple[str, str]]:
    found = [(name, told.get("fingerprint", {}).get(name)) for name in names]
    return [(CHECKSUMS[name], value) for name, values in found if values for value in str(values).split()]


def _input_name(told: Mapping[str, Any]) -> str:
    """An address whole, of a path its last part: folders are of one machine, and may name its user."""
    given = told.get("input")
    paths = [str(path) for path in (given if isinstance(given, list) else [given])]
    return ", ".join(path if "://" in path else PurePath(path).name for path in paths)


def _model_name(told: Mapping[str, Any]) -> str:
    return f"{told.get('source')} to {told.get('stain')} ({PurePath(str(told.get('bundle_root'))).name})"


def _time(at: Any) -> str | None:
    """A time of the record, 2026-11-30T14:00:00+0000, as ISO 8601 has it throughout: +00:00."""
    if not isinstance(at, str):
        return None
    return f"{at[:-2]}:{at[-2:]}" if at[-5:-4] in ("+", "-") else at
