"""The pieces of an HTML page that needs nothing but itself: pictures, tables, and the sheet they stand on."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from PIL import Image, ImageDraw

from bundle.common.palette import MARK, variables
from bundle.common.region import Region

RESEARCH = "Research only. A generated stain is a prediction, not a stain."
LARGEST = (640, 960)  # width and height of a reduced picture, px
QUALITY = 88  # of a reduced picture, WebP; the generated stain of a 640 px slide then takes some 100 kB

CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 0 1rem 3rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 2rem 0 .4rem; }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 2.6rem 0 .7rem; padding-top: .7rem;
  border-top: 2px solid var(--ink); }
h3 { font-size: 1.08rem; margin: 2rem 0 .3rem; }
h1, h2, h3, p, figcaption, caption { overflow-wrap: anywhere; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
a { color: var(--link); }
code { font: .85em/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
pre { margin: .4rem 0 .8rem; padding: .6rem .8rem; background: var(--panel); white-space: pre-wrap; }
.about { color: var(--quiet); margin-top: 0; max-width: none; }
.research { font-weight: 600; }
.caveat, .missing { padding: .6rem .8rem; border-left: 4px solid; }
.caveat { background: var(--caveat); border-color: var(--warning); }
.missing { background: var(--panel); border-color: var(--missing); }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; padding: 0; margin: 1rem 0; list-style: none; }
dl { display: grid; grid-template-columns: minmax(6.5rem, 11rem) 1fr; gap: .25rem 1rem; margin: .5rem 0; }
dt { color: var(--quiet); }
dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--caption); font-size: .9rem; padding-bottom: .5rem; }
caption span { display: inline-block; position: sticky; left: 0; max-width: min(46rem, 88vw); }
th, td { padding: .3rem .7rem .3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--rule); }
th.n, td.n { text-align: right; padding-left: .5rem; }
th:last-child, td:last-child { padding-right: 0; }
thead th { border-bottom: 2px solid var(--ink); vertical-align: bottom; }
tbody th { font-weight: 400; }
th[scope=rowgroup] { font-weight: 600; padding-top: .9rem; }
td small { color: var(--quiet); white-space: nowrap; }
figure { margin: 0; min-width: 0; }
figcaption { font-size: .85rem; line-height: 1.35; color: var(--caption); margin-top: .3rem; }
img { display: block; width: 100%; height: auto; outline: 1px solid var(--edge); outline-offset: -1px; }
img.exact { image-rendering: pixelated; }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: inherit !important; }
.grid { display: grid; gap: .9rem .8rem; margin: .8rem 0 1.2rem; align-items: start; }
.slides { grid-template-columns: repeat(auto-fill, minmax(max(9.5rem, 22%), 1fr)); }
.wide { grid-template-columns: repeat(auto-fill, minmax(max(15rem, 45%), 1fr)); }
.regions { grid-template-columns: repeat(auto-fill, minmax(max(15rem, 30%), 1fr)); }
.patches { grid-template-columns: repeat(auto-fill, minmax(max(6.2rem, 17%), 1fr)); }
.charts { grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1.2rem; }
.charts figure { max-width: 30rem; }
.sample { max-width: 40rem; }
.line { position: relative; padding: 0 .6rem; }
.line + figcaption { padding: 0 .6rem; }
.line::before, .line::after { content: ""; position: absolute; top: 50%; border: .35rem solid transparent;
  transform: translateY(-50%); }
.line::before { left: 0; border-left: .5rem solid var(--warning); border-right: 0; }
.line::after { right: 0; border-right: .5rem solid var(--warning); border-left: 0; }
.bar { display: block; height: 3px; background: var(--ink); margin: .15rem 0 .1rem; }
.heat { display: block; height: .6rem; margin-bottom: .1rem; }
footer { margin-top: 3rem; border-top: 1px solid var(--rule); color: var(--quiet); font-size: .9rem; }
@media (max-width: 34rem) {
  dl { display: block; }
  dd { margin: 0 0 .5rem; }
  th, td { padding-right: .3rem; font-size: .95rem; }
  th.n, td.n { padding-left: .3rem; }
  td small { display: block; font-size: .72rem; }
}
@media print {
  @page { size: A4; margin: 14mm; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  body { font-size: 10pt; padding: 0; max-width: none; }
  nav { display: none; }
  .scroll { overflow: visible; }
  figure, tr, dt, dd, pre, .patches, .regions { break-inside: avoid; }
  h1, h2, h3, caption, .keep { break-after: avoid; }
  .charts { grid-template-columns: 1fr 1fr; }
  .slides { grid-template-columns: repeat(4, 1fr); }
  .wide { grid-template-columns: 1fr 1fr; }
  .regions { grid-template-columns: repeat(3, 1fr); }
  .patches { grid-template-columns: repeat(5, 1fr); }
}
"""

# The browser itself refuses whatever is not in the file.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def policy(script: str = "") -> str:
    """The page's Content-Security-Policy: of scripts, this very one runs, known by its SHA-256, and no other."""
    if not script:
        return POLICY
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"{POLICY}; script-src 'sha256-{digest}'"


