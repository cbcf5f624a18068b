"""Pictures of a stained volume: three planes through it beside the scan's, and a view of it in space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bundle.common.atomic import whole_file
from bundle.common.palette import INK, PALE, PAPER, PLANES
from bundle.common.threads import in_order
from bundle.staining.raycast import REFERENCE, STEP, Camera, busy_blocks, cast, opacities, shades

AZIMUTH, ELEVATION = -35.0, 25.0  # degrees; three faces are seen, slice 0 the widest
CLEAR = 28  # alpha up to which nothing is seen: glass of 241, 240, 238 has 15, and noise of ±12
SIZE = 900  # of the rendering's longer side, px
MARGIN = 120  # round it for its labels, px
FINER = 3  # times that lines are drawn larger and reduced, so that they are smooth
GAP, BAND, TICK = 28, 34, 9  # px, of the orthogonal views
FONT_PX = 20
ROWS = 32  # of the rendering that a thread computes at a time

ToScreen = Callable[[np.ndarray], np.ndarray]  # points in µm (…, 3) → pixels (…, 2), right and down


def alpha(rgb: np.ndarray) -> np.ndarray:
    """Opacity of a stain for direct RGBA rendering: ``255 − (R + G + B) / 3``, rounded (§2.11).

    Args:
        rgb: (…, 3), uint8.

    Returns:
        (…), uint8; dark stain is opaque, white glass is clear.

    >>> alpha(np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]], np.uint8)).tolist()
    [0, 255, 170]
    """
    total = rgb[..., 0].astype(np.uint16) + rgb[..., 1] + rgb[..., 2]
    return (255 - (2 * total + 3) // 6).astype(np.uint8)  # thirds are never halves, so this is exact


def round_length(longest_um: float) -> tuple[float, str]:
    """The longest 1, 2 or 5 · 10ⁿ µm that is not over ``longest_um``, and how it is written."""
    decade = 10.0 ** np.floor(np.log10(longest_um))
    length = float(max(digit * decade for digit in (1, 2, 5) if digit * decade <= longest_um * (1 + 1e-9)))
    return length, written_length(length)


def written_length(um: float) -> str:
    """``640 µm`` or ``1.28 mm``."""
    return f"{um / 1000:.3g} mm" if um >= 1000 else f"{um:.3g} µm"


def save_png(path: Path, picture: np.ndarray, pixel_um: float) -> None:
    """Write a picture (H, W, 3), uint8, with its pixel size, whole or not at all."""
    with whole_file(path) as partial:
        Image.fromarray(picture).save(partial, dpi=(25400.0 / pixel_um,) * 2)


def orthogonal_views(rows: Mapping[str, Sequence[np.ndarray]], at: Sequence[float], pixel_um: float) -> np.ndarray:
    """Lay out planes across z, y and x, a row for each volume, true to scale.

    Planes across y and x have z downwards, so unevenness from slice to slice shows as horizontal stripes in both.
    Marks at the edges of each plane, in the others' colours, say where those cut it.

    Args:
        rows: by title, the planes xy (Y, X), xz (Z, X) and yz (Z, Y), each (H, W) or (H, W, 3), uint8.
        at: where the planes lie along (z, y, x), as a share of the volume.
        pixel_um: pixel size of all of them, µm.

    Returns:
        (H, W, 3), uint8.
    """
    sizes = [plane.shape[:2] for plane in next(iter(rows.values()))]
    band = BAND + TICK  # of heading, above; of axes, below
    column_widths = [max(width, 90) for _, width in sizes]
    lefts = GAP + TICK + np.cumsum([0, *(width + GAP + 3 * TICK + FONT_PX for width in column_widths)])
    tall = max(height for height, _ in sizes)
    row_height = 2 * band + tall
    width = int(lefts[-1])
    sheet = Image.new("RGB", (max(width, 420), len(rows) * row_height + GAP + BAND), PAPER)
    draw = ImageDraw.Draw(sheet)
    z, y, x = at
    crossing = [(("yz", x), ("xz", y)), (("yz", x), ("xy", z)), (("xz", y), ("xy", z))]
    for number, (title, planes) in enumerate(rows.items()):
        top = number * row_height + band
        for left, plane, name, marks in zip(lefts, planes, PLANES, crossing, strict=False):
            heading = f"{title}, {name}" if name == "xy" else name
            _panel(sheet, plane, (int(left), top), heading, name, marks)
    length, text = round_length(0.5 * sizes[0][1] * pixel_um)
    _bar(draw, int(lefts[0]), sheet.height - BAND, length / pixel_um, text, FONT_PX)
    return np.asarray(sheet)


def _panel(
    sheet: Image.Image,
    plane: np.ndarray,
    corner: tuple[int, int],
    heading: str,
    name: str,
    marks: Sequence[tuple[str, float]],
) -> None:
    """Place one plane with its heading, its axes' names and the marks of the planes down and across it."""
    left, top = corner
    height, width = plane.shape[:2]
    draw = ImageDraw.Draw(sheet)
    sheet.paste(Image.fromarray(np.ascontiguousarray(plane)).convert("RGB"), corner)
    draw.rectangle([left - 2, top - 2, left + width + 1, top + height + 1], outline=PLANES[name], width=2)
    font = _font(FONT_PX)
    draw.text((left, top - TICK - 9), heading, INK, font, "ls")
    draw.text((left, top + height + 6), f"{name[0]} →", INK, font, "la")
    draw.multiline_text((left - 7, top), f"{name[1]}\n↓", INK, font, "ra", align="center")
    (upright, along), (level, down) = marks
    column, row = left + along * width, top + down * height
    for end in (top - 3 - TICK, top + height + 3):
        draw.line([(column, end), (column, end + TICK)], PLANES[upright], 3)
    for end in (left - 3 - TICK, left + width + 3):
        draw.line([(end, row), (end + TICK, row)], PLANES[level], 3)


