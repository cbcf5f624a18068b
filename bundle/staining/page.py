"""The page of a stained volume: where it comes from, planes beside the scan's, pictures of it, stripes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from bundle.common import run_folder
from bundle.common.atomic import whole_file
from bundle.common.charts import heat_bar
from bundle.common.errors import InputError
from bundle.common.html import Picture, code, fill, webp
from bundle.common.places import place
from bundle.common.verdicts import in_words
from bundle.images.stained.number_map import open_map
from bundle.images.stained.stored import FORMATS, Stain, open_stain
from bundle.images.volumes.channels import open_channels
from bundle.images.volumes.volume import Volume
from bundle.staining.answer import of_volume
from bundle.staining.crate import CRATE
from bundle.staining.error_pictures import error_planes, in_colours
from bundle.staining.job import RECORD, map_of, reference_in_words
from bundle.staining.pictures import CLEAR, alpha, orthogonal_views, render, save_png
from bundle.staining.seen import SHOWN, STAIN, Grey, Report, Seen, look, look_at_scan
from bundle.staining.viewer import SCRIPT, viewer
from bundle.staining.words import NOT, get, size_of, spent, times, trained_on, when

VIEWS, RENDERING, PAGE = "views.png", "rendering.png", "report.html"
ERROR, MOST_ERROR = "expected error of the stain", 64  # levels, that are shown brightest
ERRORS = f"0 to {MOST_ERROR} or more of 255"
NOISE = 13  # of alpha: what a stained background differs by from its declared colour
WIDEST = 1400  # px, of a picture on the page
FILES = {
    RECORD: "how it was made",
    CRATE: "the same as others read it, RO-Crate",
    VIEWS: "the three middle planes",
    RENDERING: "the view in space",
    PAGE: "this page",
}
VIEW_CAPTION = (
    "The middle planes, true to scale. Across y and x, z runs downwards. Marks at the edges, in the colour of another "
    "plane’s frame, show where that plane cuts this one."
)
RENDER_CAPTION = (
    "Seen by parallel rays from the side of slice z = 0. Opacity is the inverted mean of red, green and blue, so glass "
    "is clear and dark stain hides what lies behind it. The corner nearest to you is cut away; its faces keep the "
    "stain’s own colours, other surfaces are lightly shaded."
)


def write_volume_report(output_dir: str | Path, stain: Stain, scan: Volume | None = None) -> Path:
    """As :func:`write_page`, with what is shown of the scan read from it, slab by slab.

    Args:
        output_dir: the folder.
        stain: the result.
        scan: what it was made from; None if it is not to be had, and only the stain is shown.

    Returns:
        The page.

    Raises:
        InputError: if a file is truncated or corrupt.
        ValueError: if the scan has another shape than the stain.
    """
    if scan is not None and tuple(scan.shape) != tuple(stain.shape):
        raise ValueError(f"the scan has shape {scan.shape} and the stain {stain.shape}; they share one grid")
    return write_page(place(output_dir), stain, None if scan is None else look_at_scan(scan))


def write_page(folder: Path, stain: Stain, scan: Grey | None, report: Report | None = None) -> Path:
    """Write ``views.png``, ``rendering.png`` and ``report.html`` beside a finished stained volume.

    What ``volume.json`` in the folder does not say is told to be not recorded. The stain is read once, slab by slab.

    Args:
        folder: of the volume.
        stain: the result.
        scan: what is shown of what it was made from; None if that is not to be had.
        report: called with the slices read and the slices in all.

    Returns:
        The page.

    Raises:
        InputError: if a file is truncated or corrupt.
    """
    record = read_record(folder)
    seen = look(stain, scan, report)
    at = [(along[len(along) // 2] + 0.5) / size for along, size in zip(seen.places, seen.shape, strict=True)]
    with ThreadPoolExecutor(1) as beside:
        rendered = beside.submit(render, seen.copy, seen.copy_um, clear=clear_alpha(record))
        views = orthogonal_views(seen.views, at, seen.view_um)
        save_png(folder / VIEWS, views, seen.view_um)
        shown = {**seen.frames, **_errors(stain, seen)}
        axes = list(viewer(shown, seen.places, seen.shape, seen.spacing_um, seen.frame_um, {ERROR: heat_bar(ERRORS)}))
        rendering, pixel_um = rendered.result()
    save_png(folder / RENDERING, rendering, pixel_um)
    text = fill("staining/templates/volume.html", _values(folder, record, seen, axes, views, rendering), SCRIPT)
    with whole_file(folder / PAGE) as partial:
        partial.write_text(text, encoding="utf-8")
    return folder / PAGE


def _errors(stain: Stain, seen: Seen) -> dict[str, list[np.ndarray]]:
    """The planes of the expected error as those of the stain, by its title; nothing where there is none."""
    path = map_of(stain.path)
    if not path.exists():
        return {}
    planes = error_planes(open_map(path), seen.shape, seen.places)
    sizes = [frames.shape[1:3] for frames in seen.frames[STAIN]]
    return {ERROR: [in_colours(each, size, MOST_ERROR) for each, size in zip(planes, sizes, strict=True)]}


def remake(folder: Path) -> Path:
    """Write pictures and page of a finished stained volume again; without its scan where that is not to be had.

    Args:
        folder: of the volume, with its ``volume.json``.

    Raises:
        InputError: if the volume is missing or corrupt.
    """
    record = read_record(folder)
    stain = open_stain(folder / record["result"])
    try:
        scan = open_channels(record["input"], stain.geometry.spacing_um)[0]
    except InputError:
        scan = None
    return write_volume_report(folder, stain, scan if scan and scan.shape == stain.shape else None)


def read_record(folder: Path) -> dict[str, Any]:
    """What ``volume.json`` says; nothing if there is none."""
    path = folder / RECORD
    return run_folder.read_record(path) if path.is_file() else {}


def clear_alpha(record: Mapping[str, Any]) -> int:
    """Alpha up to which the rendering shows nothing: that of the declared background and a little more."""
    background = get(record, "fingerprint.background_rgb")
    if not background:
        return CLEAR
    return min(254, int(alpha(np.array(background).astype(np.uint8))) + NOISE)


def title(record: Mapping[str, Any]) -> str:
    """``Virtual staining: toluidine blue from µCT, sample.nii``, as far as it is known."""
    stain, source = record.get("stain"), record.get("source")
    kind = f": {stain} from {source}" if stain and source else ""
    return ", ".join([f"Virtual staining{kind}", *(Path(path).name for path in _scans(record))])


def _scans(record: Mapping[str, Any]) -> list[str]:
    """The files of the scan."""
    paths = record.get("input") or []
    return [paths] if isinstance(paths, str) else paths


def _values(
    folder: Path,
    record: Mapping[str, Any],
    seen: Seen,
    axes: Iterable[Mapping[str, Any]],
    views: np.ndarray,
    rendering: np.ndarray,
) -> dict[str, Any]:
    """What the template names."""
    return {
        "title": title(record),
        "about": _about(record, seen),
        "window": seen.window,
        "percentiles": SHOWN,
        "axes": axes,
        "rendering": _picture(rendering, "The stained volume seen in space, one corner cut away", RENDER_CAPTION),
        "views": _picture(views, f"Middle planes of {' and '.join(seen.views)}", VIEW_CAPTION),
        "answers": of_volume(record),
        "stripes": [(name, _by_axis(values)) for name, values in (record.get("stripes") or {}).items()],
        "trust": _trust(record),
        "origin": list(_origin(record, seen)),
        "files": list(_files(folder)),
    }


def _about(record: Mapping[str, Any], seen: Seen) -> str:
    extent = " × ".join(f"{size * step / 1000:.3g}" for size, step in zip(seen.shape, seen.spacing_um, strict=True))
    return f"{times(seen.shape)} voxels (z × y × x), {extent} mm · {when(record)}"


def _picture(image: np.ndarray, alt: str, caption: str) -> Picture:
    picture = Image.fromarray(image)
    picture.thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
    return Picture(webp(picture, quality=85, method=4), *picture.size, alt, caption)


def _three(values: Sequence[float | None] | None) -> Sequence[float | None]:
    return values if values else (None, None, None)


def _by_axis(values: Mapping[str, Any]) -> list[list[str]]:
    columns = (_three(values.get(name)) for name in ("index", "flicker_levels"))
    return [[axis, *map(_number, each)] for axis, *each in zip("zyx", *columns, strict=True)]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _origin(record: Mapping[str, Any], seen: Seen) -> Iterable[tuple[str, str]]:
    made = get(record, "fingerprint", {})
    typed = lambda value: code(value) if value else NOT
    plain = lambda value: str(value) if value not in (None, "") else NOT
    yield "started", plain(when(record))
    yield "code", typed(record.get("code"))
    yield "model bundle", typed(record.get("bundle_root"))
    yield "model SHA-256", typed(made.get("model"))
    yield "trained on", trained_on(record) or NOT
    yield "scan", Markup("<br>").join(map(code, _scans(record))) or NOT
    yield "scan SHA-256", code(made["scan"]) + " (of its voxels and geometry)" if made.get("scan") else NOT
    channels = record.get("channels", 1)
    several = f", {channels} channels, of which the first is shown" if channels > 1 else ""
    yield "shape", f"{times(seen.shape)} voxels (z × y × x){several}"
    yield "voxel size", f"{times(seen.spacing_um)} µm (z × y × x)"
    yield "speed", plain(" – ".join(_speed(record)))
    yield "window, step", f"{_px(made, 'window', 'whole slice')}, {_px(made, 'step', 'none')}"
    yield "normalisation", plain(made.get("normalisation", "window"))
    if "reference" in record:
        yield "statistics of", reference_in_words(record["reference"])
    yield "stained across", plain(", ".join(made.get("axes") or ""))
    yield "fused by", plain(made.get("fusion")) if len(made.get("axes") or "") != 1 else "nothing: one axis"
    yield "blur before", f"Gaussian, σ = {made['sigma']:g} voxels" if "sigma" in made else NOT
    yield "sample hull", _hull(made)
    yield "time spent", spent(record) or NOT


def _trust(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is known of where to believe the stain; None if nothing is."""
    likeness, error = get(record, "likeness", {}), get(record, "expected_error", {})
    if not likeness and not error:
        return None
    lines = [f"Across {axis}: {in_words(told)}." for axis, told in likeness.items()]
    return {
        "likeness": lines,
        "bound": error.get("bound"),
        "level": error.get("level"),
    }


