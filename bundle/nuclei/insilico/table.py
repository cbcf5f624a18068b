"""What in-silico images came out as: their table, and what each edit did to the stains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bundle.nuclei.insilico.morphology import Morphology

INPUT, UNEDITED = "(input)", "(unedited)"  # no variant can be called so
MEASURES = ("overlap", "dice", "denser_nuclei")
ROW_COLUMNS = ("tile", "variant", "specimen", "split", "nuclei", *MEASURES, "distance", "kept", "reason")
STAIN_COLUMNS = ("hematoxylin_od", "dab_od")
EDIT_COLUMNS = ("variant", "tiles", *STAIN_COLUMNS, "hematoxylin_ratio", "dab_ratio", "hematoxylin_per_dab")
LEAST_CHANGE = 0.1  # of DAB's ratio, for a leak to be told from rounding
LEAST_OD = 0.01  # mean density of an unedited image below which a ratio to it says nothing; 6 grey levels of 255


@dataclass(frozen=True)
class Row:
    """One image.

    Attributes:
        tile: its name.
        variant: its name, ``(input)`` or ``(unedited)``.
        specimen: of the tile.
        split: of the tile.
        morphology: of its nuclei; None if it was not made.
        distance: from the images of the training; None if it is not known.
        stains: mean optical density of hematoxylin and DAB over the tissue; empty if it was not made.
        reason: why it is left out; empty if it is in the dataset.
        kept: whether it is in the dataset.
    """

    tile: str
    variant: str
    specimen: str
    split: str
    morphology: Morphology | None
    distance: float | None
    stains: Mapping[str, float]
    reason: str
    kept: bool

    def listed(self) -> dict[str, object]:
        """As a line of ``morphology.csv``."""
        found = self.morphology
        measures = (
            dict.fromkeys(("nuclei", *MEASURES), "")
            if found is None
            else {"nuclei": found.nuclei} | {name: f"{getattr(found, name):.4f}" for name in MEASURES}
        )
        place = {"tile": self.tile, "variant": self.variant, "specimen": self.specimen, "split": self.split}
        kept = "" if self.variant in (INPUT, UNEDITED) else "yes" if self.kept else "no"
        stains = {
            f"{name.lower()}_od": f"{self.stains[name]:.5f}" if self.stains else "" for name in ("hematoxylin", "DAB")
        }
        distance = {"distance": "" if self.distance is None else f"{self.distance:.3f}"}
        return {**place, **measures, **distance, **stains, "kept": kept, "reason": self.reason}


def effects(rows: Sequence[Row], reference: str) -> list[dict[str, object]]:
    """What each variant's edits did to the regenerated stains: medians over all tiles, kept or not.

    A ratio is the mean density over the unedited image's tissue by that of the unedited image of the same tile.
    ``hematoxylin_per_dab`` is |ratio of hematoxylin − 1| / |ratio of DAB − 1| of these medians: how much of an edit of
    the DAB's channel leaks into the counterstain. It is given where DAB changes by a tenth or more.

    Args:
        rows: of all images.
        reference: the variant without edits.

    Returns:
        A line for each variant, in order; None where there is nothing to divide by.
    """
    made = [row for row in rows if row.stains]
    plain = {row.tile: row.stains for row in made if row.variant == reference}
    lines = []
    for variant in dict.fromkeys(row.variant for row in made):
        own = [row for row in made if row.variant == variant]
        line: dict[str, object] = {"variant": variant, "tiles": len(own)}
        ratios: dict[str, float | None] = {}
        for stain in ("hematoxylin", "DAB"):
            pairs = [(row.stains[stain], plain[row.tile][stain]) for row in own]
            ratios[stain] = median([after / before for after, before in pairs if before >= LEAST_OD])
            line[f"{stain.lower()}_od"] = median([after for after, _ in pairs])
            line[f"{stain.lower()}_ratio"] = ratios[stain]
        hematoxylin, dab = ratios["hematoxylin"], ratios["DAB"]
        line["hematoxylin_per_dab"] = None
        if hematoxylin is not None and dab is not None and abs(dab - 1) >= LEAST_CHANGE:
            line["hematoxylin_per_dab"] = abs(hematoxylin - 1) / abs(dab - 1)
        lines.append(line)
    return lines


def median(values: Sequence[float]) -> float | None:
    """Of the finite ones; None if there are none."""
    finite = [value for value in values if np.isfinite(value)]
    return float(np.median(finite)) if finite else None


def summary(rows: Sequence[Row], reference: str) -> str:
    """A short table for the screen: how many images of each variant are kept, and their stains by the unedited ones."""
    lines = effects(rows, reference)
    width = max(len(str(line["variant"])) for line in lines)
    table = [f"{'':{width}}  {'kept':>9}  {'hematoxylin':>11}  {'DAB':>6}  (× the unedited, median over tiles)"]
    for line in lines:
        own = [row for row in rows if row.variant == line["variant"]]
        kept = "" if line["variant"] in (INPUT, UNEDITED) else f"{sum(row.kept for row in own)}/{len(own)}"
        found: list[Any] = [line[name] for name in ("hematoxylin_ratio", "dab_ratio")]
        ratios = ["–" if ratio is None else f"{round(ratio, 2) + 0.0:.2f}" for ratio in found]  # no -0.00
        table.append(f"{line['variant']:{width}}  {kept:>9}  {ratios[0]:>11}  {ratios[1]:>6}")
    return "\n".join(table)
