"""The slide that is to be stained: what its header says, held against what the model takes, and where its tissue is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter1d

from bundle.common.checks import listed, sha256_of
from bundle.common.errors import InputError
from bundle.common.values import is_number
from bundle.data.datalist import Modality
from bundle.data.load import image_faults
from bundle.images.channel_slides import Facts, Scan, facts_of, shape_at
from bundle.images.slide_boxes import SlideBoxes
from bundle.images.tissue import BOX, KINDS
from bundle.images.whole_slides import SAME, SUFFIXES, companions

LEAST_PX = 8  # that a network takes
AROUND = 8  # boxes around tissue that are stained too: 64 px, so that its edge is never cut


@dataclass(frozen=True)
class SlideSource:
    """A slide to be stained, checked by its header.

    Attributes:
        facts: what the header says.
        pixel_um: of the file, µm.
        ratio: length of a pixel of the stain in pixels of the file.
        chosen: which channels of the file to take, in the model's order; None for all.
        given: what the model takes, whatever values the scan's own grey levels map to it.
        kind: how tissue shows, one of :data:`bundle.images.tissue.KINDS`; None where all is stained.
        threshold: of the tissue's signal; None leaves it to the kind.
    """

    facts: Facts
    pixel_um: float
    ratio: float
    chosen: tuple[int, ...] | None
    given: Modality
    kind: str | None
    threshold: float | None

    @property
    def path(self) -> Path:
        """Of the file."""
        return self.facts.path

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns) of the stain."""
        return shape_at(self.facts.shape, self.ratio)

    @property
    def stain_um(self) -> float:
        """Pixel size of the stain, µm."""
        return self.pixel_um * self.ratio

    def read(self, boxes: SlideBoxes, rows: slice, columns: slice) -> np.ndarray:
        """What a tile cut there by ``scripts.tile`` would hold.

        Args:
            boxes: of the open slide, on the grid of the stain.
            rows: of the stain.
            columns: likewise.

        Returns:
            (C, h, w), float32, in the file's units.

        Raises:
            InputError: if it cannot be read, or has values that the model does not take.
        """
        found = boxes.read(rows, columns)
        if found.dtype != self.facts.dtype and self.facts.dtype.kind == "u":
            found = np.rint(found)
        pixels = np.ascontiguousarray(found.transpose(2, 0, 1), np.float32)
        where = Path(
            f"{self.path}, rows {rows.start} to {rows.stop - 1}, columns {columns.start} to {columns.stop - 1},"
        )
        if faults := image_faults(where, pixels, self.given):
            raise InputError("\n".join(faults))
        return pixels


def check_source(
    path: Path,
    given: Modality,
    trained_um: float,
    pixel_um: float | None,
    channels: Any,
    tissue: Any,
    notes: list[str],
) -> SlideSource:
    """Read the header of a slide and hold it against a model; none of its pixels is read.

    Args:
        path: the slide.
        given: what the model takes.
        trained_um: pixel size that it was trained at, µm.
        pixel_um: of the slide, in place of what it states; None for that.
        channels: which of its channels to take: numbers from 0, or names of the model's channels with a number each;
            None for all.
        tissue: ``brightfield``, ``fluorescence``, a threshold, False to stain all; None for what the model takes.
        notes: gains what the user is to know.

    Raises:
        InputError: with one line for each fault.
    """
    faults: list[str] = []
    if not path.is_file():
        what = "is a folder; name one slide in it" if path.is_dir() else "does not exist; pass --input SLIDE"
        raise InputError(f"input {path} {what}.")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"input {path} is not a slide this program reads ({', '.join(SUFFIXES)}).")
    facts = facts_of(path)
    own_um = _pixel_um(facts, pixel_um, faults, notes)
    ratio = 1.0 if own_um is None else _ratio(facts, own_um, trained_um, faults)
    chosen = _channels(facts, given, channels, faults)
    faults += _type_faults(facts, given)
    kind, threshold = _tissue(given, tissue, faults)
    source = SlideSource(facts, own_um or 1.0, ratio, chosen, given, kind, threshold)
    if min(source.size) < LEAST_PX and own_um is not None:
        height, width = source.size
        faults.append(
            f"{path} is {height}×{width} px at the model's {trained_um:g} µm; the network needs at least 8×8."
        )
    if faults:
        raise InputError("\n".join(faults))
    return source


def _pixel_um(facts: Facts, asked: float | None, faults: list[str], notes: list[str]) -> float | None:
    stated = facts.stated_um
    if asked is not None:
        if stated is not None and any(abs(side / asked - 1) > SAME for side in stated):
            told = "×".join(f"{side:.4g}" for side in (stated if abs(stated[0] / stated[1] - 1) > SAME else stated[1:]))
            notes.append(f"note: {facts.path} states pixels of {told} µm; the {asked:g} µm given are used")
        return float(asked)
    if stated is None:
        faults.append(f"{facts.path} states no pixel size; give it in µm with --pixel_um, it is never assumed.")
        return None
    if abs(stated[0] / stated[1] - 1) > SAME:
        faults.append(
            f"{facts.path} has pixels of {stated[0]:.6g}×{stated[1]:.6g} µm, not squares; resample it, or give "
            "--pixel_um if it errs."
        )
    return stated[1]


