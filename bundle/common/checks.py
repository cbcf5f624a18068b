"""Checksums, and names in a sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
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
