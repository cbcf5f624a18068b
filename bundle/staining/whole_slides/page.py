"""The page of a stained whole slide: source and stain side by side, zoomable, and where they come from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from bundle.common.atomic import whole_file, whole_folder
from bundle.common.charts import heat_bar
from bundle.common.html import Picture, code, fill, scale_bar, webp
from bundle.common.verdicts import UNLIKE, in_words
from bundle.images.stained_slides.pyramid import Pyramid
from bundle.images.stained_slides.spec import SlideSpec
from bundle.staining.answer import of_slide
from bundle.staining.whole_slides.pictures import Pictures, stain_pictures
from bundle.staining.whole_slides.tiles import SIDE, Layer, cells_between, counted, layers_of
from bundle.staining.words import NOT, get, size_of, spent, times, trained_on, when

PAGE, TILES = "report.html", "tiles"
SCRIPTS = ("staining/templates/openseadragon.min.js", "staining/templates/slide.js")
STILL = 1024  # px, of the longest side of a picture that needs no script
TOLD = 12  # places that are unlike the training data
AROUND_UM = 1000.0  # µm across, of what is shown of such a place
WHITE = (255, 255, 255)
LEAST_EMPTY = 0.02  # of a slide


def write_page(
    folder: Path,
    record: Mapping[str, Any],
    source: Pictures | None,
    stain: Pyramid,
    error: Pyramid | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Path:
    """Write ``tiles`` and then ``report.html`` beside a finished stained slide; each appears whole or not at all.

    What the record does not say is told to be not recorded.

    Args:
        folder: of the run.
        record: of the run, see :mod:`bundle.staining.whole_slides.run`.
        source: pictures of the slide on the stain's grid (:func:`.pictures.source_pictures`); None where it is not to
            be had.
        stain: the stain, all levels of it.
        error: the error to expect, each of its pixels 2ⁿ of the stain's; None where there is none.
        report: called with the tiles written and the tiles in all.

    Returns:
        The page.

    Raises:
        InputError: if a part of the slide, the stain or the error cannot be read.
        ValueError: if the error does not lie over the stain.
    """
    layers = layers_of(source, stain, error)
    after = counted(sum(layer.count for layer in layers), report)
    with whole_folder(folder / TILES) as partial:
        for layer in layers:
            layer.write(partial, after)
    text = fill(
        "staining/templates/slide.html", _values(folder, record, source, stain, error, layers), *SCRIPTS, beside=True
    )
    with whole_file(folder / PAGE) as partial_page:
        partial_page.write_text(text, encoding="utf-8", errors="replace")
    return folder / PAGE


def title(record: Mapping[str, Any]) -> str:
    """``Virtual staining: Ki-67 from H&E, slide.svs``, as far as it is known."""
    stain, source = record.get("stain"), record.get("source")
    kind = f": {stain} from {source}" if stain and source else ""
    return ", ".join([f"Virtual staining{kind}", *_file_name(record)])


def _file_name(record: Mapping[str, Any]) -> list[str]:
    return [Path(str(record["input"])).name] if record.get("input") else []


def _values(
    folder: Path,
    record: Mapping[str, Any],
    source: Pictures | None,
    stain: Pyramid,
    error: Pyramid | None,
    layers: Sequence[Layer],
) -> dict[str, Any]:
    """What the template names."""
    spec = stain.spec
    level = next(number for number, shape in enumerate(spec.levels) if max(shape) <= STILL)
    whole = (level, slice(0, spec.levels[level][0]), slice(0, spec.levels[level][1]))
    stained = stain_pictures(stain)(*whole)
    overview = None if source is None else source(*whole)
    names = {
        "source": f"{_named(record, 'source')}: the slide",
        "stain": f"{_named(record, 'stain')}: virtual stain",
    }
    seen = {"source": overview, "stain": stained}
    empty = (stain.read(*whole) == np.array(spec.background).astype(spec.kind)).all(axis=2)
    likeness = get(record, "likeness", {})
    places = [_place(at, spec) for at in likeness.get("unlike", [])]
    slide = {
        "um": spec.pixel_um,
        "tile": SIDE,
        "navigator": True,
        "coarser": 0 if error is None else cells_between(stain, error),
        "layers": {layer.name: layer.told() for layer in layers},
    }
    return {
        "title": title(record),
        "about": f"{times(spec.shape)} px of {spec.pixel_um:.4g} µm (rows × columns), {_extent(spec)} · {when(record)}",
        "answers": of_slide(record),
        "slide": json.dumps(slide),
        "panes": [(name, names[name]) for name, picture in seen.items() if picture is not None],
        "grounds": {"source": _ground(overview, empty), "stain": _ground(stained, empty)},
        "still": [
            _still(picture, names[name], spec.pixel_um * 2**level)
            for name, picture in seen.items()
            if picture is not None
        ],
        "legends": [] if spec.rgb or spec.channels == 1 else [(_named(record, "stain"), _swatches(spec))],
        "tall": f"{spec.shape[0] / spec.shape[1]:.4f}",
        "has_error": error is not None,
        "bar": None
        if error is None
        else heat_bar(f"expected error, 0 to {error.spec.shown[1]:g} or more levels; hatched: not known"),
        "likeness": _likeness(likeness),
        "places": places[:TOLD],
        "more": max(0, len(places) - TOLD),
        "bound": get(record, "expected_error.bound"),
        "level": get(record, "expected_error.level", 0.0),
        "origin": list(_origin(record, spec)),
        "files": list(_files(folder, record, layers)),
    }


def _named(record: Mapping[str, Any], side: str) -> str:
    return str(record.get(side) or side)


def _ground(picture: np.ndarray | None, empty: np.ndarray) -> str:
    """What lies behind the tiles: the usual colour of what was not stained."""
    if picture is None or empty.mean() < LEAST_EMPTY:  # what little there is may be a hole, or a margin of the tissue
        return "#{:02x}{:02x}{:02x}".format(*WHITE)
    return "#{:02x}{:02x}{:02x}".format(*np.median(picture[empty], axis=0).astype(int))


def _still(picture: np.ndarray, name: str, pixel_um: float) -> Picture:
    shown = Image.fromarray(picture)
    alt = f"{name}, all of it"
    return Picture(webp(shown, quality=85, method=4), *shown.size, alt, name, scale_bar(shown.width, pixel_um))


def _swatches(spec: SlideSpec) -> list[tuple[str, str]]:
    return [(label, f"#{colour}") for label, colour in zip(spec.channel_names, spec.colours, strict=True)]


def _place(at: Sequence[int], spec: SlideSpec) -> tuple[str, str]:
    """A place in words, and where the page goes to show it; it is told by its upper left corner, px."""
    y, x = (float(side) * spec.pixel_um for side in at)
    return f"x {x:.0f} µm, y {y:.0f} µm", f"#{x:.1f},{y:.1f},{AROUND_UM:g}"


def _likeness(told: Mapping[str, Any]) -> str | None:
    """The verdicts in a sentence; None where nothing is known."""
    if not told.get("blocks"):
        return None
    words = in_words({"slices": told["blocks"], UNLIKE: [], "doubtful": []})
    return f"{words[:1].upper()}{words[1:]}.".replace("slices", "blocks")


def _extent(spec: SlideSpec) -> str:
    return f"{' × '.join(f'{side * spec.pixel_um / 1000:.3g}' for side in spec.shape)} mm"


def _origin(record: Mapping[str, Any], spec: SlideSpec) -> Iterable[tuple[str, str | Markup]]:
    made = get(record, "fingerprint", {})
    typed: Callable[[Any], str | Markup] = lambda value: code(value) if value else NOT
    yield "slide", code(record["input"]) if record.get("input") else NOT
    yield "slide SHA-256", typed(made.get("slide"))
    yield "its pixels", _pixels(record.get("shape"), record.get("pixel_um"))
    yield "those of the stain", _pixels(spec.shape, spec.pixel_um)
    yield "channels", ", ".join(spec.channel_names)
    yield "tissue", _tissue(record)
    yield "model bundle", typed(record.get("bundle_root"))
    yield "model SHA-256", typed(made.get("model"))
    yield "method", trained_on(record) or NOT
    yield "window, step", f"{_px(made, 'window')}, {_px(made, 'step')}"
    yield "normalisation", str(made.get("normalisation", NOT))
    if "reference" in record:
        yield "statistics of", _reference(record["reference"])
    yield "speed", str(get(record, "arithmetic.arithmetic") or made.get("arithmetic") or made.get("speed") or NOT)
    yield "time spent", spent({"spent": _without_pixels(record)}) or NOT
    yield "started", when(record)
    yield "code", typed(record.get("code"))


def _pixels(shape: Sequence[float] | None, pixel_um: float | None) -> str:
    parts = [f"{times(shape)} (rows × columns)"] if shape else []
    return ", ".join(parts + ([f"{pixel_um:.4g} µm"] if pixel_um else [])) or NOT


def _tissue(record: Mapping[str, Any]) -> str:
    """Its area, of the pixels that were told to be tissue."""
    pixels, um = get(record, "spent.tissue_px"), record.get("stain_pixel_um")
    return NOT if pixels is None or not um else f"{pixels * (um / 1000) ** 2:.4g} mm²"


def _without_pixels(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in get(record, "spent", {}).items() if not name.endswith("_px")}


def _px(made: Mapping[str, Any], name: str) -> str:
    if name not in made:
        return NOT
    return "none" if made[name] is None else f"{made[name]} px"


def _reference(told: Mapping[str, Any]) -> str:
    """The region that a slide is stained by the statistics of."""
    top, left, height, width = told["region"]
    where = f"{height}×{width} px at row {top}, column {left}"
    unlike = "; it is unlike all sections of the training, and the stain may be wrong" if told.get("unlike") else ""
    return f"{where}: {told['distance']:.1f} from the nearest section of the training{unlike}"


def _files(folder: Path, record: Mapping[str, Any], layers: Sequence[Layer]) -> Iterator[tuple[str, str]]:
    results = {record.get("result"): "the stained slide", get(record, "expected_error.result"): "the error to expect"}
    for name, what in results.items():
        if name and (folder / str(name)).exists():
            yield str(name), f"{what}, {size_of(folder / str(name))}"
    yield PAGE, "this page"
    count = sum(layer.count for layer in layers)
    yield TILES, f"the pictures that it shows, {count} files, {size_of(folder / TILES)}; they go where it goes"
