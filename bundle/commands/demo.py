"""Something stained within a minute: a phantom, by the model that comes with the program."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fire.decorators import SetParseFns

from bundle.commands.monai_run import Run, wanted_path
from bundle.common.atomic import check_writable, whole_file
from bundle.common.errors import InputError
from bundle.common.home import PRETRAINED
from bundle.common.palette import PAGE, rgb

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

MARK = "Phantom-trained, not for data"
PANELS = {  # of the picture, from left to right: the folder of the phantom, and what it shows
    "ct": ("micro-CT", "The phantom's scan: what the model is given."),
    "stained": ("virtual stain", "What the model makes of it."),
    "stain": ("section", "The phantom's section, with the faults of a cut, stained and scanned slide."),
    "perfect": ("perfect stain", "The same without any fault: the best that any stain could be."),
}
ZOOM = 2  # of the picture
BAND, GAP = 34, 8  # px of the labels, and between panels


@SetParseFns(output=str, bundle=str)
def demo(output: str, bundle: str | None = None, seed: int = 1) -> str:
    """Stain a slice of a phantom (a computed specimen) with the small model that comes with the program.

    It makes one pair of a phantom, stains its scan, and puts scan, stain, section and perfect stain side by side. The
    model has learnt from other phantoms alone and is not for data.

    Args:
        output: a folder; made, or empty.
        bundle: another trained bundle, RUN/bundle, in place of the one that comes with the program.
        seed: another number makes another specimen; 2026 made those that the model has learnt from.

    Returns:
        Where to look, and what to do next.

    Raises:
        InputError: if the folder is not empty, or there is no such bundle.
    """
    folder, root = Path(output), wanted_path(bundle or str(PRETRAINED), "bundle")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"output {output} is there and not empty; name a new folder.")
    config = root / "configs" / "inference.json"
    if not config.is_file():
        raise InputError(f"bundle {root} has no configs/inference.json; name RUN/bundle of a training.")
    check_writable(folder)
    from bundle.preparation.phantom.dataset import make_dataset

    make_dataset(str(folder / "phantom"), 1, seed=seed, volumes=False)
    scan = folder / "phantom" / "ct" / "01.png"
    Run(
        "inference",
        [str(config)],
        {"bundle_root": str(root), "input": str(scan), "output_dir": str(folder / "stained")},
    ).start(show=False)
    files = {name: folder / "phantom" / name / "01.png" for name in PANELS}
    picture, page = write_pictures(folder, files | {"stained": folder / "stained" / "01_stained.png"}, mark_of(bundle))
    return "\n".join([f"\n{mark_of(bundle)}.", f"look at {page}", f"  or at {picture}", "next:", *next_lines(folder)])


def mark_of(bundle: str | None) -> str:
    """What stands on everything that a model made."""
    return MARK if bundle is None else "Stained by a bundle of your own"


def next_lines(folder: Path) -> list[str]:
    """Two commands that go on from here."""
    data, run = shlex.quote(f"{folder}/pairs"), shlex.quote(f"{folder}/run")
    return [
        f"  virtual-staining phantom --output {data} --pairs 20 --volumes false",
        f"  virtual-staining train {data} {run} --profile demo --fold 0",
    ]


def write_pictures(folder: Path, files: Mapping[str, Path], mark: str) -> tuple[Path, Path]:
    """The panels side by side as one labelled PNG, and a page with each.

    Args:
        folder: where to.
        files: the image of each of :data:`PANELS`.
        mark: what stands on both.

    Returns:
        The PNG; the page.
    """
    from bundle.common.html import exact, fill

    images = {name: eight_bits(files[name]) for name in PANELS}
    picture, page = folder / "demo.png", folder / "demo.html"
    with whole_file(picture) as path:
        side_by_side(images, mark).save(path, format="PNG")
    shown = [exact(images[name], title, f"{title}. {text}") for name, (title, text) in PANELS.items()]
    values = {"title": "A first virtual stain", "mark": mark, "ours": mark == MARK, "pictures": shown}
    values["lines"] = next_lines(folder)
    with whole_file(page) as path:
        path.write_text(fill("commands/templates/demo.html", values), encoding="utf-8")
    return picture, page


def eight_bits(path: Path) -> np.ndarray:
    """An image as it is shown: (1 or 3, H, W), uint8, grey of 16 bits from its darkest to its brightest pixel."""
    import numpy as np

    from bundle.images.slides import read_slide

    pixels = read_slide(path).pixels[:3]
    if pixels.dtype == np.uint8:
        return pixels
    low, high = float(pixels.min()), float(pixels.max())
    return np.rint((pixels.astype(np.float32) - low) * (255 / max(high - low, 1))).astype(np.uint8)


def side_by_side(images: Mapping[str, np.ndarray], mark: str) -> Image.Image:
    """Panels of one size beside each other, each under its name, the mark below.

    Args:
        images: (1 or 3, H, W), uint8, by name.
        mark: written below.
    """
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    first = next(iter(images.values()))
    height, width = (size * ZOOM for size in first.shape[1:])
    sheet = Image.new("RGB", (len(images) * (width + GAP) - GAP, height + 2 * BAND), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for place, (name, image) in enumerate(images.items()):
        colour = np.repeat(image, 3, axis=0) if len(image) == 1 else image
        panel = Image.fromarray(np.ascontiguousarray(colour.transpose(1, 2, 0))).resize((width, height))
        left = place * (width + GAP)
        sheet.paste(panel, (left, BAND))
        draw.text((left + 4, 6), PANELS[name][0], fill=rgb(PAGE["ink"]), font=font)
    draw.text((4, BAND + height + 6), f"{mark}. Research only.", fill=rgb(PAGE["ink"]), font=font)
    return sheet