def render(
    rgb: np.ndarray,
    voxel_um: Sequence[float],
    azimuth: float = AZIMUTH,
    elevation: float = ELEVATION,
    cut: float = 0.5,
    clear: int = CLEAR,
    size: int = SIZE,
) -> tuple[np.ndarray, float]:
    """A stained volume seen in space, opacity straight from its colours (§2.11, Fig. 8d).

    Parallel rays, composited front to back by :func:`bundle.staining.raycast.cast`, on white. Unlike the paper's, alpha
    up to ``clear`` counts as none, surfaces are lightly shaded, and the corner nearest to the viewer is cut away.

    Args:
        rgb: (Z, Y, X, 3), uint8; :class:`bundle.images.volumes.planes.Copy` makes one of at most 256 voxels a side.
        voxel_um: size of its voxels along (z, y, x), µm.
        azimuth: degrees to the right from the view of slice 0.
        elevation: degrees upwards from it.
        cut: share of each side, from the corner nearest to the viewer, that is cut away; 0 for none.
        clear: see :func:`bundle.staining.raycast.opacities`.
        size: the longer side of what is seen of the volume, px.

    Returns:
        The picture (H, W, 3), uint8, with the volume's outline, lengths and a scale bar; and its pixel size, µm.
    """
    voxel, camera = np.asarray(voxel_um, float), Camera.at(azimuth, elevation)
    box = np.array(rgb.shape[:3]) * voxel
    seen = camera.on_screen(np.array(list(product((0, 1), repeat=3))) * box)
    first, span = seen.min(axis=0), np.ptp(seen, axis=0)
    pixel_um = float(span.max() / size)
    width, height = (int(np.ceil(side / pixel_um)) + 2 * MARGIN for side in span)
    height += BAND  # for the scale bar
    corner = first - (MARGIN - 0.5) * pixel_um  # where pixel (0, 0) is seen
    origin = camera.right * corner[0] + camera.down * corner[1] - camera.away * 2 * np.linalg.norm(box)
    step = STEP * float(voxel.min())
    rows = partial(
        cast,
        rgb,
        shades(rgb, voxel, camera),
        busy_blocks(rgb, clear),
        opacities(step / max(float(box.max()) / REFERENCE, float(voxel.min())), clear),
        voxel,
        _cut_box(box, camera, cut),
        origin,
        camera.right * pixel_um,
        camera.down * pixel_um,
        camera.away,
        step,
    )
    tops = range(0, height, ROWS)
    picture = np.concatenate(list(in_order(lambda top: rows(top, min(ROWS, height - top), width), tops)))
    to_screen = lambda points: (camera.on_screen(points) - corner) / pixel_um
    return _framed(picture, box, camera, cut, to_screen, pixel_um), pixel_um


def _cut_box(box: np.ndarray, camera: Camera, cut: float) -> np.ndarray:
    """(2, 3), the box at the corner nearest to the viewer that is cut away, a little over the volume's faces."""
    low = camera.away > 0  # axes along which the near face is the one at 0
    over = 0.01 * box
    lower, upper = np.where(low, -over, (1 - cut) * box), np.where(low, cut * box, box + over)
    return np.stack([lower, upper]) if cut > 0 else np.zeros((2, 3))


