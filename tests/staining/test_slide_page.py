"""The page of a stained whole slide: both pictures are at the place asked for, and nothing is asked for in vain."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from bundle.images.channel_slides import facts_of, opened
from bundle.images.stained_slides.pyramid import Pyramid
from bundle.images.stained_slides.spec import SlideSpec
from bundle.staining.whole_slides.page import PAGE, TILES, write_page
from bundle.staining.whole_slides.pictures import source_pictures
from bundle.staining.whole_slides.tiles import SIDE
from tests.helpers.browser import Browser
from tests.helpers.pages import FRAME, Page, browse

SHAPE = (2900, 4200)
TISSUE = (slice(300, 1500), slice(300, 2300))
PATCH = 100  # px of one colour
UM = 0.5
NASTY = '</script><script>alert("1")</script>" onload="alert(1)" <!-- & \u2028'
RECORD: dict[str, Any] = {
    "stain": "Ki-67",
    "source": "H&E",
    "input": "/slides/a.svs",
    "shape": list(SHAPE),
    "pixel_um": UM,
    "stain_pixel_um": UM,
    "bundle_root": "/models/ki67",
    "trained_on": {"method": "ki67", "pairs": 6},
    "started": "2026-11-24T12:10:00+0000",
    "fingerprint": {"slide": "5ca9" * 16, "model": "0de1" * 16, "window": 256, "step": 192},
    "spent": {"seconds": 81.5, "windows": 120, "windows_skipped": 900, "tissue_px": 2_400_000},
    "likeness": {"blocks": {"like the training data": 3, "unlike": 1}, "unlike": [[1024, 2048]]},
    "expected_error": {"result": "expected_error.ome.tif", "bound": 2.31, "level": 0.9},
}


def planted(shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """A slide whose colour tells the patch that a pixel lies in."""
    row, column = (np.arange(size) // PATCH for size in shape)
    picture = np.full((*shape, 3), 128, np.uint8)
    picture[..., 0], picture[..., 1] = (row * 8)[:, None], (column * 6)[None]
    return picture


def stained(folder: Path, pixels: np.ndarray, **changed: Any) -> Pyramid:
    """A finished pyramid of pixels (h, w, C)."""
    about = (
        "stain",
        pixels.shape[:2],
        pixels.dtype,
        UM,
        ("Red", "Green", "Blue"),
        True,
        (255.0,) * 3,
        (0.0, 255.0),
        {},
    )
    pyramid = Pyramid(folder, replace(SlideSpec(*about), **changed))
    pyramid.create()
    pyramid.write(0, 0, pixels)
    for level in range(1, len(pyramid.spec.levels)):
        pyramid.build(level)
    pyramid.finish()
    return pyramid


def stain_of(folder: Path) -> Pyramid:
    """The slide's negative where tissue is, else white."""
    slide = planted()
    pixels = np.full_like(slide, 255)
    pixels[TISSUE] = 255 - slide[TISSUE]
    return stained(folder, pixels)