def _ratio(facts: Facts, own_um: float, trained_um: float, faults: list[str]) -> float:
    """A whole number where sizes agree within 1 %, so that pixels of the stain are whole pixels of the slide."""
    ratio = trained_um / own_um
    if ratio < 1 - SAME:
        faults.append(
            f"{facts.path} has pixels of {own_um:.6g} µm, coarser than the {trained_um:g} µm that the model was "
            "trained at; what it needs to see is not in this slide: scan it finer, or give --pixel_um if the file errs."
        )
    whole = max(1, round(ratio))
    return float(whole) if abs(ratio / whole - 1) <= SAME else ratio


def _channels(facts: Facts, given: Modality, asked: Any, faults: list[str]) -> tuple[int, ...] | None:
    if asked is None:
        if facts.channels != given.channels:
            names = given.channel_names or tuple(f"c{place}" for place in range(given.channels))
            example = ", ".join(f"{name}: {place}" for place, name in enumerate(names))
            faults.append(
                f"{facts.path} has {facts.channels} channel(s), but this model takes {given}; say which is which: "
                f'--channels "{{{example}}}".'
            )
        return None
    chosen = list(asked.values()) if isinstance(asked, Mapping) else asked
    if isinstance(asked, Mapping) and given.channel_names:
        if set(asked) != set(given.channel_names):
            faults.append(
                f"channels names {listed(list(map(str, asked)))}, but this model takes {listed(given.channel_names)}."
            )
            return None
        chosen = [asked[name] for name in given.channel_names]
    if not isinstance(chosen, (list, tuple)) or len(chosen) != given.channels:
        faults.append(f"channels is {asked!r}; give {given.channels} numbers, one for each that the model takes.")
        return None
    wrong = [number for number in chosen if type(number) is not int or number not in range(facts.channels)]
    if wrong or len(set(chosen)) != len(chosen):
        faults.append(f"channels is {asked!r}; {facts.path} has 0 to {facts.channels - 1}, and each counts once.")
        return None
    return tuple(chosen)


def _type_faults(facts: Facts, given: Modality) -> list[str]:
    """A line if a file's values cannot be those that a model takes: 16 bits where it takes 8, or the reverse."""
    if facts.dtype.kind != "u" or np.isinf(given.high):
        return []
    most, eight = np.iinfo(facts.dtype).max, 255
    if (most > eight) == (given.high > eight):
        return []
    return [
        f"{facts.path} is {facts.dtype}, but {given.name} of this model's training goes from {given.low:g} to "
        f"{given.high:g}; convert the slide as the training's were."
    ]


def _tissue(given: Modality, asked: Any, faults: list[str]) -> tuple[str | None, float | None]:
    """How tissue shows, and above which signal."""
    usual: str | None = "brightfield" if given.is_brightfield else "fluorescence"
    if given.channels == 1 and not given.channel_names:  # a scan's slice, which has no tissue on glass
        usual = None
    if asked is None:
        return usual, None
    if asked is False:
        return None, None
    if isinstance(asked, str) and asked in KINDS:
        return asked, None
    if is_number(asked) and not isinstance(asked, bool):
        if usual is None:
            faults.append(f"tissue is {asked!r}, but a scan's slice has no tissue on glass; leave it out.")
        return usual, float(asked)
    faults.append(f"tissue is {asked!r}; it must be {', '.join(KINDS)}, a threshold, or false to stain all.")
    return None, None


def find_tissue(scan: Scan, source: SlideSource) -> tuple[np.ndarray, float]:
    """Where tissue is, and what is near it.

    Args:
        scan: the open slide, on the grid of the stain.
        source: what it is.

    Returns:
        (⌊rows/8⌉, ⌊columns/8⌉), bool, of boxes of 8×8 px; and the threshold on the signal.

    Raises:
        InputError: if there is none, or no threshold is found.
    """
    assert source.kind is not None
    kind, limits = KINDS[source.kind], (source.given.low, source.given.high)
    way = "--tissue; --tissue false stains all of it"
    threshold = kind.threshold(scan, limits, way) if source.threshold is None else source.threshold
    found = np.concatenate([kind.signal(rows, limits) > threshold for rows in scan.rows(coarser=BOX)])
    if not found.any():
        raise InputError(
            f"{source.path} has no tissue by its {source.kind} signal above {threshold:.4g}; give a lower threshold "
            "with --tissue, or --tissue false to stain all of it."
        )
    near = found.view(np.uint8)
    for axis in (0, 1):
        near = maximum_filter1d(near, 2 * AROUND + 1, axis)
    return near.astype(bool), float(threshold)


def at_pixels(tissue: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """Boxes of 8×8 px at each pixel of a part of a slide; pixels at the end that fill no box are as the last."""
    places = [
        np.minimum(np.arange(part.start, part.stop) // BOX, size - 1)
        for part, size in zip((rows, columns), tissue.shape, strict=True)
    ]
    return tissue[places[0][:, None], places[1][None]]


def stamp_of(path: Path) -> tuple[int, ...]:
    """What tells cheaply that a file was changed: its size and when it was written."""
    told = path.stat()
    return told.st_size, told.st_mtime_ns


def digest_of(path: Path) -> str:
    """SHA-256 of all files that a slide consists of."""
    digest = hashlib.sha256()
    for part in companions(path):
        digest.update(str(sha256_of(part)).encode())
    return digest.hexdigest()
