"""What ``configs/slide.json`` runs: checks, then a stained whole slide with its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.atomic import check_writable
from bundle.common.checks import sha256_of
from bundle.common.config import merged_config
from bundle.common.errors import InputError
from bundle.common.html import RESEARCH
from bundle.common.machine import code_version
from bundle.common.run_folder import read_record
from bundle.common.trained_bundle import levels_of, recalibrated, trained_pixel_um
from bundle.common.work.engine import Engine
from bundle.common.work.worker import speaks
from bundle.data.datalist import Modality
from bundle.images.stained.ngff import as_begun, ngff_faults
from bundle.images.stained.spec import OLDEST
from bundle.images.stained_slides.formats import FORMATS, Packing
from bundle.images.stained_slides.spec import SlideSpec
from bundle.staining.command import PARTS, digest_of_part
from bundle.staining.job import begin, explained, first_start, sole
from bundle.staining.model import modality
from bundle.staining.slides import colour_faults, setting_faults
from bundle.staining.stainer import Stainer
from bundle.staining.whole_slides.outcome import RECORD, tell
from bundle.staining.whole_slides.page import PAGE
from bundle.staining.whole_slides.recipe import Facts, recipe_of, run_of
from bundle.staining.whole_slides.source import SlideSource, check_source, digest_of, stamp_of

MODULES = ("bundle.staining.whole_slides.recipe",)  # what a worker imports first
WHITE = 255
RGB_NAMES = ("Red", "Green", "Blue")


@dataclass(frozen=True)
class Settings:
    """Ids of ``slide.json`` that say what is read and made.

    Attributes:
        pixel_um: of the slide, in place of what it states; None for that.
        channels: which of its channels to take; None for all.
        tissue: how tissue is told, see :func:`bundle.staining.whole_slides.source.check_source`.
        output_format: one of :data:`bundle.images.stained_slides.formats.FORMATS`.
        compression: ``jpeg`` or ``lossless``.
        jpeg_quality: 1 to 100.
        viewer: whether the page with both slides is made.
        ngff: version of an OME-Zarr, as of :class:`bundle.staining.job.Settings`.
    """

    pixel_um: float | None
    channels: Any
    tissue: Any
    output_format: str
    compression: str
    jpeg_quality: int
    viewer: bool
    ngff: str | float = OLDEST

    def __post_init__(self) -> None:
        object.__setattr__(self, "ngff", str(self.ngff))

    def described(self) -> dict[str, Any]:
        """What of a run's fingerprint they are; pixel size is there apart, and the page changes no pixel."""
        return {name: value for name, value in as_begun(vars(self)).items() if name not in ("pixel_um", "viewer")}

    def faults(self) -> list[str]:
        """What of them is wrong, a line each; each alone is checked when a run starts, but for the format."""
        if self.output_format not in FORMATS:
            return [f"output_format is {self.output_format!r}; it must be one of {', '.join(sorted(FORMATS))}."]
        return ngff_faults(str(self.ngff), self.output_format)

    def packing(self, source: Path) -> Packing:
        """How pixels are compressed, of a slide that is stained."""
        return Packing(self.compression, self.jpeg_quality, source, str(self.ngff))


@dataclass(frozen=True)
class Slide:
    """A slide, checked against a model.

    Attributes:
        source: the slide.
        made: what the model makes of it.
        background: of each channel of that, where nothing is stained.
    """

    source: SlideSource
    made: Modality
    background: tuple[float, ...]

    def shown(self, levels: tuple[float, float] | None) -> tuple[float, float] | None:
        """Values of the slide that pictures show from dark to bright; None for all that its type holds.

        Args:
            levels: bone and background in a scan's slice, if they are known.
        """
        if self.source.facts.rgb:
            return None
        if levels is None:
            return self.source.given.low, self.source.given.high
        beyond = abs(levels[0] - levels[1]) / 2
        return min(levels) - beyond, max(levels) + beyond

    def spec(self, about: Mapping[str, Any]) -> SlideSpec:
        """What is written."""
        names = self.made.channel_names
        if not names:
            one = [self.made.name]
            names = RGB_NAMES if self.made.channels == 3 else tuple(one * self.made.channels)
        kind = np.dtype("|u1" if self.made.high <= WHITE else "<u2")
        shown = (self.made.low, self.made.high)
        rgb = self.made.is_brightfield and kind == np.uint8
        return SlideSpec(
            self.made.name,
            self.source.size,
            kind,
            self.source.stain_um,
            names,
            rgb,
            self.background,
            shown,
            dict(about),
        )


