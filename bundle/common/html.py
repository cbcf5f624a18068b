"""HTML pages that need nothing but themselves: their templates are filled here, with words, pictures and charts.

A template escapes what it is given. What is HTML already is ``Markup``, made here, or with ``Markup(…).format``, which
escapes what it puts in.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image, ImageDraw

from bundle.common.palette import MARK, variables
from bundle.common.region import Region

RESEARCH = "Research only. A generated stain is a prediction, not a stain."
LARGEST = (640, 960)  # width and height of a reduced picture, px
QUALITY = 88  # of a reduced picture, WebP; the generated stain of a 640 px slide then takes some 100 kB
ROOMS = Path(__file__).parents[1]  # templates are named from here: report/templates/run.html
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # the browser refuses what is not in the file

TEMPLATES = Environment(
    loader=FileSystemLoader(ROOMS),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
TEMPLATES.globals |= {"RESEARCH": RESEARCH, "colours": Markup(variables()), "paired": partial(zip, strict=True)}


def fill(template: str, values: Mapping[str, Any], *scripts: str, beside: bool = False) -> str:
    """A whole page.

    Args:
        template: its file, from :data:`ROOMS`; it extends ``common/templates/base.html``.
        values: what it names, ``title`` among it.
        *scripts: files of JavaScript that run when the page is there, in order; the page must be readable without.
        beside: whether it shows pictures from files that lie beside it.

    Returns:
        HTML that loads nothing from anywhere else.
    """
    text = "\n".join((ROOMS / script).read_text(encoding="utf-8") for script in scripts)
    return TEMPLATES.get_template(template).render(values, policy=Markup(policy(text, beside)), script=Markup(text))


def policy(script: str = "", beside: bool = False) -> str:
    """The page's Content-Security-Policy: of scripts, this very one runs, known by its SHA-256, and no other.

    Args:
        script: the page's.
        beside: whether pictures may be loaded from where the page lies, be that a server or a folder.
    """
    told = POLICY.replace("img-src data:", "img-src data: 'self' file:") if beside else POLICY
    if not script:
        return told
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"{told}; script-src 'sha256-{digest}'"


def code(value: object) -> Markup:
    """A command, path or number as it is typed."""
    return Markup("<code>{}</code>").format(value)


def bold(text: str) -> Markup:
    """The best figure of a table."""
    return Markup("<b>{}</b>").format(text)


def small(cell: str, what: str = r"\[[^\]]*\]") -> Markup:
    """What stands beside a figure, such as its quartiles in brackets, in small print.

    Args:
        cell: text, or Markup.
        what: regular expression of that.
    """
    return Markup(re.sub(what, r"<small>\g<0></small>", str(escape(cell))))


class Key(NamedTuple):
    """A bar between a picture and its caption: its class, style, and what it says."""

    kind: str
    style: str
    label: str


class Picture(NamedTuple):
    """A picture with its caption.

    Attributes:
        uri: its file, see :func:`data_uri`.
        width: px; likewise ``height``.
        alt: what it is, for who cannot see it.
        caption: below it.
        key: a scale bar or colour bar, between the two.
        kind: ``reduced``, ``exact``, or ``line``: exact, its horizontal mid-line marked by arrows at both sides.
    """

    uri: str
    width: int
    height: int
    alt: str
    caption: str
    key: Key | None = None
    kind: str = "reduced"


class Answer(NamedTuple):
    """What a page says first, in words: a verdict and the numbers behind it.

    Attributes:
        verdict: a few words, without a stop.
        numbers: what it is read from, without a stop; empty where the verdict says all.
        tone: ``good``, ``bad``, or ``plain``, which is neither; how the line is marked.
    """

    verdict: str
    numbers: str = ""
    tone: str = "plain"

    def __str__(self) -> str:
        """As a sentence."""
        return f"{self.verdict}: {self.numbers}." if self.numbers else f"{self.verdict}."


class Chart(NamedTuple):
    """A chart with its caption, or without SVG why there is none."""

    svg: Markup | None
    caption: str


def reduced(image: np.ndarray, alt: str, caption: str, key: Key | None = None, frame: Region | None = None) -> Picture:
    """A picture to look over, no larger than ``LARGEST``.

    Args:
        image: (1 or 3, H, W), uint8.
        alt: as of :class:`Picture`; likewise ``caption`` and ``key``.
        caption: see there.
        key: see there.
        frame: a window to outline.
    """
    picture = _picture(image)
    picture.thumbnail(LARGEST, Image.Resampling.LANCZOS)
    if frame is not None:
        scale = picture.width / image.shape[2]
        edges = (frame.left, frame.top, frame.left + frame.width - 1, frame.top + frame.height - 1)
        ImageDraw.Draw(picture).rectangle([round(edge * scale) for edge in edges], outline=MARK, width=2)
    return Picture(webp(picture, quality=QUALITY, method=6), *picture.size, alt, caption, key)


def exact(image: np.ndarray, alt: str, caption: str, key: Key | None = None, kind: str = "exact") -> Picture:
    """A picture pixel by pixel, without loss; arguments as of :func:`reduced` and :class:`Picture`."""
    picture = _picture(image)
    return Picture(webp(picture, lossless=True, method=6), *picture.size, alt, caption, key, kind)


def scale_bar(width_px: int, pixel_um: float) -> Key:
    """A bar of a round length, at most 40 % of the picture it stands under.

    Args:
        width_px: width of the picture.
        pixel_um: pixel size in µm.
    """
    longest = 0.4 * width_px * pixel_um
    decade = 10.0 ** np.floor(np.log10(longest))
    length = max(step * decade for step in (1, 2, 5) if step * decade <= longest)
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    return Key("bar", f"width:{100 * length / (width_px * pixel_um):.2f}%", label)


def webp(picture: Image.Image, **options: bool | int) -> str:
    """A picture as an address that holds it; options as of Pillow's writer."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", **options)
    return data_uri(buffer.getvalue())


def data_uri(content: bytes) -> str:
    """A WebP file as an address that holds it."""
    return f"data:image/webp;base64,{base64.b64encode(content).decode()}"


def _picture(image: np.ndarray) -> Image.Image:
    grey = np.broadcast_to(image, (3, *image.shape[1:]))
    return Image.fromarray(np.ascontiguousarray(grey.transpose(1, 2, 0)))
