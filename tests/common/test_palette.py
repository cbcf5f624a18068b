"""Colours are named in one module, and what is changed there changes on pages, in plots and over images."""

import re
import subprocess
import sys

import pytest

from bundle.common.palette import PAGE, rgb, variables
from tests.conftest import ROOT

HEX = r"#[0-9a-fA-F]{3,8}\b"
GIVEN = r"\b(colou?r|facecolor|edgecolor|fill|outline)(=|\": )\(?[\"'\d]"  # a colour by name, grey level or RGB


FILES = [path for kind in ("py", "html", "css", "js") for path in (ROOT / "bundle").rglob(f"*.{kind}")]
FILES = [path for path in FILES if not path.match("*.min.js")]  # others' code


def colours(text):
    """Lines that name a colour."""
    return [line.strip() for line in text.splitlines() if re.search(f"{HEX}|{GIVEN}", line)]


@pytest.mark.parametrize(
    "line",
    ['LINE = "#12aBcD"', ".a { color: #fff; }", 'axes.plot(x, color="0.5")', "draw.line(x, fill=(1, 2, 3))"]
    + ['{"color": "black"}', "outlined(image, colour=(255, 0, 0))"],
)
def test_a_colour_is_seen(line):
    assert colours(line)


def test_no_other_module_names_a_colour():
    assert len(FILES) > 150
    found = {str(path.relative_to(ROOT / "bundle")): colours(path.read_text(encoding="utf-8")) for path in FILES}
    assert {name: lines for name, lines in found.items() if lines and name != "common/palette.py"} == {}


def test_rgb():
    assert rgb("#ff7800") == (255, 120, 0)


def test_style_sheets_use_no_variable_that_is_not_there():
    texts = {path: path.read_text(encoding="utf-8") for path in FILES}
    own = {name for text in texts.values() for name in re.findall(r'style="[^"]*--(\w+):', text)}  # of one element
    for path, text in texts.items():
        assert set(re.findall(r"var\(--(\w+)\)", text)) <= set(PAGE) | own, path
    assert variables().startswith(":root { --ink: #1a1a1a; ")


CHANGED = """
import numpy as np
from bundle.common import palette
palette.GENERATED, palette.SERIES = "#123456", ("#654321",)
palette.PAGE["ink"] = "#abcdef"
palette.MARK = palette.rgb("#010203")
from bundle.common import charts, html
from bundle.common.region import Region
print(charts.metric_chart([], np.array([[1, 2], [3, 4]]), 1, "PSNR", "a"))
print(html.fill("common/templates/base.html", {"title": "title"}))
image = np.full((3, 64, 64), 255, np.uint8)
html.webp = lambda picture, **_: str(picture.getpixel((8, 8)))
print(html.reduced(image, "", "", frame=Region(8, 8, 16, 16)).uri)
"""


def test_a_change_of_the_palette_shows_in_a_plot_on_a_page_and_over_an_image():
    done = subprocess.run([sys.executable, "-c", CHANGED], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.search(r"stroke: ?#123456", done.stdout)
    assert re.search(r"stroke: ?#654321", done.stdout)
    assert "--ink: #abcdef;" in done.stdout
    assert "color: var(--ink);" in done.stdout
    assert "(1, 2, 3)" in done.stdout