def check(
    input: str | None,  # noqa: A002  the id of configs/inference.json
    settings: Settings,
    mask: str | None,
    direction: str,
    window: int | None,
    step: int | None,
    normalisation: str,
    speed: str,
    background_rgb: Sequence[float] | None,
    source: Mapping[str, Any],
    target: Mapping[str, Any],
    bone_intensity: float | None,
    background_intensity: float | None,
    bundle_root: str,
) -> Slide:
    """Check all that a run is given but the pixels; nothing is written.

    Args:
        input: the slide.
        settings: what is read and made.
        mask: must be None: slides have their tissue instead.
        direction: ``forward`` or ``reverse``.
        window: side of a window, px; not None.
        step: between windows.
        normalisation: see ``inference.json``.
        speed: likewise.
        background_rgb: the colour where nothing is stained; None for white of a brightfield stain, else the darkest.
        source: what the model was trained on.
        target: what it makes.
        bone_intensity: mean grey value of bone in the slice; None where the dataset declared none.
        background_intensity: likewise, of background.
        bundle_root: the trained bundle.

    Returns:
        The slide.

    Raises:
        InputError: with one line for each fault.
    """
    sides = modality(source, "source"), modality(target, "target")
    given, made = sides if direction == "forward" else sides[::-1]
    faults = settings.faults()
    faults += setting_faults(
        direction, window, step, speed, source, bone_intensity, background_intensity, normalisation
    )
    if window is None:
        faults.append("window is None, but a whole slide is stained in windows; leave it out, or pass --window 256.")
    if mask is not None:
        faults.append("a mask is given, but a whole slide finds its own tissue (--tissue); leave --mask out.")
    if not input:
        faults.append("input is not set; pass --input SLIDE.")
    trained_um = trained_pixel_um(bundle_root)
    if trained_um is None:
        faults.append(
            f"{bundle_root}/configs/metadata.json does not say at which pixel size the model was trained, so no slide "
            'can be brought to it; write it there: "pixel_um": 0.5.'
        )
    if background_rgb is not None and direction == "forward":
        faults += colour_faults(background_rgb, made)
    if faults:
        raise InputError("\n".join(faults))
    assert trained_um is not None
    if direction == "forward" and recalibrated(source, bone_intensity, background_intensity):
        given = Modality(given.name, given.channels, -np.inf, np.inf)
    notes: list[str] = []
    found = check_source(
        Path(str(input)), given, trained_um, settings.pixel_um, settings.channels, settings.tissue, notes
    )
    background = None
    if background_rgb is not None and direction == "forward":
        background = tuple(float(np.rint(value)) for value in background_rgb)  # as inside of blocks
    slide = Slide(found, made, background or (made.high if made.is_brightfield else made.low,) * made.channels)
    FORMATS[settings.output_format].check(slide.spec({}), settings.packing(found.path))
    if speaks():
        print("\n".join([*notes, described(slide, trained_um)]))
    return slide


def described(slide: Slide, trained_um: float) -> str:
    """What is read and made, in a line."""
    source = slide.source
    height, width = source.size
    how = "its own pixels" if source.ratio == 1 else f"means of {source.ratio:.4g} px a side"
    return (
        f"{source.path}: {source.facts.shape[0]}×{source.facts.shape[1]} px of {source.pixel_um:.4g} µm; stained at "
        f"{source.stain_um:.4g} µm ({how}; the model knows {trained_um:.4g} µm), {height}×{width} px"
    )