def error_of(folder: Path, stain: Pyramid) -> Pyramid:
    """10 where tissue is, not known in its left half."""
    values = np.full((*(-(-size // 4) for size in stain.spec.shape), 1), np.nan, np.float32)
    rows, columns = (slice(part.start // 4, part.stop // 4) for part in TISSUE)
    values[rows, (columns.start + columns.stop) // 2 : columns.stop] = 10
    changed = {"channel_names": ("error",), "rgb": False, "background": (np.nan,), "shown": (0.0, 64.0)}
    return stained(folder, values, pixel_um=4 * UM, **changed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of a slide, its stain and the error to expect."""
    folder = tmp_path_factory.mktemp("slide")
    tifffile.imwrite(folder / "a.tif", planted(), photometric="rgb", tile=(512, 512), compression="zlib")
    facts = facts_of(folder / "a.tif")
    told: list[tuple[int, int]] = []
    with opened(facts, 1.0, None) as scan:
        stain = stain_of(folder / "stain")
        error = error_of(folder / "error", stain)
        write_page(folder, RECORD, source_pictures(facts, scan), stain, error, lambda *now: told.append(now))
    assert told == [(number, len(told)) for number in range(1, len(told) + 1)]
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / PAGE).read_text(encoding="utf-8")


def layers_in(page: str) -> dict[str, dict[str, Any]]:
    (viewer,) = (each for each in Page(page).all("div") if each.get("id") == "viewer")
    return json.loads(viewer["data-slide"])["layers"]


def test_tiles_are_there_where_tissue_is_and_the_page_knows_which(folder: Path, page: str) -> None:
    found = {name: {} for name in ("source", "stain", "error")}
    for path in (folder / TILES).rglob("*.*"):
        name, level, place = path.relative_to(folder / TILES).parts
        found[name].setdefault(int(level), set()).add(tuple(map(int, path.stem.split("_"))))
    rows, columns = (range(part.start // SIDE, -(-part.stop // SIDE)) for part in TISSUE)
    assert found["stain"][0] == {(x, y) for x in columns for y in rows}
    assert found["stain"][1] == {(0, 0), (1, 0)}  # 2100 px across, of which 1150 are tissue's
    assert found["stain"][2] == {(0, 0), (1, 0)} - {(1, 0)}
    assert found["source"][0] == found["stain"][0]
    assert found["source"][2] == {(0, 0), (1, 0)}  # 1050×725 px: the overview has all of the slide
    for name, layer in layers_in(page).items():
        for level, bits in enumerate(layer["present"]):
            across, down = (math.ceil(math.ceil(layer[side] / 2**level) / SIDE) for side in ("width", "height"))
            flags = [bit == "1" for byte in base64.b64decode(bits) for bit in f"{byte:08b}"]
            told = {(place % across, place // across) for place, flag in enumerate(flags) if flag}
            assert told == found[name][level]
            assert all(x < across and y < down for x, y in told)


def test_a_tile_shows_its_part_of_the_slide(folder: Path) -> None:
    for name, sign in (("source", 1), ("stain", -1)):
        tile = np.asarray(Image.open(folder / TILES / name / "1/0_0.jpg")).astype(int)
        assert tile.shape == (SIDE, SIDE, 3)
        expected = planted()[801::1, 1401::1][0, 0].astype(int)
        assert np.abs(tile[400, 700] - (expected if sign == 1 else 255 - expected)).max() <= 4
    edge = Image.open(folder / TILES / "source/2/1_0.jpg")
    assert edge.size == (1050 - SIDE, 725)


VIEWS = '["source", "stain"].map((name) => OpenSeadragon.getViewer(document.getElementById(`deep-${name}`)))'
STILL = f"{VIEWS}.every((view) => view.world.getItemCount() && view.world.getItemAt(0).getFullyLoaded())"
PLACES = f"""{VIEWS}.map(({{ viewport }}) => {{
  const {{ x, y }} = viewport.getCenter(true);
  return [x, y, viewport.getZoom(true), viewport.getRotation(), viewport.getFlip()];
}})"""
SETTLED = f"{VIEWS}.every((view) => !view.isAnimating() && view.viewport.getZoom() === view.viewport.getZoom(true))"
BOXES = f"""{VIEWS}.map(({{ canvas }}) => {{
  const {{ left, top, width, height }} = canvas.getBoundingClientRect();
  return [left, top, width, height];
}})"""
BARS = """[...document.querySelectorAll(".scale")].map((bar) => [bar.firstElementChild.style.width, bar.innerText])"""


@pytest.fixture
def browser(chromium: str, tmp_path: Path) -> Iterator[Browser]:
    with Browser(chromium, tmp_path / "profile") as browser:
        yield browser


def opened_at(browser: Browser, folder: Path, place: str = "") -> list[list[float]]:
    """Open the page and wait until all it shows is there; left, top, width and height of both pictures."""
    browser.open((folder / PAGE).as_uri() + place)
    browser.wait(STILL)
    return browser.run(BOXES)


def places(browser: Browser) -> list[list[float]]:
    """Centre, zoom, turn and flip of both, when nothing moves any more."""
    browser.run("new Promise((done) => setTimeout(done, 700))")
    browser.wait(SETTLED)
    both = browser.run(PLACES)
    assert both[0] == pytest.approx(both[1], abs=1e-9)
    return both[0]


def test_both_go_where_one_goes_and_ask_only_for_tiles_that_are_there(folder: Path, browser: Browser) -> None:
    boxes = opened_at(browser, folder)
    (left, top, width, height), (other, *_) = boxes
    assert places(browser) == pytest.approx([0.5, SHAPE[0] / SHAPE[1] / 2, 1, 0, 0], abs=1e-6)
    browser.mouse("mouseWheel", other + 100, top + 60, deltaX=0, deltaY=-100)
    nearer = places(browser)
    assert nearer[2] == pytest.approx(1.3)
    assert nearer[0] < 0.48  # towards where the wheel was turned
    assert nearer[1] < SHAPE[0] / SHAPE[1] / 2 - 0.02
    browser.mouse("mousePressed", left + 200, top + 200, button="left", clickCount=1)
    for step in range(1, 9):
        browser.mouse("mouseMoved", left + 200 - 10 * step, top + 200, button="left", buttons=1)
    browser.mouse("mouseReleased", left + 120, top + 200, button="left", clickCount=1)
    dragged = places(browser)
    assert dragged[0] - nearer[0] > 0.9 * 80 / width / nearer[2]
    for key, code, number in (("r", "KeyR", 82), ("f", "KeyF", 70), ("1", "Digit1", 49), ("e", "KeyE", 69)):
        browser.press(key, code, number)
    exact = places(browser)
    assert exact[3:] == [0, False]  # neither turned nor mirrored
    assert exact[2] * width == pytest.approx(SHAPE[1], rel=1e-3)  # 1: a pixel is a pixel
    assert browser.run('document.getElementById("error").value') == "70"
    for bar, text in browser.run(BARS):
        assert float(bar.removesuffix("px")) * UM == pytest.approx(float(text.removesuffix(" µm")), rel=1e-3)
    assert browser.complaints == []
    tiles = [address.removeprefix(folder.as_uri() + "/") for address in browser.asked if "/tiles/" in address]
    assert {tile.split("/")[1] for tile in tiles} == {"source", "stain", "error"}
    assert all((folder / tile).is_file() for tile in tiles)


def test_a_tile_that_is_missing_is_complained_of(folder: Path, browser: Browser) -> None:
    """Else the test above could not fail."""
    lost = folder / TILES / "stain/2/0_0.jpg"
    away = lost.rename(lost.with_suffix(".away"))
    browser.open((folder / PAGE).as_uri())
    browser.run("new Promise((done) => setTimeout(done, 1500))")
    away.rename(lost)
    assert lost.as_uri() in browser.asked
    assert browser.complaints


def test_both_pictures_show_the_place_asked_for(folder: Path, browser: Browser, tmp_path: Path) -> None:
    for patch in ((5, 5), (9, 17), (12, 20)):
        y, x = ((side + 0.5) * PATCH * UM for side in patch)
        boxes = opened_at(browser, folder, f"#{x},{y},300")
        browser.run("new Promise((done) => setTimeout(done, 700))")
        browser.shot(tmp_path / "shot.png")
        shot = np.asarray(Image.open(tmp_path / "shot.png").convert("RGB")).astype(int)
        expected = planted()[patch[0] * PATCH, patch[1] * PATCH].astype(int)
        for (left, top, width, height), colour in zip(boxes, (expected, 255 - expected), strict=True):
            assert np.abs(shot[int(top + height / 2), int(left + width / 2)] - colour).max() <= 4
        assert f"x {x:,.1f} µm, y {y:,.1f} µm".replace(".0", "") in browser.run(
            'document.getElementById("where").innerText'
        )


def test_a_cross_shows_the_pointer_in_the_other_picture_and_its_place_is_told(folder: Path, browser: Browser) -> None:
    (left, top, width, height), (other, *_) = opened_at(browser, folder, "#800,500,400")
    browser.mouse("mouseMoved", other + width / 2 + 58, top + height / 2 - 29)
    cross = browser.run("""(() => { const { left, top, width, height } =
      document.querySelector("#deep-source .cross").getBoundingClientRect();
      return [left + width / 2, top + height / 2]; })()""")
    assert cross == pytest.approx([left + width / 2 + 58, top + height / 2 - 29], abs=1)
    step = 400 / width  # µm a px of the screen
    told = browser.run('document.getElementById("where").innerText')
    x, y = (float(text) for text in re.match(r"pointer: x ([\d.]+) µm, y ([\d.]+) µm", told).groups())  # type: ignore[union-attr]
    assert (x, y) == pytest.approx((800 + 58 * step, 500 - 29 * step), abs=step)
    browser.run("""document.getElementById("go-x").value = "1,000"; document.getElementById("go-y").value = "700.5";
      document.getElementById("places").requestSubmit(); 0""")
    at = places(browser)
    assert [at[0] * SHAPE[1] * UM, at[1] * SHAPE[1] * UM] == pytest.approx([1000, 700.5], abs=0.1)
    assert browser.run("location.hash").startswith("#1000.0,700.5,400.0")


@pytest.mark.parametrize("width", [420, 1200])
def test_nothing_is_wider_than_the_screen(folder: Path, page: str, chromium: str, tmp_path: Path, width: int) -> None:
    path = folder / "frame.html"
    path.write_text(FRAME.format(width=width, page=json.dumps(page).replace("</", "<\\/")), encoding="utf-8")
    shown = browse(chromium, tmp_path, "--virtual-time-budget=8000", "--dump-dom", path.as_uri())
    path.unlink()
    assert int(re.search(r"<title>(\d+)</title>", shown)[1]) == width  # type: ignore[index]


def test_without_scripts_both_pictures_are_there(page: str) -> None:
    parsed = Page(page)
    pictures = [each for each in parsed.all("img") if str(each["src"]).startswith("data:image/webp")]
    assert [(each["width"], each["height"]) for each in pictures] == [("525", "363")] * 2
    (viewer,) = (each for each in parsed.all("div") if each.get("id") == "viewer")
    assert "hidden" in viewer
    assert len(parsed.all("noscript")) == 1


def test_the_page_tells_what_the_record_says(page: str) -> None:
    for words in ("Computed, not stained.", "Virtual staining: Ki-67 from H&amp;E, a.svs", "0.6 mm²", "ki67, 6 pairs"):
        assert words in page
    assert 'href="#1024.0,512.0,1000"' in page
    assert "Of 4 blocks, 3 like the training data, 0 doubtful, 1 unlike" in page


@pytest.fixture
def small(tmp_path: Path) -> Iterator[tuple[Path, Any, Pyramid]]:
    """A folder, pictures of a small slide, and its stain."""
    tifffile.imwrite(tmp_path / "a.tif", planted((300, 500)), photometric="rgb")
    facts = facts_of(tmp_path / "a.tif")
    with opened(facts, 1.0, None) as scan:
        yield tmp_path, source_pictures(facts, scan), stained(tmp_path / "stain", 255 - planted((300, 500)))


def test_no_name_breaks_out_of_the_page(small: tuple[Path, Any, Pyramid]) -> None:
    folder, source, stain = small

    def nasty(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: nasty(each) for name, each in value.items()}
        return NASTY if isinstance(value, str) else value

    record = {**nasty(RECORD), "started": RECORD["started"], "result": "..", "arithmetic": {"arithmetic": NASTY}}
    named = Pyramid(stain.folder, replace(stain.spec, name=NASTY, channel_names=(NASTY,) * 3))
    text = write_page(folder, record, source, named).read_text(encoding="utf-8")
    body = Page(text)
    assert len(body.all("script")) == 1
    assert all(re.fullmatch(r"[\w:-]+", name) for _, attributes in body.elements for name in attributes)
    assert not [attributes for _, attributes in body.elements if "onload" in attributes]
    assert text.count("alert(&#34;1&#34;)") > 8


def test_a_run_that_is_stopped_leaves_no_tiles_and_no_page(small: tuple[Path, Any, Pyramid]) -> None:
    folder, source, stain = small
    before = set(folder.iterdir())

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_page(folder, RECORD, source, stain, report=stop)
    assert set(folder.iterdir()) == before
    first = write_page(folder, RECORD, source, stain).read_bytes()
    files = {path: path.read_bytes() for path in (folder / TILES).rglob("*.jpg")}
    assert len(files) == 2
    assert write_page(folder, RECORD, source, stain).read_bytes() == first
    assert {path: path.read_bytes() for path in (folder / TILES).rglob("*.jpg")} == files


def test_without_its_source_a_stain_is_shown_alone(small: tuple[Path, Any, Pyramid]) -> None:
    folder, _, stain = small
    text = write_page(folder, {}, None, stain).read_text(encoding="utf-8")
    assert "The source is not shown" in text
    assert list(layers_in(text)) == ["stain"]
    assert not (folder / TILES / "source").exists()
