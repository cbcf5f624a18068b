"""Every colour of pages, of plots, and of what is drawn over images; no other module names one.

What colours mean an image has, such as a phantom's stains or the false colours of fluorescence, are no part of it.
Captions name red, green, orange and magenta lines: who changes a hue reads them again.
"""

from __future__ import annotations

# of pages: each is a variable of their style sheets, --ink and so on
PAGE = {
    "ink": "#1a1a1a",
    "paper": "#ffffff",
    "link": "#0b4f8a",
    "quiet": "#555555",  # what stands beside the text
    "caption": "#444444",
    "rule": "#dddddd",  # between lines of a table
    "edge": "#cccccc",  # of a picture
    "panel": "#f4f4f4",  # behind commands, and behind what is missing
    "missing": "#888888",
    "caveat": "#fff4e0",
    "warning": "#c76a00",
    "good": "#2e7d4f",
    "mark": "#ff7800",  # where a picture is looked at more closely, or another plane cuts it
}

# of plots: Okabe and Ito's palette, told apart with any colour vision
SERIES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#7f7f7f", "#56b4e9")
GENERATED, REAL = "#d55e00", "#000000"
MEDIAN, HATCHED = "#000000", "#ffffff"  # of boxes; behind hatches
DIAGONAL, EACH = "#999999", "#bfbfbf"  # where two measures agree; single curves behind their mean
BONE, BACKGROUND, ALL = "#d55e00", "#0072b2", "#7f7f7f"  # pixels by region
GREY_VALUES = "#333333"
RED_GREEN_BLUE = ("#c1272d", "#0a8a3a", "#0072b2")  # curves of the channels
HEAT = "magma"  # of Matplotlib's colour maps, for differences


def rgb(colour: str) -> tuple[int, int, int]:
    """The red, green and blue of ``#rrggbb``, 0 to 255."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


# drawn over images and on sheets of pictures, RGB
INK, PAPER, PALE = rgb(PAGE["ink"]), rgb(PAGE["paper"]), rgb("#969696")
MARK = rgb(PAGE["mark"])
BONE_REGION, BACKGROUND_REGION, MASK = rgb("#ff7800"), rgb("#00a0ff"), rgb("#00c83c")
SCAN_EDGES, UPPER_EDGE, OTHER_EDGES = rgb("#00aa3c"), rgb("#e61e1e"), rgb("#ff7800")  # of registration
SHIFT, BLOCK = rgb("#e61e1e"), rgb("#ff7800")
PLANES = {"xy": rgb("#005ac8"), "xz": rgb("#008c3c"), "yz": rgb("#c81e1e")}  # of each plane's frame and marks
POSITIVE, NEGATIVE = rgb("#ff2800"), rgb("#00be5a")  # nuclei by their stain
FOUND, TRUE, LABELLED = rgb("#ff00ff"), rgb("#00dc00"), rgb("#ffdc00")  # outlines of nuclei
ALARM = rgb("#c81e14")


def variables() -> str:
    """The colours of pages as variables of a style sheet."""
    return ":root { " + " ".join(f"--{name}: {colour};" for name, colour in PAGE.items()) + " }"