def sheet(title: str, body: Iterable[str], css: str = "", script: str = "") -> str:
    """A whole page.

    Args:
        title: plain text.
        body: HTML.
        css: rules that only this page needs.
        script: JavaScript that runs when the body is there; the page must be readable without.

    Returns:
        HTML that loads nothing from anywhere.
    """
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en-GB">',
            '<head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy(script)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{variables()}{CSS}{css}</style></head>",
            "<body>",
            *body,
            *([f"<script>{script}</script>"] if script else []),
            "</body></html>\n",
        ]
    )


def section(identifier: str, heading: str, *parts: str) -> str:
    """A headed part of the page, that the contents can point to."""
    return "\n".join([f'<section id="{identifier}"><h2>{escape(heading)}</h2>', *parts, "</section>"])


def missing(text: str) -> str:
    """What is not there, said where it would stand."""
    return f'<p class="missing">{escape(text)}</p>'


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values; the values are HTML."""
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in pairs) + "</dl>"


def table(caption: str, head: Sequence[str], groups: Iterable[tuple[str, Iterable[Sequence[str]]]], words: int) -> str:
    """A table in a box of its own that scrolls.

    Args:
        caption: HTML.
        head: plain headings.
        groups: a heading (empty for none) and lines of HTML cells each.
        words: how many columns from the left are words; the others are numbers, right aligned.

    Returns:
        HTML.
    """
    numeric = ["" if place < words else ' class="n"' for place in range(len(head))]
    parts = [f'<div class="scroll" tabindex="0"><table><caption><span>{caption}</span></caption><thead><tr>']
    parts += [f'<th scope="col"{kind}>{escape(text)}</th>' for text, kind in zip(head, numeric, strict=True)]
    parts.append("</tr></thead>")
    for heading, lines in groups:
        parts.append("<tbody>")
        if heading:
            parts.append(f'<tr><th scope="rowgroup" colspan="{len(head)}">{escape(heading)}</th></tr>')
        for first, *others in lines:
            cells = [f"<td{kind}>{cell}</td>" for cell, kind in zip(others, numeric[1:], strict=True)]
            parts.append(f'<tr><th scope="row">{first}</th>{"".join(cells)}</tr>')
        parts.append("</tbody>")
    return "".join([*parts, "</table></div>"])


def grid(kind: str, figures: Iterable[str]) -> str:
    """Figures beside each other, as many as there is room for."""
    return f'<div class="grid {kind}">' + "\n".join(figures) + "</div>"


def chart(svg: str, caption: str) -> str:
    """A chart with its caption, plain text."""
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def reduced(image: np.ndarray, alt: str, caption: str, key: str = "", frame: Region | None = None) -> str:
    """A picture to look over, no larger than ``LARGEST``.

    Args:
        image: (1 or 3, H, W), uint8.
        alt: what it is, plain text.
        caption: plain text.
        key: HTML of a scale bar or colour bar, between the two.
        frame: a window to outline.

    Returns:
        A figure.
    """
    picture = _picture(image)
    picture.thumbnail(LARGEST, Image.Resampling.LANCZOS)
    if frame is not None:
        scale = picture.width / image.shape[2]
        edges = (frame.left, frame.top, frame.left + frame.width - 1, frame.top + frame.height - 1)
        ImageDraw.Draw(picture).rectangle([round(edge * scale) for edge in edges], outline=MARK, width=2)
    return f"<figure>{_img(picture, alt, quality=QUALITY)}{_caption(key, caption)}</figure>"


def exact(image: np.ndarray, alt: str, caption: str, key: str = "") -> str:
    """A picture pixel by pixel, without loss; arguments as of :func:`reduced`."""
    return f"<figure>{_exact(image, alt)}{_caption(key, caption)}</figure>"


def exact_with_line(image: np.ndarray, alt: str, caption: str, key: str = "") -> str:
    """The same, its horizontal mid-line marked by arrows at both sides."""
    return f'<figure><div class="line">{_exact(image, alt)}</div>{_caption(key, caption)}</figure>'


def scale_bar(width_px: int, pixel_um: float) -> str:
    """A bar of a round length, at most 40 % of the picture it stands under.

    Args:
        width_px: width of the picture.
        pixel_um: pixel size in µm.

    Returns:
        HTML for a caption.
    """
    longest = 0.4 * width_px * pixel_um
    decade = 10.0 ** np.floor(np.log10(longest))
    length = max(step * decade for step in (1, 2, 5) if step * decade <= longest)
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    return f'<span class="bar" style="width:{100 * length / (width_px * pixel_um):.2f}%"></span>{label}<br>'


def data_uri(webp: bytes) -> str:
    """A WebP file as an address that holds it."""
    return f"data:image/webp;base64,{base64.b64encode(webp).decode()}"


def _picture(image: np.ndarray) -> Image.Image:
    grey = np.broadcast_to(image, (3, *image.shape[1:]))
    return Image.fromarray(np.ascontiguousarray(grey.transpose(1, 2, 0)))


def _exact(image: np.ndarray, alt: str) -> str:
    return _img(_picture(image), alt, lossless=True).replace("<img", '<img class="exact"', 1)


def _img(picture: Image.Image, alt: str, **webp: bool | int) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", method=6, **webp)
    source = data_uri(buffer.getvalue())
    return f'<img src="{source}" alt="{escape(alt)}" width="{picture.width}" height="{picture.height}">'


def _caption(key: str, caption: str) -> str:
    return f"<figcaption>{key}{escape(caption)}</figcaption>"
