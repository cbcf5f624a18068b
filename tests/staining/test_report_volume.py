"""The page of a stained volume: planes are where sliders say, nothing else is needed, nothing missing is hidden."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundle.common.errors import InputError
from bundle.common.html import POLICY, RESEARCH, ROOMS, fill
from bundle.images.stained import stored
from bundle.images.stained.spec import StainSpec
from bundle.images.stained.stored import DEPTH, open_stain
from bundle.images.volumes.geometry import Geometry
from bundle.images.volumes.volume import Volume
from bundle.staining.page import clear_alpha, write_page, write_volume_report
from bundle.staining.pictures import alpha
from bundle.staining.seen import FRAMES, coarse_level, look, look_at_scan
from bundle.staining.viewer import SCRIPT, encode
from tests.helpers.pages import FRAME, Page, browse

SHAPE = (36, 40, 48)
GEOMETRY = Geometry((10.0, 5.0, 5.0), (0.0, 0.0, 0.0), np.eye(3))
RECORD = {
    "fingerprint": {
        "scan": "5ca9" * 16,
        "model": "0de1" * 16,
        "axes": "zyx",
        "fusion": "mean",
        "sigma": 1.0,
        "hull": True,
        "window": 256,
        "step": 128,
        "speed": "fast",
        "arithmetic": "fp16 weights",
        "background_rgb": [240, 240, 237],
    },
    "stain": "toluidine blue",
    "source": "µCT",
    "input": "/scans/rat & 1.nii",
    "bundle_root": "/models/<rat>",
    "trained_on": {"method": "paired", "pairs": 6},
    "model_pixel_um": 5.0,
    "code": "555a259",
    "started": "2026-11-24T12:10:00+0000",
    "spent": {"seconds": 812.4, "slices": 124},
    "stripes": {
        "stained across z": {"index": [1.91, 0.8, None], "flicker_levels": [2.4, 0.3, 0.2]},
        "fused": {"index": [1.01, 1.0, 1.0], "flicker_levels": [0.8, 0.7, 0.6]},
    },
}


def voxels(shape=SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """A scan whose grey and a stain whose red, green and blue each tell where a voxel is along z, y and x."""
    places = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    stain = np.stack([4 * place + 20 for place in places], axis=-1).astype(np.uint8)
    return sum(places).astype(np.uint16), stain


def written(folder: Path, file_format="ome-zarr", shape=SHAPE, channels=3) -> tuple[stored.Stain, Volume]:
    """A stained volume in a folder, and its scan."""
    scan, stain = voxels(shape)
    if channels == 4:
        stain = np.concatenate([stain, alpha(stain)[..., None]], axis=-1)
    spec = StainSpec(shape, channels, GEOMETRY, {})
    path = folder / stored.file_name(file_format)
    folder.mkdir(exist_ok=True)
    stored.create(path, file_format, spec)
    for start in range(0, shape[0], DEPTH):
        stored.write_slab(path, file_format, spec, start, stain[start : start + DEPTH])
    stored.finish(path, file_format, spec)
    volume = Volume(folder / "scan.nii", shape, scan.dtype, GEOMETRY, 1, lambda start, stop: scan[start:stop])
    return open_stain(path), volume


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A finished run with its page."""
    folder = tmp_path_factory.mktemp("volume") / "run"
    stain, scan = written(folder)
    (folder / "volume.json").write_text(json.dumps(RECORD), encoding="utf-8")
    done = []
    write_page(folder, stain, look_at_scan(scan), lambda slices, total: done.append((slices, total)))
    assert done[-1] == (SHAPE[0], SHAPE[0])
    assert sorted(done) == done
    return folder


@pytest.fixture(scope="module")
def page(folder) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def frames_of(text: str) -> dict[str, list[list[dict[str, str]]]]:
    """By axis, the images of the scan's stack and of the stain's."""
    found = {}
    for view in text.split('<div class="view"')[1:]:
        axis = re.match(r' data-axis="(\w)"', view)[1]
        stacks = view.split('<div class="stack">')[1:]
        found[axis] = [Page(f"<div>{stack[: stack.index('<i ')]}</div>").all("img") for stack in stacks]
    return found


