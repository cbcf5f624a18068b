"""Charts as inline SVG: box plots, losses, histograms, profiles."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bundle.common.html import Key
from bundle.common.palette import EACH, GENERATED, HATCHED, HEAT, MEDIAN, REAL, SERIES

LINES = ("-", "--", "-.", ":")
HATCHES = (None, "///", "xxx", "...")  # when there are more boxes than colours
MOST_BOXES = 2 * len(SERIES)  # in one group; more cannot be told apart
CHANNELS = ("red", "green", "blue")
WIDTH_INCHES = 3.9  # shown at the width of a phone, 8 points are then some 10 px
POINTS = 80  # of a loss curve
# no generator to name, no date: the same folder gives the same page
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "text.parse_math": False,  # names are told as they are
}


def heat_bar(label: str) -> Key:
    """The colours of differences and errors, from none on the left, with what they mean.

    Args:
        label: what they go up to.
    """
    shades = matplotlib.colormaps[HEAT](np.linspace(0, 1, 9))
    stops = ", ".join(matplotlib.colors.to_hex(shade) for shade in shades)
    return Key("heat", f"background:linear-gradient(to right, {stops})", label)


def as_svg(figure: Figure, name: str, description: str) -> Markup:
    """A figure as an SVG element that can stand beside others on one page.

    Args:
        figure: made within :data:`STYLE`.
        name: unique on the page; becomes the prefix of every id.
        description: read out to who cannot see it.

    Returns:
        ``<svg …>…</svg>`` without a size of its own; Matplotlib escapes its text.
    """
    prefix = re.sub(r"[^\w-]", lambda character: f"_{ord(character[0]):x}_", name)  # a name may be a folder's
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)  # an HTML parser knows them
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", text)
    text = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" role="img" aria-label="@">', text, count=1)
    return Markup(text.replace('aria-label="@"', f'aria-label="{escape(description)}"', 1).strip())


def box_plot(values: Mapping[str, Mapping[str, np.ndarray]], heading: str, name: str) -> Markup:
    """Boxes of one metric: groups are splits, boxes are rows (Fig. 7).

    Args:
        values: by split and row, finite.
        heading: of the axis.
        name: see :func:`as_svg`.

    Returns:
        SVG. A box is the quartiles, the line in it the median, whiskers the 5th and 95th percentile.
    """
    rows = list(dict.fromkeys(row for group in values.values() for row in group))
    step = 1 / (len(rows) + 1)
    with matplotlib.rc_context(STYLE):
        longest = max(map(len, rows))
        columns = 3 if longest <= 16 else 2 if longest <= 28 else 1
        figure = Figure(figsize=(WIDTH_INCHES, 2.6 + 0.15 * -(-len(rows) // columns)), layout="constrained")
        axes = figure.add_subplot()
        for number, row in enumerate(rows):
            colour, hatch = SERIES[number % len(SERIES)], HATCHES[number // len(SERIES)]
            groups = [place for place, group in enumerate(values.values()) if row in group]
            boxes = axes.boxplot(
                [group[row] for group in values.values() if row in group],
                positions=[place + (rows.index(row) - (len(rows) - 1) / 2) * step for place in groups],
                widths=0.8 * step,
                whis=(5, 95),
                showfliers=False,
                patch_artist=True,
                medianprops={"color": MEDIAN, "linewidth": 1.0},
                boxprops={"facecolor": HATCHED if hatch else colour, "edgecolor": colour, "hatch": hatch},
                whiskerprops={"color": colour},
                capprops={"color": colour},
            )
            boxes["boxes"][0].set_label(_told(row))
        axes.set_xticks(range(len(values)), list(values))
        axes.set_xlim(-0.5, len(values) - 0.5)
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel(heading)
        axes.grid(axis="y", linewidth=0.4, alpha=0.5)
        axes.set_axisbelow(True)
        figure.legend(loc="outside lower center", ncols=columns, columnspacing=1.0, handlelength=1.0)
        return as_svg(figure, name, f"Box plots of {heading} by split: {', '.join(rows)}.")


def _told(label: str) -> str:
    """A label as a legend shows it: Matplotlib hides what begins with an underscore."""
    return f"\u200b{label}" if label.startswith("_") else label


def smoothed(curve: np.ndarray) -> np.ndarray:
    """Means over equal windows of steps, so that at most ``POINTS`` remain.

    Args:
        curve: (2, N), steps and values.

    Returns:
        (2, at most POINTS): the last step of each window, and the mean in it.
    """
    size = -(-curve.shape[1] // POINTS)
    ends = np.arange(0, curve.shape[1], size)
    counts = np.diff([*ends, curve.shape[1]])
    return np.stack([curve[0, ends + counts - 1], np.add.reduceat(curve[1], ends) / counts])


def line_chart(curves: Mapping[str, np.ndarray], heading: str, name: str) -> Markup:
    """Losses over the steps of a run.

    Args:
        curves: by label, (2, N), steps and values.
        heading: of the vertical axis.
        name: see :func:`as_svg`.

    Returns:
        SVG.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _over("step", heading)
        for number, (label, curve) in enumerate(curves.items()):
            colour, line = SERIES[number % len(SERIES)], LINES[number % len(LINES)]
            axes.plot(*smoothed(curve), color=colour, linestyle=line, label=_told(label))
        axes.set_ylim(bottom=min(0.0, *(float(smoothed(curve)[1].min()) for curve in curves.values())))
        if len(curves) > 1:
            figure.legend(loc="outside lower center", ncols=3, columnspacing=1.0)
        return as_svg(figure, name, f"{heading} over the steps: {', '.join(curves)}.")


