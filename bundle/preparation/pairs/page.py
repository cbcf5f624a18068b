"""The two pages of data preparation: regions to approve, and the dataset as it was made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from bundle.common import palette
from bundle.common.charts import CHANNELS, STYLE, WIDTH_INCHES, as_svg
from bundle.common.html import Chart, fill, reduced, scale_bar
from bundle.images.parts import dilated
from bundle.preparation.pairs.normalisation import BACKGROUND_INTENSITY, BONE_INTENSITY, SourceScale
from bundle.preparation.pairs.outliers import outliers

if TYPE_CHECKING:
    from bundle.preparation.pairs.prepared import Prepared
    from bundle.preparation.pairs.registered import PairImages
    from bundle.preparation.pairs.rois import Rois

BINS = 96
MOST_CLIPPED = 0.01
SHOWN_PX = 640.0  # width of a picture on the page; outlines are drawn for that


def outlined(image: np.ndarray, area: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Draw the outline of an area, just outside it and thick enough to be seen when reduced.

    Args:
        image: (3, H, W), uint8.
        area: (H, W), bool.
        colour: RGB.

    Returns:
        uint8 of the same shape.
    """
    line = dilated(area, max(1.0, 1.5 * image.shape[2] / SHOWN_PX)) & ~area
    return np.where(line, np.array(colour, np.uint8)[:, None, None], image)


def shown_source(source: np.ndarray, background: float, bone: float) -> np.ndarray:
    """A scan for the eye: background dark grey, bone light grey, (H, W) → (3, H, W) uint8."""
    low, high = background - 0.25 * (bone - background), background + 1.5 * (bone - background)
    grey = np.clip((source.astype(np.float32) - low) * (255 / max(high - low, 1e-12)), 0, 255)
    return np.repeat(np.nan_to_num(grey).astype(np.uint8)[None], 3, axis=0)