def _px(made: Mapping[str, Any], name: str, without: str) -> str:
    if name not in made:
        return NOT
    value = made[name]
    return without if value is None else f"{times(value)} px" if isinstance(value, (list, tuple)) else f"{value} px"


def _speed(record: Mapping[str, Any]) -> Iterator[str]:
    """What was asked for, and what was computed in."""
    made, chosen = record.get("fingerprint", {}), record.get("arithmetic", {})
    if made.get("speed"):
        yield str(made["speed"])
    if made.get("arithmetic") or chosen:
        yield str(chosen.get("arithmetic", made.get("arithmetic")))
    if chosen.get("name"):
        yield f"chosen by the clock; --speed {chosen['name']} takes it again"


def _hull(made: Mapping[str, Any]) -> str:
    if "hull" not in made:
        return NOT
    if not made["hull"]:
        return "not used"
    return f"used; outside it, RGB {made.get('background_rgb') or NOT}"


def left() -> dict[str, str]:
    """Names of what runs leave in their folders, each with what it is; of the formats one is there."""
    errors = {str(map_of(Path(name))): ERROR for name in _stains()}
    return _stains() | errors | FILES | {PAGE: "all of it on a page"}


def _stains() -> dict[str, str]:
    return {each.file_name: f"the stained volume, {each.title}" for each in FORMATS.values()}


def _files(folder: Path) -> Iterable[tuple[str, str]]:
    inside = {str(map_of(Path(name))): ERROR for name in _stains()}
    for name, what in (_stains() | inside | FILES).items():
        path = folder / name
        if path.exists() or name == PAGE:
            size = "" if name in (PAGE, CRATE) else f", {size_of(path)}"  # that of the latter changes with the page
            yield name, what + size