def _over(progress: str, heading: str) -> tuple[Figure, Any]:
    """An empty chart of something over the steps or epochs of a run."""
    figure = Figure(figsize=(WIDTH_INCHES, 2.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(progress)
    axes.set_ylabel(heading)
    axes.grid(linewidth=0.4, alpha=0.5)
    return figure, axes


def metric_chart(slides: Sequence[np.ndarray], mean: np.ndarray, best: int, heading: str, name: str) -> Markup:
    """A metric of the validation slides over the epochs of a run.

    Args:
        slides: (2, N) each, epochs and values of a slide.
        mean: (2, N), over the slides.
        best: the epoch of the best mean.
        heading: of the vertical axis.
        name: see :func:`as_svg`.

    Returns:
        SVG.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _over("epoch", heading)
        for curve in slides:
            axes.plot(*curve, color=EACH, linewidth=0.6)
        axes.plot(*mean, color=SERIES[0], marker="o", markersize=2.5)
        axes.plot(best, mean[1, mean[0] == best], color=GENERATED, marker="o", markersize=6, fillstyle="none")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return as_svg(figure, name, f"{heading} of the validation slides over the epochs; best after epoch {best}.")


def point_chart(curves: Mapping[str, Mapping[float, float]], axis: str, heading: str, name: str) -> Markup:
    """A metric at a few settings, one line a method; the settings stand at equal distances.

    Args:
        curves: by label, the value at each x, ascending.
        axis: heading of the horizontal axis.
        heading: of the vertical axis.
        name: see :func:`as_svg`.

    Returns:
        SVG.
    """
    places = sorted({x for points in curves.values() for x in points})
    marks = "osD^vP"
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, 2.8), layout="constrained")
        axes = figure.add_subplot()
        for number, (label, points) in enumerate(curves.items()):
            axes.plot(
                [places.index(x) for x in points],
                list(points.values()),
                color=SERIES[number % len(SERIES)],
                linestyle=LINES[number % len(LINES)],
                marker=marks[number % len(marks)],
                markersize=4,
                label=_told(label),
            )
        axes.set_xticks(range(len(places)), [f"{x:g}" for x in places])
        axes.set_xlabel(axis)
        axes.set_ylabel(heading)
        axes.grid(linewidth=0.4, alpha=0.5)
        figure.legend(loc="outside lower center", ncols=3, columnspacing=1.0)
        return as_svg(figure, name, f"{heading} by {axis}: {', '.join(curves)}.")


def kept_chart(curves: Mapping[str, Mapping[float, tuple[float, float]]], name: str) -> Markup:
    """Mean error of what is kept, over how much that is.

    Args:
        curves: by label, for each share kept, 0 to 1, the error and the least that it could be.
        name: see :func:`as_svg`.

    Returns:
        SVG; the least is dashed.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _over("share of the windows that is kept (%)", "mean error (levels of 255)")
        for number, (label, points) in enumerate(curves.items()):
            shares = [100 * share for share in points]
            found, least = zip(*points.values(), strict=True)
            colour = SERIES[number % len(SERIES)]
            axes.plot(shares, found, color=colour, marker="o", markersize=2.5, label=_told(label))
            axes.plot(shares, least, color=colour, linestyle="--", linewidth=0.8)
        axes.invert_xaxis()
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside lower center", ncols=3, columnspacing=1.0)
        return as_svg(figure, name, f"Mean error over the share of windows kept: {', '.join(curves)}.")


def histogram_chart(generated: np.ndarray, real: np.ndarray, name: str) -> Markup:
    """RGB histograms of a region, generated and real (Fig. 5).

    Args:
        generated: (3, bins), shares.
        real: likewise.
        name: see :func:`as_svg`.

    Returns:
        SVG, a panel a channel.
    """
    edges = np.linspace(0, 256, generated.shape[1] + 1)
    with matplotlib.rc_context(STYLE):
        figure, panels = _three_panels()
        for axes, made, true in zip(panels, generated, real, strict=True):
            axes.stairs(100 * true, edges, color=REAL, fill=True, alpha=0.15)
            axes.stairs(100 * true, edges, color=REAL, linewidth=0.9, linestyle="--", label="real")
            axes.stairs(100 * made, edges, color=GENERATED, linewidth=1.2, label="generated")
            axes.set_ylim(bottom=0)
        panels[-1].set_xlim(0, 256)
        panels[-1].set_xticks(range(0, 257, 64))
        panels[-1].set_xlabel("intensity (0–255)")
        figure.supylabel("share of pixels (%)", fontsize=8)
        return _with_legend(figure, panels, name, "Histograms of red, green and blue, generated and real.")


def profile_chart(generated: np.ndarray, real: np.ndarray, pixel_um: float | None, name: str) -> Markup:
    """Intensities along a line, generated and real (Fig. 5).

    Args:
        generated: (3, W), NaN where there is nothing to compare.
        real: likewise.
        pixel_um: pixel size in µm; None puts pixels on the axis.
        name: see :func:`as_svg`.

    Returns:
        SVG, a panel a channel.
    """
    along = (np.arange(generated.shape[1]) + 0.5) * (pixel_um or 1)
    with matplotlib.rc_context(STYLE):
        figure, panels = _three_panels()
        for axes, made, true in zip(panels, generated, real, strict=True):
            axes.plot(along, true, color=REAL, linewidth=0.9, linestyle="--", label="real")
            axes.plot(along, made, color=GENERATED, linewidth=1.2, label="generated")
            axes.set_ylim(-6, 261)
            axes.set_yticks((0, 128, 255))
        panels[-1].set_xlim(0, generated.shape[1] * (pixel_um or 1))
        panels[-1].set_xlabel(f"distance along the line ({'µm' if pixel_um else 'px'})")
        figure.supylabel("intensity (0–255)", fontsize=8)
        return _with_legend(figure, panels, name, "Intensity profiles of red, green and blue, generated and real.")


def _three_panels() -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(WIDTH_INCHES, 3.2), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    for axes, channel in zip(panels, CHANNELS, strict=True):
        axes.set_title(channel, fontsize=8, loc="left", pad=2)
    return figure, panels


def _with_legend(figure: Figure, panels: np.ndarray, name: str, description: str) -> Markup:
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=2)
    return as_svg(figure, name, description)