def histogram(panels: Mapping[str, Mapping[str, tuple[np.ndarray, str]]], unit: str, name: str, about: str) -> Markup:
    """Histograms in panels one below the other.

    Args:
        panels: by title, by label the values (N,) and a colour.
        unit: heading of the horizontal axis.
        name: unique on the page.
        about: read out to who cannot see it.

    Returns:
        SVG.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, 0.6 + 1.1 * len(panels)), layout="constrained")
        for axes, (title, curves) in zip(np.ravel(figure.subplots(len(panels), 1)), panels.items(), strict=True):
            every = np.concatenate([values for values, _ in curves.values()])
            low, high = np.percentile(every, (0.05, 99.95)) if every.size else (0.0, 1.0)
            edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
            for label, (values, colour) in curves.items():
                counts = np.histogram(values, edges)[0] / max(values.size, 1)
                axes.stairs(100 * counts, edges, color=colour, linewidth=1.0, label=label)
            axes.set_title(title, fontsize=8, loc="left", pad=2)
            axes.set_ylim(bottom=0)
            axes.legend(fontsize=7, handlelength=1.0)
        axes.set_xlabel(unit)
        figure.supylabel("share of pixels (%)", fontsize=8)
        return as_svg(figure, name, about)


def roi_section(name: str, images: PairImages, rois: Mapping[str, Rois], pixel_um: float) -> dict[str, Any]:
    """Regions of one pair on both images, the means they give, histograms.

    Args:
        name: of the pair.
        images: as registered.
        rois: of ``source`` and ``target``; a region may be empty.
        pixel_um: pixel size, µm.

    Returns:
        What the page of regions shows of it.
    """
    source, target = images.source, images.target
    scale = rois["source"].means or SourceScale(
        *(_mean(source, area, fallback) for area, fallback in _areas(images, rois["source"]))
    )
    pictures = {"source": shown_source(source, scale.background, scale.bone), "target": target}
    figures = []
    for key, picture in pictures.items():
        for area, colour in ((rois[key].bone, palette.BONE_REGION), (rois[key].background, palette.BACKGROUND_REGION)):
            picture = outlined(picture, area, colour)
        bar = scale_bar(picture.shape[2], pixel_um) if key == "source" else None
        figures.append(reduced(picture, f"{key} of {name} with regions", f"{key}: {rois[key].origin}", bar))
    colours = {"bone": palette.BONE, "background": palette.BACKGROUND}
    grey = {"all": (source[images.field], palette.ALL)} | {
        label: (source[area], colours[label]) for label, area in _named(rois["source"]) if area.any()
    }
    brightness = target.mean(axis=0)
    light = {"all": (brightness[images.field], palette.ALL)} | {
        label: (brightness[area], colours[label]) for label, area in _named(rois["target"]) if area.any()
    }
    charts = [
        Chart(
            histogram({"source": grey}, "the scan’s grey values", f"s-{name}", f"{name}: source"), "Source by region."
        ),
        Chart(histogram({"target": light}, "mean of RGB", f"t-{name}", f"{name}: target"), "Target by region."),
    ]
    return {"name": name, "pictures": figures, "means": list(_means(images, rois)), "charts": charts}


def _areas(images: PairImages, rois: Rois) -> list[tuple[np.ndarray, float]]:
    """Bone and background with what stands in for an empty one: the brightest and darkest of the slice."""
    low, high = np.percentile(images.source[images.field], (0.5, 98))
    return [(rois.bone, float(high)), (rois.background, float(low))]


def _mean(source: np.ndarray, area: np.ndarray, fallback: float) -> float:
    return float(source[area].mean(dtype=np.float64)) if area.any() else fallback


def _named(rois: Rois) -> list[tuple[str, np.ndarray]]:
    return [("bone", rois.bone), ("background", rois.background)]


def _means(images: PairImages, rois: Mapping[str, Rois]) -> Iterable[tuple[str, str]]:
    scale = rois["source"].means
    for label, area in _named(rois["source"]):
        if scale is not None:
            yield f"source, {label}", f"mean {getattr(scale, label):g}, given in {rois['source'].origin}"
        elif area.any():
            values = images.source[area]
            yield (
                f"source, {label}",
                f"mean {values.mean():.5g}, standard deviation {values.std():.4g}, {area.sum()} px",
            )
        else:
            yield f"source, {label}", "not found"
    for label, area in _named(rois["target"]):
        rgb = images.target[:, area]
        found = f"mean RGB {', '.join(f'{value:.0f}' for value in rgb.mean(1))}, {area.sum()} px" if area.any() else ""
        yield f"target, {label}", found or "not found"


def rois_page(name: str, sections: Sequence[Mapping[str, Any]], faults: Sequence[str]) -> str:
    """The page of regions to approve.

    Args:
        name: of the folder of pairs.
        sections: from :func:`roi_section`.
        faults: what is in the way.

    Returns:
        HTML that loads nothing.
    """
    return fill(
        "preparation/templates/regions.html",
        {"title": f"Regions: {name}", "name": name, "pairs": sections, "faults": faults},
    )


def pair_section(
    name: str, images: PairImages, made: Prepared, row: Mapping[str, Any], pixel_um: float
) -> dict[str, Any]:
    """One pair of the dataset page: pictures with the mask's outline, constants, histograms before and after."""
    source = outlined(shown_source(made.source, BACKGROUND_INTENSITY, BONE_INTENSITY), made.mask, palette.MASK)
    figures = [
        reduced(source, f"source of {name}", "source, normalised; mask outlined", scale_bar(source.shape[2], pixel_um)),
        reduced(images.target, f"target of {name}, as registered", "target as registered"),
        reduced(
            outlined(made.target, made.mask, palette.MASK), f"target of {name}", "target, normalised; mask outlined"
        ),
    ]
    inside = images.field
    grey = {
        "source before": {"in the field": (images.source[inside], palette.GREY_VALUES)},
        "source after": {"in the field": (made.source[inside], palette.GREY_VALUES)},
    }
    colour = {
        f"target {when}": {
            label: (image[number][inside], shade)
            for number, (label, shade) in enumerate(zip(CHANNELS, palette.RED_GREEN_BLUE, strict=True))
        }
        for when, image in (("before", images.target), ("after", made.target))
    }
    charts = [
        Chart(
            histogram(grey, "grey value", f"s-{name}", f"{name}: source before and after"), "Source before and after."
        ),
        Chart(histogram(colour, "0–255", f"t-{name}", f"{name}: target before and after"), "Target before and after."),
    ]
    return {"name": name, "pictures": figures, "constants": list(_constants(made.facts, row)), "charts": charts}


