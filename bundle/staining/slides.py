"""Staining slides: what goes in, what comes out, and a trained bundle as one function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.transforms import Compose
from torch.utils.data import Dataset

from bundle.common.atomic import write_json
from bundle.common.errors import InputError
from bundle.common.run_folder import read_record
from bundle.common.trained_bundle import (
    NORMALISATIONS,
    SPEEDS,
    intensity_faults,
    levels_of,
    recalibrated,
    size_note,
    trained_pixel_um,
)
from bundle.data.datalist import Modality
from bundle.images.slides import SUFFIXES, TIFF, read_mask, read_slide, suffix_of, write_slide
from bundle.images.whole_slides import VENDOR
from bundle.networks.cells import at_pixels
from bundle.staining.checks import pixel_faults, values_taken
from bundle.staining.error_map import error_of, rounded
from bundle.staining.model import as_integers, modality, on_background, window_faults, without_loading
from bundle.staining.progress import FolderBar
from bundle.staining.trust import UNTOLD, Trust, known_of, statistics_of, tell

FORMATS = ("png", "tif")
RECORD = "stained.json"
DESCRIBED = "expected error of a virtual stain, levels of 255; NaN: not known; research only, see stained.json"
RGB = 3
PICTURE_CHANNELS = (1, RGB)  # what PNG holds


def list_images(path: str | None) -> list[Path]:
    """The images of a file or folder, in order of name.

    Args:
        path: one image, or a folder of them (subfolders are not searched).

    Returns:
        At least one path; none only where no path is given, so that MONAI can inspect a bundle without data.

    Raises:
        InputError: if there is no image.
    """
    if not path:
        return []
    given = Path(path)
    if given.is_dir():
        files = sorted(file for file in given.iterdir() if suffix_of(file) and not file.name.startswith("."))
        if not files:
            inside = sorted(each.name for each in given.iterdir() if each.is_dir())
            hint = f"; its folders are not searched, name one of them: {', '.join(inside[:9])}" if inside else ""
            raise InputError(f"input {given} holds no image ({', '.join(SUFFIXES)}){hint}.")
        return files
    if not given.is_file():
        raise InputError(f"input {given} does not exist; pass --input FILE or --input FOLDER.")
    if given.suffix.lower() in VENDOR:
        raise InputError(
            f"input {given} is a scanner's slide; put configs/slide.json after inference.json (docs/slides.md)."
        )
    return [given]


def output_path(file: Path, output_dir: str, output_format: str | None, postfix: str) -> Path:
    """Where the result of a file goes: ``<name>_<postfix>``, as PNG or TIFF.

    TIFF stays TIFF and everything else becomes PNG, unless ``output_format`` says otherwise.
    """
    suffix = output_format or ("tif" if suffix_of(file) in TIFF else "png")
    return Path(output_dir) / f"{file.name[: -len(suffix_of(file))]}_{postfix}.{suffix}"


def mask_of(file: Path, mask: str | None) -> Path | None:
    """The mask of an image: the mask file itself, or the file of the image's name in the mask folder."""
    if mask is None:
        return None
    given = Path(mask)
    if not given.is_dir():
        return given
    stem = file.name[: -len(suffix_of(file))]
    return next((path for path in sorted(given.iterdir()) if path.name == stem + suffix_of(path)), given / file.name)


