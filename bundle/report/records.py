"""What a run leaves in its folder, by name, and how to read it back."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common import run_folder
from bundle.common.checks import sha256_of
from bundle.evaluation import trust
from bundle.evaluation.tables import NOT, ROWS, VALIDATION

SHOWN_SPLITS = ("testing", "validation", "training")  # what was never trained on comes first
PANELS = ("source", "generated", "real", "mask", "difference", "unmasked", "colour_table")
PERFECT = "perfect"  # a panel where the perfect stain is known
EXPECTED = "expected_error"  # likewise, where the network says it of the slide
PATCH_PANELS = ("source", "generated", "mask", "real", "generated_source")
SAME_SPECIMEN = "This dataset allows one specimen in more than one split (allow_same_specimen)."

Table = list[dict[str, str]]


@dataclass(frozen=True)
class Record:
    """What a run folder holds; what is not there is empty.

    Attributes:
        folder: the run's ``output_dir``.
        training: ``provenance.json``.
        config: ``config.json``, the config as it was merged.
        metadata: ``bundle/configs/metadata.json`` of the trained bundle.
        evaluation: ``evaluation/provenance.json``.
        summary: ``evaluation/summary.csv``; likewise ``patches``, ``slides`` and ``truth``.
        trust: ``evaluation/trust.csv``, numbers as numbers, None where there is none; likewise ``abstention``.
        validation: ``validation.csv``, numbers as numbers, None where a metric was not computed.
        unpaired: ``evaluation/summary.json`` of an unpaired evaluation.
        regions: ``evaluation/labelling.csv``, likewise.
        losses: by TensorBoard tag, (2, N): steps and values.
        sample: the newest picture of ``samples/``.
        model_sha256: of ``bundle/models/model.pt``.
    """

    folder: Path
    training: dict[str, Any]
    config: dict[str, Any]
    metadata: dict[str, Any]
    evaluation: dict[str, Any]
    summary: Table
    patches: Table
    slides: Table
    truth: Table
    trust: list[dict[str, Any]]
    abstention: list[dict[str, Any]]
    validation: list[dict[str, Any]]
    unpaired: dict[str, Any]
    regions: Table
    losses: dict[str, np.ndarray]
    sample: Path | None
    model_sha256: str | None

    @property
    def caveat(self) -> str:
        """What every report on this dataset repeats; empty if there is nothing to say."""
        said = self.evaluation.get("caveat") or self.metadata.get("trained_on", {}).get("caveat")
        allowed = self.evaluation.get("allow_same_specimen") or self.training.get("allow_same_specimen")
        return said or (SAME_SPECIMEN if allowed else "")

    def slides_of(self, split: str) -> list[dict[str, str]]:
        """The measured slides of a split, the network's line of ``slides.csv`` for each."""
        return [line for line in self.slides if line["split"] == split and line["row"] == ROWS[0]]

    def slide_folder(self, name: str) -> Path:
        """Where the panels of a slide lie."""
        return self.folder / "evaluation" / "slides" / name


def read_record(output_dir: str | Path) -> Record:
    """Read a run folder; anything in it may be missing.

    Args:
        output_dir: a run's folder, finished or not, or a folder that only an evaluation wrote to.

    Returns:
        What is there.
    """
    folder = Path(output_dir)
    measured = folder / "evaluation"
    samples = sorted((folder / "samples").glob("epoch_*.png"))
    return Record(
        folder=folder,
        training=_read_json(folder / "provenance.json"),
        config=_read_json(folder / "config.json"),
        metadata=_read_json(folder / "bundle" / "configs" / "metadata.json"),
        evaluation=_read_json(measured / "provenance.json"),
        summary=_read_csv(measured / "summary.csv"),
        patches=_read_csv(measured / "patches.csv"),
        slides=_read_csv(measured / "slides.csv"),
        truth=_read_csv(measured / "truth.csv"),
        trust=[_with_numbers(line) for line in _read_csv(measured / trust.TABLE)],
        abstention=[_with_numbers(line) for line in _read_csv(measured / trust.CURVE)],
        validation=[numbers(line) for line in _read_csv(folder / VALIDATION)],
        unpaired=_read_json(measured / "summary.json"),
        regions=_read_csv(measured / "labelling.csv"),
        losses=read_losses(folder / "tensorboard"),
        sample=samples[-1] if samples else None,
        model_sha256=sha256_of(folder / "bundle" / "models" / "model.pt"),
    )


def read_losses(folder: Path) -> dict[str, np.ndarray]:
    """Read the scalars of TensorBoard's event files.

    A run that was killed and resumed repeats some steps; the later value counts.

    Args:
        folder: of the event files.

    Returns:
        By tag, (2, N): steps and values.
    """
    if not any(folder.glob("events.*")):
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # not needed to train or stain

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 1}, purge_orphaned_data=False)
    events.Reload()
    losses = {}
    for tag in events.Tags()["scalars"]:
        latest = {event.step: event.value for event in events.Scalars(tag)}
        losses[tag] = np.array(sorted(latest.items())).T
    return losses


def _read_json(path: Path) -> dict[str, Any]:
    return run_folder.read_record(path) if path.is_file() else {}


def _read_csv(path: Path) -> Table:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _with_numbers(line: dict[str, str]) -> dict[str, Any]:
    """A line of a table on trust; what its slide does not have is None."""
    words = {name: text for name, text in line.items() if name in trust.WORDED}
    return words | {name: None if text == NOT else float(text) for name, text in line.items() if name not in words}


def numbers(line: dict[str, str]) -> dict[str, Any]:
    """A line of ``validation.csv``; what does not concern its slide is empty there and left out here."""
    scores = {name: text for name, text in line.items() if name not in ("epoch", "slide") and text}
    numbers = {name: None if text == "not computed" else float(text) for name, text in scores.items()}
    return {"epoch": int(line["epoch"]), "slide": line["slide"], **numbers}