def _constants(facts: Mapping[str, Any], row: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    place = [f"specimen {row['specimen']}", row["group"] or "no group", row["split"]]
    yield "place", ", ".join([*place, *([f"fold {row['fold']}"] if row["fold"] is not None else [])])
    stated = {key.replace("_", " "): value for key, value in facts["registration"].items() if value != ""}
    words = (f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in stated.items())
    yield "registration", ", ".join(words)
    yield "regions", ", ".join(f"{image}: {origin}" for image, origin in facts["rois"].items())
    yield "µCT", f"bone {facts['source']['bone']:.6g} → 30000, background {facts['source']['background']:.6g} → 10000"
    stain = facts["stain"]
    gains = ", ".join(f"{gain:.3f}" for gain in stain["gains"])
    yield "stain", f"white balance × {gains} (RGB); {stain['f_min']:.1f} → 0, {stain['f_max']:.1f} → 255"
    flag = Markup(" <strong>(more than 1 %)</strong>") if facts["source_clipped"] > MOST_CLIPPED else ""
    yield (
        "clipped",
        f"µCT {facts['source_clipped']:.2%}"
        + flag
        + f"; stain {facts['stain_clipped']:.2%} (the black screw is among it), "
        f"of the bone region {facts['bone_clipped']:.2%}",
    )
    (rg, bg), (rg_after, bg_after) = facts["bone_rg_bg_before"], facts["bone_rg_bg_after"]
    yield "bone’s colour", f"R/G {rg:.2f} → {rg_after:.2f}, B/G {bg:.2f} → {bg_after:.2f} by the stretch"
    yield "mask", f"{facts['mask_share']:.0%} of the image"


def dataset_page(
    name: str,
    record: Mapping[str, Any],
    rows: Mapping[str, Mapping[str, Any]],
    sections: Mapping[str, Mapping[str, Any]],
) -> str:
    """The page of a prepared dataset.

    Args:
        name: of the dataset.
        record: what ``preparation.json`` holds.
        rows: specimen, group, split and fold of each pair.
        sections: from :func:`pair_section`, by pair.

    Returns:
        HTML that loads nothing.
    """
    pairs = record["pairs"]
    counts = {split: sum(row["split"] == split for row in rows.values()) for split in ("training", "testing")}
    clipped = [
        f"{pair}: {facts['source_clipped']:.1%} of the µCT is clipped at 0 or 65535: metal, or wrong regions."
        for pair, facts in pairs.items()
        if facts["source_clipped"] > MOST_CLIPPED
    ]
    flags = outliers({pair: facts["measures"] for pair, facts in pairs.items()}) + clipped
    lines = [
        [
            Markup('<a href="#pair-{0}">{0}</a>').format(pair),
            rows[pair]["group"] or "",
            rows[pair]["split"],
            *(
                f"{facts['measures'][key]:.3f}" if key in facts["measures"] else "not stated"
                for key in ("mutual_information", "shear")
            ),
            f"{facts['source_clipped']:.2%}",
            "\N{NO-BREAK SPACE}".join(f"{facts['measures'][f'bone_{channel}']:.0f}" for channel in CHANNELS),
            f"{facts['mask_share']:.0%}",
        ]
        for pair, facts in pairs.items()
    ]
    values = {
        "title": f"Dataset: {name}",
        "record": record,
        "counts": counts,
        "flags": flags,
        "lines": lines,
        "pairs": list(sections.values()),
    }
    return fill("preparation/templates/dataset.html", values)