def decoded(image: dict[str, str]) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(image["src"].split(",", 1)[1]))) as picture:
        assert picture.size == (int(image["width"]), int(image["height"]))
        return np.asarray(picture.convert("RGB"))


def test_the_page_needs_nothing_else_and_runs_one_script(page):
    read = Page(page)
    for image in read.all("img"):
        assert image["alt"]
        assert image["src"].startswith("data:image/webp;base64,")
    assert read.all("link") == read.all("iframe") == []
    assert not re.search(r"https?://|@import|url\(", page)
    assert page.count("<script") == 1
    script = page.split("<script>")[1].split("</script>")[0]
    assert script == (ROOMS / SCRIPT).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (meta,) = [each for each in read.all("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    assert meta["content"] == f"{POLICY}; script-src 'sha256-{digest}'"
    assert not re.search(r"\son\w+=", re.sub(r'src="[^"]*"', "", page))  # no handlers in attributes either


def test_other_pages_still_run_no_script():
    text = fill("common/templates/base.html", {"title": "title"})
    assert "script" not in text
    assert f'content="{POLICY}"' in text


def test_each_frame_shows_the_plane_that_it_is_labelled_with(page):
    found = frames_of(page)
    assert list(found) == list("zyx")
    for axis, name in enumerate("zyx"):
        scan, stain = found[name]
        assert len(scan) == len(stain) == FRAMES
        labels = [image["data-label"] for image in scan]
        assert labels == [image["data-label"] for image in stain]
        places = [int(re.match(rf"{name} = (\d+) of 0 to {SHAPE[axis] - 1}, ", label)[1]) for label in labels]
        assert (places[0], places[FRAMES // 2], places[-1]) == (0, round((SHAPE[axis] - 1) / 2), SHAPE[axis] - 1)
        assert labels[-1].endswith(f", {places[-1] * GEOMETRY.spacing_um[axis]:g} µm")
        for image, place in zip(stain, places, strict=True):
            assert abs(np.median(decoded(image)[..., axis]) - (4 * place + 20)) <= 6
            assert float(image["data-share"]) == pytest.approx(100 * (place + 0.5) / SHAPE[axis], abs=1e-3)
        shown = [[number for number, image in enumerate(stack) if "hidden" not in image] for stack in (scan, stain)]
        assert shown == [[FRAMES // 2]] * 2  # without the script, the middle


def test_planes_are_true_to_scale_and_the_right_way_up(page):
    found = frames_of(page)
    sizes = {axis: decoded(stacks[1][0]).shape[:2] for axis, stacks in found.items()}
    assert sizes == {"z": (40, 48), "y": (72, 48), "x": (72, 40)}  # slices are 10 µm apart, pixels 5 µm
    for axis, down, along in (("z", 1, 2), ("y", 0, 2), ("x", 0, 1)):
        middle = decoded(found[axis][1][FRAMES // 2]).astype(int)
        assert (middle[-4:, :, down] - middle[:4, :, down]).mean() > 80
        assert (middle[:, -4:, along] - middle[:, :4, along]).mean() > 80


def test_the_scan_has_one_window_for_all(page):
    brightness = [[decoded(image).mean() for image in stacks[0]] for stacks in frames_of(page).values()]
    for along in brightness:
        assert np.all(np.diff(along) > 0)  # its values rise along each axis
        assert along[-1] - along[0] > 40
    assert "one grey window" in page


def test_every_slider_is_labelled(page):
    read = Page(page)
    sliders = [each for each in read.all("input") if each["type"] == "range"]
    assert [each["id"] for each in sliders] == ["slider-z", "slider-y", "slider-x"]
    assert all((each["min"], each["max"], each["step"]) == ("0", str(FRAMES - 1), "1") for each in sliders)
    labelled = {each["for"] for each in read.all("label")}
    assert {each["id"] for each in read.all("input")} == labelled
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]*)', page)) <= set(ids)


def test_the_record_is_told(page):
    text = html.unescape(re.sub(r"<[^>]*>", " ", page))
    assert RESEARCH in text
    assert "Virtual staining: toluidine blue from µCT, rat & 1.nii" in text
    for fact in ("5ca9" * 16, "0de1" * 16, "/models/<rat>", "10 × 5 × 5 µm", "36 × 40 × 48 voxels", "256 px, 128 px"):
        assert fact in text
    for fact in ("fast – fp16 weights", "z, y, x", "24 November 2026, 12:10 +0000", "paired, 6 pairs, pixels of 5 µm"):
        assert fact in text
    assert "used; outside it, RGB [240, 240, 237]" in text
    assert "staining 812.4 s; 124 slices" in text
    assert "not recorded" not in text.lower()


def test_the_stripe_table(page):
    cells = [cell for _, cell in Page(page[page.index("<table>") : page.index("</table>") + 8]).cells]
    assert cells[:3] == ["along", "index", "flicker (levels)"]
    across = ["stained across z", "z", "1.91", "2.40", "y", "0.80", "0.30", "x", "–", "0.20"]
    assert cells[3:13] == across
    assert cells[13:] == ["fused", "z", "1.01", "0.80", "y", "1.00", "0.70", "x", "1.00", "0.60"]


def test_the_page_begins_with_what_warns_or_that_nothing_does(page):
    calm = "Nothing here warns</b>: no stripes: stripe index at most 1.0 (1 is none), flicker at most 0.8 grey levels"
    assert 0 < page.index(calm) < page.index('id="planes"')


def test_settings_and_checksums_come_last_and_folded(page):
    folded = page.index("<summary>Settings, checksums, times</summary>")
    assert page.index('id="files"') < folded < page.index("0de1" * 16)


def test_files_are_listed_and_pictures_written(folder, page):
    for name, size in (("views.png", 300), ("rendering.png", 500)):
        with Image.open(folder / name) as picture:
            assert picture.mode == "RGB"
            assert min(picture.size) > size
    listed = re.findall(r"<dt>([^<]*)</dt>", page[page.index('id="files"') : page.index('id="provenance"')])
    assert listed == ["stained.ome.zarr", "volume.json", "views.png", "rendering.png", "report.html"]


@pytest.mark.parametrize(("file_format", "channels"), [("tif", 4), ("nii", 3)])
def test_without_scan_and_record_it_says_so(tmp_path, file_format, channels):
    stain, _ = written(tmp_path / "run", file_format, (9, 12, 10), channels)
    text = write_volume_report(tmp_path / "run", stain).read_text(encoding="utf-8")
    read = Page(text)
    assert "The scan is not shown" in text
    assert "<h1>Virtual staining</h1>" in text
    assert text.lower().count("not recorded") >= 10
    assert len(read.all("img")) == 9 + 12 + 10 + 2  # each plane once where there are fewer than frames
    assert re.search(rf"<dt>{stored.file_name(file_format)}</dt>", text)


def test_a_partial_record_will_do(tmp_path):
    stain, scan = written(tmp_path / "run", "tif", (4, 5, 6))
    for record in ({"fingerprint": {}, "spent": None, "trained_on": None}, {"stripes": {"fused": {"index": None}}}):
        (tmp_path / "run" / "volume.json").write_text(json.dumps(record), encoding="utf-8")
        Page(write_volume_report(tmp_path / "run", stain, scan).read_text(encoding="utf-8"))


def test_a_scan_of_another_shape_is_not_taken(tmp_path):
    stain, _ = written(tmp_path / "run", "tif", (4, 5, 6))
    _, scan = written(tmp_path / "other", "tif", (4, 5, 7))
    with pytest.raises(ValueError, match="share one grid"):
        write_volume_report(tmp_path / "run", stain, scan)


def test_a_broken_volume_leaves_no_page(tmp_path):
    stain, scan = written(tmp_path / "run", "tif", (4, 5, 6))

    def broken(start: int, stop: int) -> np.ndarray:
        raise EOFError("truncated")

    with pytest.raises(InputError, match="slice.* 0"):
        write_volume_report(
            tmp_path / "run", stain, Volume(scan.path, scan.shape, scan.dtype, scan.geometry, 1, broken)
        )
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["stained.ome.tif"]


def test_holes_in_a_scan_are_no_trouble(tmp_path):
    stain, scan = written(tmp_path / "run", "tif", (4, 5, 6))
    holes = np.ones(scan.shape, np.float32)
    holes[1:3] = (np.nan,)
    holes[0, 0] = np.inf
    seen = look(
        stain, look_at_scan(Volume(scan.path, scan.shape, holes.dtype, scan.geometry, 1, lambda a, b: holes[a:b]))
    )
    assert np.isfinite(seen.window).all()


def test_the_same_folder_gives_the_same_page(tmp_path):
    stain, scan = written(tmp_path / "run", "tif", (8, 9, 10))
    first = write_volume_report(tmp_path / "run", stain, scan).read_bytes()
    size = re.compile(rb"the (three middle planes|view in space), [\d.]+ kB")
    assert size.sub(b"", write_volume_report(tmp_path / "run", stain, scan).read_bytes()) == size.sub(b"", first)


def test_frames_of_noise_keep_to_the_budget():
    rng = np.random.default_rng(0)
    noise = {"µCT": [rng.integers(0, 255, (2, 64, 64), np.uint8)] * 3}
    size = lambda files: sum(len(file) for planes in files.values() for frames in planes for file in frames)
    free = size(encode(noise, 10**9))
    assert size(encode(noise, free - 1)) < free
    assert size(encode(noise, 1)) < free  # the least quality, rather than no picture


def test_the_coarsest_level_that_is_fine_enough():
    assert coarse_level([(1200, 1200, 600), (600, 600, 300), (300, 300, 150), (150, 150, 75)]) == 2
    assert coarse_level([(100, 100, 100), (50, 50, 50)]) == 0


def test_what_the_rendering_leaves_out_follows_the_background():
    assert clear_alpha({"fingerprint": {"background_rgb": [200, 200, 200]}}) == 55 + 13
    assert clear_alpha({"fingerprint": {"background_rgb": None}}) == clear_alpha({}) < 64


MOVED = """<!DOCTYPE html><iframe id="frame" style="border:0;width:1000px;height:3000px"></iframe><script>
const frame = document.getElementById("frame");
frame.onload = () => {{
  const inside = frame.contentDocument;
  const slider = inside.getElementById("slider-z");
  slider.value = {place};
  slider.dispatchEvent(new Event("input", {{ bubbles: true }}));
  const view = inside.querySelector('.view[data-axis="z"]');
  const shown = [...view.querySelectorAll(".stack")].map((stack) => [...stack.querySelectorAll("img:not([hidden])")]);
  document.title = JSON.stringify({{
    where: view.querySelector("output").textContent,
    spoken: slider.getAttribute("aria-valuetext"),
    shown: shown.map((images) => images.map((image) => image.alt)),
    line: inside.querySelector('.view[data-axis="y"] i.level').style.top,
    controls: inside.querySelectorAll(".slider:not([hidden])").length,
  }});
}};
frame.srcdoc = {page};
</script>"""


def test_a_slider_moves_both_pictures(page, chromium, tmp_path):
    path = tmp_path / "frame.html"
    path.write_text(MOVED.format(place=3, page=json.dumps(page).replace("</", "<\\/")), encoding="utf-8")
    text = browse(chromium, tmp_path, "--virtual-time-budget=10000", "--dump-dom", path.as_uri())
    found = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", text)[1]))
    image = frames_of(page)["z"][0][3]
    assert found["controls"] == 3  # the script ran, so its hash is right
    assert found["where"] == found["spoken"] == image["data-label"]
    assert found["shown"] == [[f"{name}, xy plane at {image['data-label']}"] for name in ("µCT", "virtual stain")]
    assert float(found["line"].rstrip("%")) == pytest.approx(float(image["data-share"]), abs=0.01)


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_is_wider_than_the_screen(page, chromium, tmp_path, width):
    found = []
    for text in (page, page.replace("<body>", '<body><div style="width:1500px">.</div>')):
        path = tmp_path / "frame.html"
        path.write_text(FRAME.format(width=width, page=json.dumps(text).replace("</", "<\\/")), encoding="utf-8")
        shown = browse(chromium, tmp_path, "--virtual-time-budget=10000", "--dump-dom", path.as_uri())
        found.append(int(re.search(r"<title>(\d+)</title>", shown)[1]))
    assert found[0] == width
    assert found[1] >= 1500
