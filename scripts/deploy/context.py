"""Looks whether a build context is whole: what its files name is there, and nothing else is."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bundle.common.trained_bundle import LIKENESS, fingerprint

APP, MODELS = "/opt/holoscan/app", "/opt/holoscan/models"
# the fields of holoscan-cli 4.2's manifests; None where a field may be empty
APP_FIELDS = {
    "apiVersion": str,
    "command": str,
    "environment": dict,
    "input": dict,
    "liveness": None,
    "output": dict,
    "readiness": None,
    "sdk": str,
    "sdkVersion": str,
    "timeout": int,
    "version": str,
    "workingDirectory": str,
}
PKG_FIELDS = {
    "apiVersion": str,
    "applicationRoot": str,
    "modelRoot": str,
    "models": dict,
    "resources": dict,
    "version": str,
    "platformConfig": str,
}
# what a model's folder may hold: no picture, no list of pictures, no checkpoint of a training
MODEL_FILES = {
    "LICENSE",
    "configs/inference.json",
    "configs/series.json",
    "configs/metadata.json",
    "models/model.pt",
    "models/model.ts",
    LIKENESS,
}


def check_context(folder: Path, bundle_root: Path) -> list[str]:
    """What is wrong with a build context, a line each.

    Args:
        folder: the context.
        bundle_root: the trained bundle that it is of.
    """
    faults = [
        *_manifest_faults(folder / "map" / "app.json", APP_FIELDS),
        *_manifest_faults(folder / "map" / "pkg.json", PKG_FIELDS),
        *_missing_copies(folder),
        *_sum_faults(folder),
    ]
    if faults:
        return faults
    manifest, package = (json.loads((folder / "map" / name).read_text()) for name in ("app.json", "pkg.json"))
    started = json.loads(manifest["command"])
    module = folder / "app" / Path(*started[-1].split(".")).with_suffix(".py")
    if started[:2] != ["python3", "-m"] or not module.is_file():
        faults.append(f"app.json's command {manifest['command']} starts nothing that is in {folder / 'app'}.")
    for name, path in package["models"].items():
        held = folder / "models" / Path(path).relative_to(package["modelRoot"])
        if not (held / "models" / "model.pt").is_file() or fingerprint(held) != fingerprint(bundle_root):
            faults.append(f"pkg.json's model {name} is not the model of {bundle_root}.")
        found = {each.relative_to(held).as_posix() for each in held.rglob("*") if each.is_file()}
        faults += [f"models/{name}/{each} has no place in a package." for each in sorted(found - MODEL_FILES)]
    strange = [path for path in (folder / "app").rglob("*") if path.is_file() and path.suffix not in (".py", ".json")]
    return faults + [f"{path} has no place in a package." for path in sorted(strange)]


def _manifest_faults(path: Path, fields: dict[str, Any]) -> Iterator[str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        yield f"{path} does not read as JSON: {error}."
        return
    for name, kind in fields.items():
        if name not in content:
            yield f"{path.name} has no {name}."
        elif kind is not None and not isinstance(content[name], kind):
            yield f"{path.name}: {name} is {content[name]!r}, not of type {kind.__name__}."


def _missing_copies(folder: Path) -> Iterator[str]:
    """What a Dockerfile copies from a context that has it not."""
    for line in (folder / "Dockerfile").read_text(encoding="utf-8").splitlines():
        words = shlex.split(line) if line.startswith("COPY ") else []
        missing = [word for word in words[1:-1] if not (folder / word).exists()]
        yield from (f"Dockerfile copies {word}, which is not there." for word in missing)


def _sum_faults(folder: Path) -> Iterator[str]:
    """Files that are not what ``SHA256SUMS`` says, or that it does not name."""
    lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    named = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"SHA256SUMS"}
    yield from (f"{name} is in one of SHA256SUMS and {folder} only." for name in sorted(there ^ set(named)))
    for name in sorted(there & set(named)):
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != named[name]:
            yield f"{name} is not what SHA256SUMS says."