def _edges(camera: Camera, cut: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Edges of the volume, and of what is cut from it, in shares of its sides: those behind it, those in front."""
    near = np.where(camera.away > 0, 0.0, 1.0)
    behind, front = [], []
    for axis, one, two in product(range(3), (0.0, 1.0), (0.0, 1.0)):
        ends = np.insert(np.array([[one, two], [one, two]]), axis, [0.0, 1.0], axis=1)
        touches = lambda corner, edge=ends: bool((edge == corner).all(axis=1).any())
        if cut > 0 and not touches(near):
            front.append(near + cut * (np.abs(ends - near) * np.sign(0.5 - near)))
        if touches(1 - near):
            behind.append(ends)
        elif cut > 0 and touches(near):
            front.append(np.where(ends == near, near + cut * np.sign(0.5 - near) * (np.ptp(ends, axis=0) > 0), ends))
        else:
            front.append(ends)
    return behind, front


def _framed(
    picture: np.ndarray, box: np.ndarray, camera: Camera, cut: float, to_screen: ToScreen, pixel_um: float
) -> np.ndarray:
    """The rendering (H, W, 4) on white, with the volume's edges, lengths and a scale bar: (H, W, 3), uint8."""
    behind, front = ([to_screen(edge * box) for edge in edges] for edges in _edges(camera, cut))
    shape = picture.shape[:2]
    ground = 255 - _lines(shape, behind)[..., None] * (255 - np.array(PALE, np.float32))
    image = picture[..., :3] + (1 - picture[..., 3:]) * ground
    strength = 0.6 * _lines(shape, front)[..., None]
    framed = np.rint((1 - strength) * image + strength * np.array(PALE, np.float32))
    sheet = Image.fromarray(np.clip(framed, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(sheet)
    middle = to_screen(box / 2)
    for axis, name in enumerate("zyx"):
        _name_edge(draw, to_screen(_outer_edge(axis, camera) * box), middle, f"{name}\n{written_length(box[axis])}")
    length, text = round_length(0.3 * (shape[1] - 2 * MARGIN) * pixel_um)
    _bar(draw, GAP, shape[0] - BAND, length / pixel_um, text, FONT_PX)
    return np.asarray(sheet)


def _outer_edge(axis: int, camera: Camera) -> np.ndarray:
    """The lower of the two edges along an axis that bound what is seen of the volume, in shares of its sides."""
    near = np.where(camera.away > 0, 0.0, 1.0)
    first, second = (other for other in range(3) if other != axis)
    edges = []
    for flipped in (first, second):
        edge = np.stack([near, near])
        edge[:, flipped] = 1 - near[flipped]
        edge[:, axis] = 0, 1
        edges.append(edge)
    return max(edges, key=lambda edge: float(camera.on_screen(edge).mean(axis=0) @ (-0.3, 1)))


def _name_edge(draw: ImageDraw.ImageDraw, ends: np.ndarray, middle: np.ndarray, text: str) -> None:
    """Write beside an edge, on its side away from the middle of the picture; not where it is seen end on."""
    length = float(np.linalg.norm(ends[1] - ends[0]))
    if length < FONT_PX:
        return
    along = (ends[1] - ends[0]) / length
    outwards = np.array([along[1], -along[0]])
    outwards *= np.sign(outwards @ (ends.mean(axis=0) - middle)) or 1.0
    x, y = ends.mean(axis=0) + 12 * outwards
    font = _font(FONT_PX)
    left, top, right, bottom = draw.multiline_textbbox((0, 0), text, font, align="center")
    half = np.array([right - left, bottom - top]) / 2
    x, y = np.array([x, y]) + outwards * half  # so that the text's box clears the edge
    draw.multiline_text((x, y), text, INK, font, "mm", align="center")


def _lines(shape: tuple[int, int], edges: Sequence[np.ndarray]) -> np.ndarray:
    """Thin smooth lines, (H, W), float32 in 0–1."""
    height, width = shape
    large = Image.new("L", (FINER * width, FINER * height))
    draw = ImageDraw.Draw(large)
    for edge in edges:
        draw.line([tuple(point) for point in FINER * edge], 255, FINER + 1)
    return np.asarray(large.resize((width, height), Image.Resampling.BOX), np.float32) / 255


def _bar(draw: ImageDraw.ImageDraw, left: int, top: int, length_px: float, text: str, font_px: int) -> None:
    draw.rectangle([left, top, left + length_px, top + 4], fill=INK)
    draw.text((left + length_px + 10, top + 2), text, INK, _font(font_px), "lm")


def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as it comes with matplotlib: every machine has it, and it has µ and arrows."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