def check(
    files: Sequence[Path],
    output_format: str | None,
    direction: str,
    window: int | None,
    step: int | None,
    speed: str,
    source: Mapping[str, Any],
    target: Mapping[str, Any],
    bone_intensity: float | None,
    background_intensity: float | None,
    mask: str | None,
    background_rgb: Sequence[float] | None,
    normalisation: str = "window",
    bundle_root: str | None = None,
    error_map: str | None = None,
) -> None:
    """Check all that a staining run is given; nothing is written.

    Arguments are the ids of ``inference.json``.

    Raises:
        InputError: with one line for each fault.
    """
    sides = (modality(source, "source"), modality(target, "target"))
    faults = setting_faults(direction, window, step, speed, source, bone_intensity, background_intensity, normalisation)
    if not files:
        faults.append("input is not set; pass --input FILE or --input FOLDER.")
    if output_format not in (None, *FORMATS):
        faults.append(f"output_format is {output_format!r}; it must be one of {', '.join(FORMATS)}.")
    if mask is not None and background_rgb is None:
        faults.append("a mask is given but background_rgb is not; pass --background_rgb '[r, g, b]'.")
    if mask is not None and direction == "reverse":
        faults.append("a mask is given, but it goes with direction 'forward' only.")
    given, made = sides if direction == "forward" else sides[::-1]
    if mask is not None and made.channels != 3:
        faults.append(f"a mask is given, but {made} has no colour to set outside it; leave --mask out.")
    if background_rgb is not None and direction == "forward":
        faults += colour_faults(background_rgb, made)
    if output_format == "png" and made.channels not in PICTURE_CHANNELS:
        faults.append(f"output_format is 'png', which cannot hold {made}; leave it out, or pass tif.")
    if direction == "forward":
        given = values_taken(given, recalibrated(source, bone_intensity, background_intensity))
    levels = levels_of(bone_intensity, background_intensity) if direction == "forward" else None
    with_error = direction == "forward" and error_map is not None and Path(error_map).is_file()
    outputs: dict[Path, Path] = {}
    sizes: dict[Path, float | None] = {}
    for file in files:
        found, sizes[file] = _file_faults(file, given, levels, mask_of(file, mask))
        faults += found
        path = output_path(file, "", format_of(output_format, made.channels), "")
        path = error_path(path) if with_error else path  # which a PNG and a TIFF of one name have in common
        if path in outputs:
            faults.append(f"{file} and {outputs[path]} would both be written to one file; rename one of them.")
        outputs[path] = file
    if faults:
        raise InputError("\n".join(faults))
    trained_um = trained_pixel_um(bundle_root) if bundle_root and direction == "forward" else None
    notes = [note for file, size in sizes.items() for note in size_note(str(file), size, trained_um)]
    if notes:
        more = f" ({len(notes) - 1} more such images)" if len(notes) > 1 else ""
        print(notes[0] + more)


def choose(network: Any, speed: str, images: Sequence[Mapping[str, Any]]) -> None:
    """Say how a model computes, which the first image may have to tell.

    Args:
        network: of :func:`bundle.networks.accelerate.accelerate`.
        speed: as asked for.
        images: prepared for the model.
    """
    if getattr(getattr(network, "choice", None), "name", "decided") == "":
        network.choose(images[0]["image"][None])
    print(f"speed {speed}: {network.arithmetic}")


def setting_faults(
    direction: str,
    window: int | None,
    step: int | None,
    speed: str,
    source: Mapping[str, Any],
    bone_intensity: float | None,
    background_intensity: float | None,
    normalisation: str = "window",
) -> list[str]:
    """What is wrong with ids of ``inference.json`` that slides and volumes have in common, a line each."""
    faults = []
    if direction not in ("forward", "reverse"):
        faults.append(f"direction is {direction!r}; it must be 'forward' (stain) or 'reverse' (take the stain off).")
    if speed not in SPEEDS:
        faults.append(f"speed is {speed!r}; it must be one of {', '.join(SPEEDS)}.")
    faults += window_faults(window, step)
    if normalisation not in NORMALISATIONS:
        faults.append(f"normalisation is {normalisation!r}; it must be one of {', '.join(NORMALISATIONS)}.")
    elif normalisation != "window" and window is None:
        faults.append(
            f"normalisation is {normalisation!r}, which goes with windows, but window is None; leave one of them out."
        )
    faults += intensity_faults(source, bone_intensity, background_intensity)
    return faults


def colour_faults(background_rgb: Sequence[float], made: Modality) -> list[str]:
    """What is wrong with the colour outside a mask or hull, a line each.

    Args:
        background_rgb: as given.
        made: what the model makes.
    """
    if len(background_rgb) == made.channels and all(made.low <= value <= made.high for value in background_rgb):
        return []
    return [
        f"background_rgb is {list(background_rgb)}; it must be {made.channels} numbers from {made.low:g} to "
        f"{made.high:g}, one a channel of {made.name}."
    ]


def _file_faults(
    file: Path, given: Modality, levels: tuple[float, float] | None, mask: Path | None
) -> tuple[list[str], float | None]:
    """What is wrong with an image, a line each, and its pixel size in µm."""
    try:
        slide = read_slide(file)
        pixels = slide.pixels
        faults = pixel_faults(str(file), pixels, given, levels)
        if mask is not None and read_mask(mask).shape != pixels.shape[1:]:
            faults.append(f"mask {mask} and {file} are not of one size; draw the mask on the image's grid.")
        return faults, slide.pixel_um
    except InputError as error:
        return [str(error)], None


