"""Labelled tiles: which there are, and whether they fit together."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from bundle.common.errors import InputError
from bundle.common.values import first_spelling, is_text
from bundle.data.datalist import SPLITS, Modality
from bundle.data.load import image_faults
from bundle.images.slides import read_slide, suffix_of
from bundle.nuclei.dataset import read_nuclei
from bundle.nuclei.insilico.morphology import tissue

POSTFIX = "_labels"  # of a label image's name beside that of its tile
COLUMNS = ("tile", "specimen", "split")
LEAST_SIDE = 8  # px; of the network
LEAST_TISSUE = 0.01  # of a tile
PIECES = 5  # one number in so many places is a mask, not a nucleus


@dataclass(frozen=True)
class Tile:
    """A tile with its labels.

    Attributes:
        name: of the file, without suffix.
        path: of the image.
        labels: of its label image.
        specimen: what must not be divided between splits.
        split: where its variants belong.
    """

    name: str
    path: Path
    labels: Path
    specimen: str
    split: str


def stem(path: Path) -> str:
    """A file's name without its image suffix."""
    return path.name[: -len(suffix_of(path))]


def list_tiles(input_dir: str, labels_dir: str, split: str, table: str | None) -> list[Tile]:
    """The tiles of a folder, each with its label image, by name.

    Args:
        input_dir: a folder of images; those named ``…_labels`` are none of its tiles.
        labels_dir: a folder, it may be the same, of images named as a tile or as a tile with ``_labels``.
        split: of tiles for which the table says none.
        table: CSV with the columns tile, specimen, split; without it each tile is its own specimen.

    Raises:
        InputError: with a line for each tile without labels, label image without a tile, and fault of the table.
    """
    from bundle.staining.slides import list_images  # here, as PyTorch takes seconds to load

    folders = {"input": Path(input_dir), "labels": Path(labels_dir)}
    missing = [f"{option} {folder} is no folder." for option, folder in folders.items() if not folder.is_dir()]
    if missing:
        raise InputError("\n".join(missing))
    images = [path for path in list_images(input_dir) if not stem(path).endswith(POSTFIX)]
    same = folders["input"].resolve() == folders["labels"].resolve()
    masks = [path for path in list_images(labels_dir) if not same or stem(path).endswith(POSTFIX)]
    faults: list[str] = []
    by_tile = _unique({path: stem(path) for path in images}, "tile", faults)
    by_label = _unique({path: stem(path).removesuffix(POSTFIX) for path in masks}, "label image of one tile", faults)
    faults += [
        f"tile {path} has no labels; put {name}.png or {name}{POSTFIX}.png into {labels_dir}, or take the tile away."
        for name, path in by_tile.items()
        if name not in by_label
    ]
    faults += [f"labels {path} have no tile {name}.*." for name, path in by_label.items() if name not in by_tile]
    if not images:
        faults.append(f"input {input_dir} holds no tile: all its images end in {POSTFIX}.")
    names = [name for name in by_tile if name in by_label]
    rows = read_table(table, list(by_tile), split, faults) if table is not None else {}
    if faults:
        raise InputError("\n".join(faults))
    return [Tile(name, by_tile[name], by_label[name], *rows.get(name, (name, split))) for name in names]


