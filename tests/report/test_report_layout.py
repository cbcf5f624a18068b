"""The page in a browser and on paper."""

from __future__ import annotations

import json
import re

import pytest

from bundle.report.run import write
from tests.helpers.browser import Browser
from tests.helpers.pages import FRAME, browse
from tests.helpers.report import written


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_is_wider_than_the_screen(measured, chromium, tmp_path, width):
    text = written(measured)
    wide = text.replace("<body>", '<body><div style="width:1500px">.</div>')
    found = []
    for page in (text, wide):  # the second shows that the first would be noticed
        (tmp_path / "frame.html").write_text(FRAME.format(width=width, page=json.dumps(page)), encoding="utf-8")
        address = (tmp_path / "frame.html").as_uri()
        shown = browse(chromium, tmp_path, "--virtual-time-budget=10000", "--dump-dom", address)
        found.append(int(re.search(r"<title>(\d+)</title>", shown)[1]))
    assert found[0] == width
    assert found[1] >= 1500


def test_on_a_phone_it_is_less_than_ten_thousand_px_long(measured, chromium, tmp_path):
    page = written(measured)
    opened = page.replace("<details>", "<details open>")  # shows that the length is seen
    heights = []
    for number, text in enumerate((page, opened)):
        path = tmp_path / f"{number}.html"
        path.write_text(text, encoding="utf-8")
        with Browser(chromium, tmp_path / f"profile-{number}", 420, 900) as browser:
            browser.open(path.as_uri())
            heights.append(browser.run("document.documentElement.scrollHeight"))
    assert heights[0] < 10_000
    assert heights[1] > heights[0] + 2_000


def test_the_page_prints(measured, chromium, tmp_path):
    page, paper = write(measured), tmp_path / "report.pdf"
    browse(chromium, tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={paper}", page.as_uri())
    content = paper.read_bytes()
    assert content.startswith(b"%PDF")
    sizes = set(re.findall(rb"/MediaBox\s*\[([^\]]*)\]", content))
    assert {tuple(round(float(side)) for side in size.split()) for size in sizes} == {(0, 0, 595, 842)}
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 4