class SlideDataset(Dataset):
    """Images of files as the network takes them.

    Files are read by :func:`bundle.images.slides.read_slide`, which reads the same kinds as training does; the
    rest of ``preprocessing`` is applied as it stands.

    Args:
        files: images.
        transform: the config's ``preprocessing``.
    """

    def __init__(self, files: Sequence[Path], transform: Compose) -> None:
        self.files = list(files)
        self.transform = without_loading(transform)

    def __len__(self) -> int:
        """Number of files."""
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``image``: (C, H, W) in [−1, 1], its file and pixel size in its meta data."""
        slide = read_slide(self.files[index])
        meta = {"filename_or_obj": str(self.files[index]), "pixel_um": slide.pixel_um or 0.0}
        return self.transform({"image": MetaTensor(torch.from_numpy(slide.pixels.astype(np.float32)), meta=meta)})


class SlideSaver:
    """Writes each stained slide in 8 bits on the grid and with the pixel size of its source.

    Args:
        output_dir: the folder.
        output_format: ``png``, ``tif``, or None to follow the source; what is neither grey nor RGB is then TIFF.
        postfix: added to the file's name.
        mask: a mask file or folder; None replaces nothing.
        background_rgb: what pixels outside the mask become.
        trust: what the model knows of where to believe it.
        inferer: which stains the slides, and may know more of that.
    """

    def __init__(
        self,
        output_dir: str,
        output_format: str | None = None,
        postfix: str = "stained",
        mask: str | None = None,
        background_rgb: Sequence[float] | None = None,
        trust: Trust | None = None,
        inferer: Inferer | None = None,
    ) -> None:
        self.output_dir, self.mask = output_dir, mask
        self.output_format = output_format
        self.postfix = postfix
        self.background_rgb = background_rgb
        self.trust, self.inferer, self.bar = trust or UNTOLD, inferer, FolderBar()

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        if self.trust is UNTOLD:  # whose configs have nothing else that says so
            print(UNTOLD.missing)
        engine.add_event_handler(
            Events.STARTED, lambda engine: self.bar.open(engine.state.epoch_length or 1, self.inferer)
        )
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self.bar.close)

    def __call__(self, engine: Engine) -> None:
        """Write the slides of one iteration."""
        for item in engine.state.output:  # type: ignore[union-attr]
            file = Path(item["image"].meta["filename_or_obj"])
            pixels = as_integers(item["pred"])
            named = mask_of(file, self.mask)
            mask = None if named is None else read_mask(named)
            if mask is not None:
                pixels = on_background(pixels, mask, self.background_rgb)
            path = output_path(file, self.output_dir, format_of(self.output_format, len(pixels)), self.postfix)
            pixel_um = float(item["image"].meta["pixel_um"]) or None
            beside = error_path(path)
            beside.unlink(missing_ok=True)  # of an earlier stain
            write_slide(path, pixels, pixel_um)
            self.bar.say(path)
            verdict, error = self.trust.judge(item["image"], statistics_of(self.inferer)), error_of(item)
            if error is not None:
                error = at_pixels(torch.from_numpy(known_of(error, verdict)), *pixels.shape[1:]).numpy()
                error = rounded(error if mask is None else np.where(mask, error, np.nan))
                write_slide(beside, error, pixel_um, DESCRIBED)
                self.bar.say(beside)
            tell(str(file), verdict)
            add_to_record(path, str(file), self.trust.record(verdict, error))
            self.bar.step()


def error_path(stained: Path) -> Path:
    """Where the expected error of a stained slide goes: ``<name>_expected_error.tif``, on its grid."""
    return stained.with_name(f"{stained.stem}_expected_error.tif")


def add_to_record(stained: Path, source: str, told: Mapping[str, Any]) -> None:
    """Write what is known of a stained slide to ``stained.json`` beside it, which keeps what it says of others."""
    path = stained.with_name(RECORD)
    others = read_record(path) if path.is_file() else {}
    known = {stained.name: {"source": source, **told}} if told else {}
    if known or stained.name in others:  # else of an earlier stain
        write_json(path, {**{name: said for name, said in others.items() if name != stained.name}, **known})


def format_of(output_format: str | None, channels: int) -> str | None:
    """The format of images of so many channels; None follows the source."""
    return output_format or (None if channels in PICTURE_CHANNELS else "tif")