def _unique(names: Mapping[Path, str], what: str, faults: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path, name in names.items():
        if name in found:
            faults.append(f"{found[name]} and {path} are both {what} {name!r}; keep one.")
        found.setdefault(name, path)
    return found


def read_table(path: str, names: Sequence[str], split: str, faults: list[str]) -> dict[str, tuple[str, str]]:
    """Specimen and split of each tile, from a CSV with the columns tile, specimen, split; lines in ``faults`` else.

    Args:
        path: UTF-8; tiles without a line, and empty cells, mean the tile itself and ``split``.
        names: of the tiles.
        split: where the table says none.
        faults: gets a line for each.
    """
    file = Path(str(path))
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            lines = list(csv.DictReader(text))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        faults.append(f"table {file} cannot be read ({error}); give a CSV with the columns {','.join(COLUMNS)}.")
        return {}
    if not lines or "tile" not in lines[0] or set(lines[0]) - set(COLUMNS):
        faults.append(
            f"table {file} has columns {list(lines[0] if lines else ())}; give {','.join(COLUMNS)} and lines."
        )
        return {}
    rows: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(lines, start=2):
        where, name = f"table {file}, line {number}", line["tile"]
        row = (line.get("specimen") or name, line.get("split") or split)
        if name not in names or name in rows:
            faults.append(f"{where}: tile {name!r} {'has a line already' if name in rows else 'is not there'}.")
        if not is_text(row[0]):
            faults.append(f"{where}: specimen is {row[0]!r}; it must be a name.")
        if row[1] not in SPLITS:
            faults.append(f"{where}: split is {row[1]!r}; it must be one of {', '.join(SPLITS)}.")
        rows[name] = row
    rows = {name: rows.get(name, (name, split)) for name in names}
    spelled = first_spelling(row[0] for row in rows.values())
    for specimen in dict.fromkeys(spelled.values()):
        sides = sorted({row[1] for row in rows.values() if spelled[row[0]] == specimen})
        if len(sides) > 1:
            faults.append(f"table {file}: specimen {specimen!r} is in {' and in '.join(sides)}; move it to one.")
    return rows


def tile_labels(path: Path) -> np.ndarray:
    """The labels of a tile, as :func:`bundle.nuclei.dataset.read_nuclei` reads them.

    Raises:
        InputError: if they are none, or a mask.
    """
    try:
        labels = read_nuclei(path)
    except InputError as error:
        raise InputError(f"labels {error}") from error
    if len(np.unique(labels[labels > 0])) == 1 and ndimage.label(labels)[1] >= PIECES:
        raise InputError(
            f"labels {path} hold one number, {labels.max()}, in {ndimage.label(labels)[1]} places: a mask, where each "
            "nucleus needs a number of its own (skimage.measure.label)."
        )
    return labels


def emptiness(pixels: np.ndarray, labels: np.ndarray, brightfield: bool) -> str | None:
    """Why a tile shows nothing to learn from; None if it does.

    Args:
        pixels: (C, H, W), as read.
        labels: (H, W).
        brightfield: whether it is RGB of 0 to 255, where bare glass is no tissue; other images are empty where they are
            even.
    """
    share = tissue(pixels).mean() if brightfield else float(np.ptp(pixels) > 0)
    if share < LEAST_TISSUE:
        return f"no tissue: {1 - share:.1%} of it is bare glass" if brightfield else "no tissue: every pixel is equal"
    if not labels.any():
        return "its labels hold no nucleus"
    if labels.all():
        return "its labels leave no background"
    return None


def check_tiles(tiles: Sequence[Tile], modality: Modality, brightfield: bool) -> tuple[dict[str, str], float | None]:
    """Read every file once.

    Args:
        tiles: all of them.
        modality: what they are.
        brightfield: whether that is a brightfield stain.

    Returns:
        Why tiles that show nothing to learn from are left out, by name; and the pixel size in µm if all files state
        one.

    Raises:
        InputError: with a line for each fault, among them pixel sizes that differ by more than 1 %.
    """
    faults: list[str] = []
    left_out: dict[str, str] = {}
    sizes: dict[Path, float | None] = {}
    for tile in tiles:
        try:
            slide = read_slide(tile.path)
            labels = tile_labels(tile.labels)
        except InputError as error:
            faults.append(str(error))
            continue
        found = [*image_faults(tile.path, slide.pixels, modality), *_size_faults(tile, slide.pixels, labels)]
        faults += found
        sizes[tile.path] = slide.pixel_um
        reason = None if found else emptiness(slide.pixels, labels, brightfield)
        if reason:
            left_out[tile.name] = reason
    stated = {path: size for path, size in sizes.items() if size is not None}
    least, most = (choose(stated, key=lambda path: stated[path], default=None) for choose in (min, max))
    if least and most and stated[most] > 1.01 * stated[least]:
        faults.append(f"{least} has {stated[least]:g} µm pixels but {most} has {stated[most]:g} µm; scale to one size.")
    if faults:
        raise InputError("\n".join(faults))
    return left_out, stated[least] if least and len(stated) == len(tiles) else None


def _size_faults(tile: Tile, pixels: np.ndarray, labels: np.ndarray) -> list[str]:
    height, width = pixels.shape[1:]
    faults = []
    if labels.shape != (height, width):
        faults.append(
            f"labels {tile.labels} are {labels.shape[0]}×{labels.shape[1]} px but tile {tile.path} is "
            f"{height}×{width} px; draw them on the tile's grid."
        )
    if min(height, width) < LEAST_SIDE:
        faults.append(f"{tile.path} is {height}×{width} px; the network needs at least {LEAST_SIDE}×{LEAST_SIDE}.")
    return faults
