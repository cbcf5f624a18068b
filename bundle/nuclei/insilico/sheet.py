"""A contact sheet: a row of small pictures for each tile, with captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bundle.common.palette import ALARM, INK, PAPER

SIDE = 200  # of a picture, px
GAP = 8
LINE = 18  # height of a line of text, px
TEXT = 13  # px


@dataclass(frozen=True)
class Panel:
    """A picture of a contact sheet.

    Attributes:
        image: (3, H, W), uint8.
        caption: the line below it.
        alarm: whether the caption, and a frame about the picture, are red.
    """

    image: np.ndarray
    caption: str = ""
    alarm: bool = False


def contact_sheet(heads: Sequence[str], rows: Sequence[tuple[str, Sequence[Panel]]]) -> np.ndarray:
    """Pictures in rows and columns, made small or large to one size, their proportions kept.

    Args:
        heads: of the columns.
        rows: the name of each, and its panels in the order of the columns.

    Returns:
        (3, H, W), uint8.
    """
    pitch = SIDE + GAP
    small = [[_small(panel.image) for panel in panels] for _, panels in rows]
    depths = [max(picture.height for picture in pictures) + 2 * LINE + GAP for pictures in small]
    page = Image.new("RGB", (GAP + pitch * len(heads), GAP + LINE + sum(depths)), PAPER)
    draw = ImageDraw.Draw(page)
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    plain, bold = (ImageFont.truetype(str(fonts / name), TEXT) for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"))
    for column, head in enumerate(heads):
        draw.text((GAP + column * pitch, GAP), fitted(head, bold), INK, bold)
    top = GAP + LINE
    for (name, panels), pictures, depth in zip(rows, small, depths, strict=True):
        draw.text((GAP, top), fitted(name, plain, page.width - 2 * GAP), INK, plain)
        for column, (panel, picture) in enumerate(zip(panels, pictures, strict=True)):
            left, colour = GAP + column * pitch, ALARM if panel.alarm else INK
            page.paste(picture, (left, top + LINE))
            if panel.alarm:
                box = (left, top + LINE, left + picture.width - 1, top + LINE + picture.height - 1)
                draw.rectangle(box, outline=ALARM, width=3)
            draw.text((left, top + LINE + picture.height + 2), fitted(panel.caption, plain), colour, plain)
        top += depth
    return np.asarray(page).transpose(2, 0, 1)


def fitted(text: str, font: ImageFont.FreeTypeFont, width: int = SIDE) -> str:
    """A text that is not wider than so many px: its end becomes … if need be."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


def _small(image: np.ndarray) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    factor = SIDE / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.LANCZOS)
