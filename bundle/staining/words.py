"""How a record of what was stained is told on a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from bundle.common.places import is_remote, remote

NOT = "not recorded"


def when(record: Mapping[str, Any]) -> str:
    """``24 November 2026, 12:10 +0000``."""
    if not record.get("started"):
        return f"date {NOT}"
    return datetime.strptime(record["started"], "%Y-%m-%dT%H:%M:%S%z").strftime("%-d %B %Y, %H:%M %z")


def trained_on(record: Mapping[str, Any]) -> str:
    """``paired, 6 pairs, pixels of 5 µm``: whatever is there."""
    trained = record.get("trained_on") or {}
    parts = [str(trained["method"])] if "method" in trained else []
    parts += [f"{trained['pairs']} pairs"] if "pairs" in trained else []
    um = record.get("model_pixel_um")
    return ", ".join(parts + ([f"pixels of {um:g} µm"] if um else []))


def spent(record: Mapping[str, Any]) -> str:
    """``1234 s staining 512 slices, 40 s of it reading``: whatever is there, with its name."""
    told = record.get("spent") or {}
    seconds = [
        f"{name.removesuffix('seconds').rstrip('_').replace('_', ' ') or 'staining'} {value:g} s"
        for name, value in told.items()
        if name.endswith("seconds")
    ]
    counts = [f"{value:g} {name.replace('_', ' ')}" for name, value in told.items() if not name.endswith("seconds")]
    return "; ".join(part for part in (", ".join(seconds), ", ".join(counts)) if part)


def size_of(path: Path) -> str:
    """What a file or folder takes on the disk."""
    files = [] if is_remote(path) else path.rglob("*") if path.is_dir() else [path]
    total = remote(path).total() if is_remote(path) else sum(file.stat().st_size for file in files if file.is_file())
    return (
        f"{total / 1e9:.2f} GB"
        if total >= 1e9
        else f"{total / 1e6:.1f} MB"
        if total >= 1e5
        else f"{total / 1e3:.1f} kB"
    )


def times(sizes: Sequence[float]) -> str:
    """``640 × 480``."""
    return " × ".join(f"{size:g}" for size in sizes)


def get(record: Mapping[str, Any], name: str, without: Any = None) -> Any:
    """A value by its dotted name."""
    for part in name.split("."):
        record = record.get(part) if isinstance(record, Mapping) else None  # type: ignore[assignment]
    return without if record is None else record
