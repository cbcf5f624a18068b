"""The page of a bundle in MONAI's model zoo, in the zoo's order of sections."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.common.run_folder import read_record
from bundle.common.trained_bundle import fingerprint
from bundle.evaluation.tables import HEADINGS, NOT, shown

SHOWN = ("network", "colour table")


def readme(name: str, config: Mapping[str, Any], metadata: Mapping[str, Any], bundle_root: Path) -> str:
    """Markdown.

    Args:
        name: of the bundle in the zoo.
        config: the trained bundle's ``inference.json``.
        metadata: its ``metadata.json``.
        bundle_root: the trained bundle; an evaluation beside it, of the same weights, is quoted.
    """
    source, target = config["source"], config["target"]
    trained = metadata.get("trained_on") or {}
    pairs = trained.get("pairs", "an unknown number of")
    side = config["window"] or 256
    pixel = metadata.get("pixel_um")
    network = config["network_def"]
    arguments = ", ".join(f"{key} {value}" for key, value in network.items() if key != "_target_")
    references = "\n".join(f"- {reference}" for reference in metadata.get("references", []))
    number = source["channels"]
    counted = f"{number} channel{'s' * (number > 1)}"
    several = f" SCAN is a list of {number} files on one grid, one a channel: \"['A','B']\"." if number > 1 else ""
    caveat = f" {trained['caveat']}" if trained.get("caveat") else ""
    return f"""# Model Overview

{metadata["description"]} This one makes {target["name"]} from {source["name"]}, volumes slice by slice.

**{metadata["intended_use"]}**

## Data

- {pairs} registered pairs of slices and stained sections, pixels of {pixel} µm.{caveat}
- Source: {source["name"]}, {counted}, values from {source["range"][0]:g} to {source["range"][1]:g};
  {_levels(source)}
- Target: {target["name"]}, {target["channels"]} channels.

## Training configuration

{trained.get("method", "unknown method")}, checkpoint {trained.get("checkpoint", "unknown")};
network `{network["_target_"]}` ({arguments}).

## Performance

{_performance(bundle_root)}

## MONAI Bundle Commands

Stain a volume (NIfTI, NRRD, MetaImage, a folder with one DICOM series) with MONAI's own parts, `itk` and `scipy`:

```
python -m monai.bundle run inference --config_file configs/inference.json --input SCAN --output_dir STAINED \\
    --bone_intensity B --background_intensity A
```

B and A are the mean grey values of bone and background in SCAN; left out, they are taken to be those of the training
data.{several} The result is an RGB `.nrrd`. Slides, and volumes larger than memory, go through the code in `bundle/`:

```
python -m monai.bundle run inference --config_file configs/slides.json --input SLIDES --output_dir STAINED
python -m monai.bundle run inference --config_file "['configs/slides.json','configs/volume.json']" --input SCAN \\
    --output_dir STAINED
```

Export to TorchScript again:

```
python -m monai.bundle ckpt_export network_def --filepath models/model.ts --ckpt_file models/model.pt \\
    --meta_file configs/metadata.json --config_file configs/inference.json
```

`models/model.onnx`, where it is there, takes one window of {side}×{side} px in [−1, 1].

# References

{references}

# License

{metadata["copyright"]}. Apache License 2.0, see `LICENSE`. Packed as `{name}`, version {metadata["version"]};
SHA-256 of `models/model.pt`: `{fingerprint(bundle_root)}`.
"""


def _levels(source: Mapping[str, Any]) -> str:
    bone, background = source.get("bone_intensity"), source.get("background_intensity")
    if None in (bone, background):
        return "no grey values of bone and background were declared, so scans of another scale cannot be mapped to it."
    return f"scaled so that bone is {bone:g} and background {background:g}."


def measured(bundle_root: Path) -> tuple[list[dict[str, str]], str]:
    """What an evaluation beside the bundle found, if it is of this very model.

    Args:
        bundle_root: the trained bundle.

    Returns:
        The rows of its summary, and why there are none.
    """
    folder = bundle_root.resolve().parent / "evaluation"
    table, record = folder / "summary.csv", folder / "provenance.json"
    if not (table.is_file() and record.is_file()):
        return [], "Not measured: no evaluation lay beside the bundle when it was packed."
    if read_record(record).get("model_sha256") != fingerprint(bundle_root):
        return [], "Not measured: the evaluation beside the bundle was of other weights."
    with table.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["row"] in SHOWN], ""


def _performance(bundle_root: Path) -> str:
    """That as a table."""
    rows, why_not = measured(bundle_root)
    if why_not:
        return why_not
    columns = shown(rows)
    lines = ["Medians over patches; of lacunae and new bone, where they stand, over slides.", ""]
    lines.append("| split | image | patches | " + " | ".join(HEADINGS[metric] for metric in columns) + " |")
    lines.append("|---" * (3 + len(columns)) + "|")
    for row in rows:
        values = [_rounded(row.get(f"{metric}_median", NOT)) for metric in columns]
        lines.append(f"| {row['split']} | {row['row']} | {row['patches']} | {' | '.join(values)} |")
    return "\n".join(lines)


def _rounded(text: str) -> str:
    try:
        return f"{float(text):.2f}"
    except ValueError:
        return text
