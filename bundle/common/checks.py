"""Checksums, and names in a sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from pathlib import Path


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def sha256_of(path: Path) -> str | None:
    """SHA-256 of a file; None if it is not there."""
    return checksum(path) if path.is_file() else None


def listed(names: Collection[str], most: int = 8) -> str:
    """Names for a message, the first few."""
    shown = list(names)[:most]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")


def place_faults(folder: Path, replace: bool, is_own: Callable[[Path], bool], mark: str) -> list[str]:
    """What is wrong with the folder that a command is to make, a line each.

    Args:
        folder: where to.
        replace: whether what an earlier run of the command made there may go.
        is_own: whether a folder is such.
        mark: what says so, for messages.
    """
    if folder.is_file():
        return [f"output {folder} is a file; name a new folder."]
    if not folder.exists() or not any(folder.iterdir()):
        return []
    if not replace:
        return [f"output {folder} is not empty; name a new folder, or pass --replace true."]
    if is_own(folder):
        return []
    return [f"output {folder} holds no {mark}, so this command did not make it; it is not replaced."]
