"""The part of the report that shows slides: whole, a region of each, and patches in both directions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib
import numpy as np

from bundle.common import palette
from bundle.common.charts import heat_bar, histogram_chart, profile_chart
from bundle.common.errors import InputError
from bundle.common.html import Chart, Picture, exact, reduced, scale_bar
from bundle.common.region import Region, spread
from bundle.common.verdicts import DOUBTFUL, UNLIKE, Verdict
from bundle.evaluation.panels import best_region, histograms, profile
from bundle.evaluation.tables import DIGITS, METRICS, NOT, name_of
from bundle.images.slides import read_slide
from bundle.report.records import EXPECTED, PANELS, PATCH_PANELS, PERFECT, SHOWN_SPLITS, Record

LARGE = ("source", "generated", "real")  # what is looked at first; the other panels are folded
SLIDES_SHOWN = 4  # of each split
REGION_PX = 256  # Fig. 5
DIFFERENCE_MAX = 128  # grey levels at the bright end of the colour bar
EXPECTED_MAX = 64  # likewise where an expected error stands beside the difference, which is smaller
HEAT = matplotlib.colormaps[palette.HEAT]
WARNINGS = {
    DOUBTFUL: "; its stain may be wrong",
    UNLIKE: "; its stain may be wrong everywhere, and no error can be expected of it",
}
HEADINGS = {"testing": "Test slide", "validation": "Validation slide", "training": "Training slide"}


def slides(record: Record) -> Iterable[dict[str, Any]]:
    """The first slides of each split: panels, region, histograms and profiles; and how many more there are."""
    for split in SHOWN_SPLITS:
        lines = record.slides_of(split)
        chosen = [lines[place] for place in spread(len(lines), SLIDES_SHOWN)]
        yield {
            "heading": HEADINGS[split],
            "slides": [
                {
                    "name": line["slide"],
                    "about": _about(line),
                    **_likeness(record, line["slide"]),
                    **_slide(record, line["slide"], f"{split}-{number}"),
                }
                for number, line in enumerate(chosen)
            ],
            "rest": len(lines) - len(chosen),
        }


def _about(line: dict[str, str]) -> str:
    scores = _scores(line)
    group = f" ({line['group']})" if line.get("group") else ""
    return f"Specimen {line['specimen']}{group}. Whole slide, network: {scores} (all but LPIPS inside the mask)."


def _likeness(record: Record, name: str) -> dict[str, str]:
    """Whether a slide is like the training data, in words, and the badge of one that is not."""
    line = next((line for line in record.trust if line["slide"] == name), None)
    if line is None:
        return {"likeness": "", "badge": ""}
    warning = WARNINGS.get(line["verdict"], "")
    return {
        "likeness": f"Its source is {Verdict(line['distance'], line['statistics'])}{warning}.",
        "badge": line["verdict"] if warning else "",
    }


def _scores(line: dict[str, str]) -> str:
    parts = []
    for metric in METRICS:
        if line.get(metric, NOT) != NOT:
            number = f"{float(line[metric]):.{DIGITS[metric]}f}".replace("-", "−")
            parts.append(f"{name_of(metric)} {number}{' dB' if metric == 'psnr' else ''}")
    return ", ".join(parts)


def _slide(record: Record, name: str, place: str) -> dict[str, Any]:
    folder = record.slide_folder(name)
    try:
        read = {panel: read_slide(folder / f"{panel}.png") for panel in PANELS}
    except InputError as error:
        return {"fault": str(error)}
    pixel_um = read["source"].pixel_um
    read |= {panel: read_slide(path) for panel in (PERFECT, EXPECTED) if (path := folder / f"{panel}.png").is_file()}
    image = {panel: slide.pixels for panel, slide in read.items()}
    image["source"] = brightened(image["source"])
    height, width = image["source"].shape[1:]
    inside = image["mask"][0] != 0
    region = best_region(inside, REGION_PX)
    frame = region if (region.height, region.width) != (height, width) else None
    panels = _panels(record, image, frame, pixel_um)
    tall = width <= 2 * height
    return {
        "fault": "",
        "kind": "large" if tall else "large across",
        "panels": [panels[name] for name in LARGE if name in panels],
        "more_kind": "slides" if tall else "wide",
        "more": [picture for name, picture in panels.items() if name not in LARGE],
        "region": list(_region(record, image, inside, region, pixel_um)),
        "charts": list(_charts(image, inside, region, pixel_um, place)),
    }


def brightened(image: np.ndarray) -> np.ndarray:
    """A source stretched from its 0.5th to its 99.5th percentile, to be looked at, (C, H, W) uint8."""
    low, high = np.percentile(image, (0.5, 99.5))
    return np.clip((image - low) * (255 / max(high - low, 1)), 0, 255).astype(np.uint8)


def _names(record: Record) -> tuple[str, str]:
    """What the dataset calls its source and its target, else just that."""
    return record.evaluation.get("source", "source"), record.evaluation.get("target", "stain")


def _panels(
    record: Record, image: dict[str, np.ndarray], frame: Region | None, pixel_um: float | None
) -> dict[str, Picture]:
    source, target = _names(record)
    height, width = image["source"].shape[1:]
    scale = scale_bar(width, pixel_um) if pixel_um else None
    captions = {
        "source": f"source: {source}, {width} × {height} px",
        "generated": f"generated {target}",
        "real": f"real {target}",
        "mask": "mask: what may be compared is white",
        EXPECTED: "error to be expected, as the network says without the real stain",
        "difference": "difference |generated − real|, mean of the channels",
        "unmasked": "generated, unmasked",
        "colour_table": "colour table, no network",
        PERFECT: "perfect stain: what a section would show if nothing went wrong",
    }
    captions = {panel: caption for panel, caption in captions.items() if panel in image}
    most = EXPECTED_MAX if record.trust else DIFFERENCE_MAX
    panels = {}
    for panel, caption in captions.items():
        if panel in (EXPECTED, "difference"):
            bar = heat_bar(f"0 to {most} or more of 255")
            panels[panel] = reduced(_heat(image[panel], most), caption, caption, bar)
        else:
            first = panel == "source"
            panels[panel] = reduced(image[panel], caption, caption, scale if first else None, frame if first else None)
    return panels


def _heat(difference: np.ndarray, most: int) -> np.ndarray:
    """(1, H, W) → (3, H, W), uint8, on a scale that is the same for every slide."""
    colours = np.rint(255 * np.array([HEAT(value / most)[:3] for value in range(256)])).astype(np.uint8)
    return colours[difference[0]].transpose(2, 0, 1)


def _region(
    record: Record, image: dict[str, np.ndarray], inside: np.ndarray, region: Region, pixel_um: float | None
) -> Iterable[Picture]:
    source, target = _names(record)
    at = f"region of {region.width} × {region.height} px at left {region.left}, top {region.top} px"
    at = "the whole slide" if (region.height, region.width) == inside.shape else at
    captions = {"source": f"{source}, {at}", "generated": f"generated {target}", "real": f"real {target}"}
    for panel, caption in captions.items():
        scale = scale_bar(region.width, pixel_um) if pixel_um and panel == "source" else None
        yield exact(region.cut(image[panel]), f"{caption}, region", caption, scale, "line")


def _charts(
    image: dict[str, np.ndarray], inside: np.ndarray, region: Region, pixel_um: float | None, place: str
) -> Iterable[Chart]:
    generated, real, compared = (region.cut(each) for each in (image["generated"], image["real"], inside))
    yield Chart(
        histogram_chart(histograms(generated, compared), histograms(real, compared), f"histogram-{place}"),
        "Histograms of the region’s pixels inside the mask.",
    )
    row = region.height // 2
    yield Chart(
        profile_chart(profile(generated, row, compared), profile(real, row, compared), pixel_um, f"profile-{place}"),
        "Profiles along the line between the arrows; gaps are outside the mask.",
    )


def both_ways(record: Record) -> dict[str, Any]:
    """Some scored patches of each split: source to stain, and stain to source (Fig. 4a)."""
    source, target = _names(record)
    splits = {
        HEADINGS[split]: [row for line in record.slides_of(split) for row in _patches(record, line["slide"])]
        for split in SHOWN_SPLITS
    }
    return {
        "source": source,
        "target": target,
        "splits": {heading: rows for heading, rows in splits.items() if rows},
        "reverse": any(
            any(record.slide_folder(line["slide"]).glob("patch_*/generated_source.png")) for line in record.slides
        ),
    }


def _patches(record: Record, slide: str) -> Iterable[dict[str, Any]]:
    source, target = _names(record)
    captions = dict(
        zip(
            PATCH_PANELS,
            (source, f"→ generated {target}", "mask", f"real {target}", f"→ generated {source}"),
            strict=True,
        )
    )
    for folder in sorted(record.slide_folder(slide).glob("patch_*"), key=lambda path: _corner(path.name)):
        top, left = _corner(folder.name)
        read = {name: read_slide(file) for name in PATCH_PANELS if (file := folder / f"{name}.png").is_file()}
        if not read:
            continue
        first = next(iter(read.values()))
        scale = scale_bar(first.pixels.shape[2], first.pixel_um) if first.pixel_um else None
        scored = [
            line
            for line in record.patches
            if (line["slide"], line["row"], int(line["top"]), int(line["left"])) == (slide, "network", top, left)
        ]
        yield {
            "about": f"{slide}, left {left}, top {top} px" + (f": {_scores(scored[0])}" if scored else ""),
            "pictures": [
                exact(slide.pixels, f"{captions[name]}, patch", captions[name], scale if name == "source" else None)
                for name, slide in read.items()
            ],
        }


def _corner(name: str) -> tuple[int, int]:
    """``patch_<top>_<left>`` → (top, left)."""
    _, top, left = name.split("_")
    return int(top), int(left)
