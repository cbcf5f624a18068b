"""Where a run's figures come from: commands, code, data, versions, machine."""

from __future__ import annotations

import shlex
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from bundle.common.html import code
from bundle.report.records import Record

Pairs = list[tuple[str, str]]


def trained(record: Record) -> Pairs:
    """What the training came from, and how it ended; empty if that is not recorded."""
    if not record.training:
        return []
    pairs = _origin(record.training)
    for again in record.training.get("resumed", []):
        config = again.get("config_sha256", "not recorded")
        text = f"{date_in_words(again.get('started'))}; code {_code(again)}; config {config}; "
        pairs.append(("resumed", Markup("{}{}").format(text, code(_command(again.get("command", []))))))
    chosen = record.training.get("arithmetic", {})
    if chosen:
        timed = ", ".join(f"{name} {seconds:.3g} s" for name, seconds in chosen["seconds"].items())
        pairs.append(("arithmetic", chosen["chosen"] + (f", the fastest of {timed} a step" if timed else "")))
    if "complete" in record.training:
        ended = "by itself" if record.training["complete"] else "stopped by a signal; --resume true goes on from it"
        pairs.append(("ended", ended))
    trained_on = record.metadata.get("trained_on", {})
    if trained_on:
        number = trained_on.get("pairs")
        seen = trained_on.get("images") or f"{number} pair{'s' * (number != 1)}"
        pairs.append(("deployed", f"{trained_on.get('checkpoint')}.pt, trained on {seen}"))
    return pairs


def measured(record: Record) -> Pairs:
    """What the evaluation came from, as far as it is not the training's; empty if that is not recorded."""
    if not record.evaluation:
        return []
    ids = record.evaluation.get("ids", {})
    pairs = [pair for pair in _origin(record.evaluation) if pair not in _origin(record.training)]
    return [*pairs, ("model", code(ids.get("model_bundle")))]


def _origin(recorded: dict[str, Any]) -> Pairs:
    """Lines that training and evaluation have in common."""
    versions = ", ".join(f"{name} {version}" for name, version in recorded.get("versions", {}).items())
    return [
        ("started", date_in_words(recorded.get("started"))),
        ("command", code(_command(recorded.get("command", [])))),
        ("code", code(_code(recorded))),
        ("config SHA-256", code(recorded.get("config_sha256", "not recorded"))),
        ("dataset", code(recorded.get("dataset_dir", "not recorded"))),
        ("pixel size", f"{recorded['pixel_um']:g} µm" if "pixel_um" in recorded else "not recorded"),
        ("versions", versions or "not recorded"),
        ("machine", recorded.get("machine", "not recorded")),
    ]


def _code(recorded: dict[str, Any]) -> str:
    commit = recorded.get("code") or "not recorded, it ran outside git"
    return f"{commit[:-1]} with local changes" if commit.endswith("+") else commit


def _command(words: list[str]) -> str:
    if words and Path(words[0]).parts[-3:] == ("monai", "bundle", "__main__.py"):
        words = ["python", "-m", "monai.bundle", *words[1:]]
    return " ".join(quoted(word) for word in words) or "not recorded"


def quoted(word: str) -> str:
    """A word as the README writes it: a list of configs in double quotes."""
    return f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word)


def date_in_words(text: str | None) -> str:
    """``2026-11-22T00:56:10+0000`` → ``22 November 2026, 00:56 +0000``."""
    if not text:
        return "not recorded"
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").strftime("%-d %B %Y, %H:%M %z")