def stain(
    slide: Slide,
    settings: Settings,
    stainer: Stainer,
    output_dir: str,
    model: str,
    bundle_root: str,
    step: int | None,
    speed: str,
    bone_intensity: float | None,
    background_intensity: float | None,
    normalisation: str = "window",
    engine: Engine | None = None,
) -> None:
    """Stain a whole slide, or go on with one.

    Args:
        slide: of :func:`check`.
        settings: what is made.
        stainer: stains a block.
        output_dir: the folder of the result; may hold what an earlier, stopped run of the same has done.
        model: the file of the weights.
        bundle_root: the trained bundle.
        step: between windows, px; None where they lie side by side.
        speed: as asked for.
        bone_intensity: mean grey value of bone in the slice; None where the dataset declared none.
        background_intensity: likewise, of background.
        normalisation: ``window``, ``dense`` or ``specimen``.
        engine: who does the work; None for this process.

    Raises:
        InputError: if the folder holds something else, a part of the slide cannot be read, a value is not what the
            model takes, there is no tissue, or the disk is full.
    """
    if stainer.by_specimen and stainer.sections is None:
        raise InputError(
            "normalisation is 'specimen', but the trained bundle has no models/sections.npz to find a region by; its "
            "training command with --resume changed writes it."
        )
    if "::" in str(output_dir):  # MONAI writes so for # in every text of a config
        raise InputError(f"output_dir {output_dir} has # or :: in its name, which a config cannot hold; rename it.")
    folder, shown = Path(str(output_dir)), speaks()
    check_writable(folder)
    engine, config = engine or Engine(), merged_config()
    with explained(folder), sole(folder), engine.started(MODULES, not (folder / RECORD).exists()):
        stamp = stamp_of(slide.source.path)
        fingerprint = {
            "slide": digest_of(slide.source.path),
            "model": sha256_of(Path(model)),
            "pixel_um": slide.source.pixel_um,
            "ratio": slide.source.ratio,
            **settings.described(),
            "window": stainer.window,
            "step": step,
            "speed": speed,
            **({} if stainer.undecided else {"arithmetic": stainer.network.arithmetic}),
            "bone_intensity": bone_intensity,
            "background_intensity": background_intensity,
            "background": list(slide.background),
            "normalisation": normalisation,
            **({} if stainer.sections is None else {"sections": stainer.sections.digest}),
            **stainer.trust.digests,
            **{part: digest_of_part(config[part]) for part in PARTS if part in config},
        }
        result = f"stained{FORMATS[settings.output_format].suffix}"
        about = {
            "research": RESEARCH,
            "stain": slide.made.name,
            "source": slide.source.given.name,
            "fingerprint": fingerprint,
        }
        values = slide.shown(levels_of(bone_intensity, background_intensity))
        started = first_start(folder)
        facts = Facts(str(folder), about, values, {**_origin(slide, bundle_root), "started": started}, stamp)
        run = run_of(slide, settings, stainer, facts, shown)
        if not (folder / RECORD).exists():
            run.outcome.see_free()
            given = slide.source.given
            grey = given.bone_intensity is not None or np.isinf(given.high)  # else the levels are of the other side
            run.look(levels_of(bone_intensity, background_intensity) if grey else None)
        finished = begin(folder, fingerprint, str(slide.source.path), RECORD, result, started)
        if finished:
            if shown:
                print(f"{folder / result} is there already, made of the same slide, model and settings")
                if settings.viewer and not (folder / PAGE).exists():
                    print(f"it was made without {PAGE} (--viewer false); for that, stain into another --output_dir")
        else:
            if shown:
                print(f"speed {speed}: {stainer.network.arithmetic}")
                print(stainer.trust.missing or "", end="\n" if stainer.trust.missing else "")
            run.go(engine, recipe_of(facts, config))
        run.clear()
        if shown:
            tell(folder)


def _origin(slide: Slide, bundle_root: str) -> dict[str, Any]:
    """Where a result comes from besides its fingerprint, plain JSON."""
    path = Path(bundle_root) / "configs" / "metadata.json"
    metadata = read_record(path) if path.is_file() else {}
    source = slide.source
    return {
        "input": str(source.path.absolute()),
        "shape": list(source.facts.shape),
        "pixel_um": source.pixel_um,
        "stain_shape": list(source.size),
        "stain_pixel_um": source.stain_um,
        "bundle_root": str(Path(bundle_root).resolve()),
        "trained_on": metadata.get("trained_on"),
        "model_pixel_um": metadata.get("pixel_um"),
        "code": code_version(),
    }
