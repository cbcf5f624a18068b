"""What ``configs/volume.json`` runs: checks, then a stained volume with its pictures and page."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.common.atomic import check_writable
from bundle.common.checks import sha256_of
from bundle.common.config import merged_config
from bundle.common.errors import InputError
from bundle.common.html import RESEARCH
from bundle.common.machine import code_version
from bundle.common.places import place
from bundle.common.run_folder import read_record
from bundle.common.trained_bundle import levels_of, recalibrated, size_note
from bundle.common.work.engine import Engine
from bundle.common.work.worker import speaks
from bundle.data.datalist import Modality
from bundle.images.volumes.channels import all_with_air, named, open_channels, places_note
from bundle.images.volumes.fill import Fill
from bundle.images.volumes.geometry import SAME
from bundle.images.volumes.volume import Volume, described
from bundle.staining.checks import flat_channels, refuse_unlike, rgb_alone, values_taken
from bundle.staining.job import (
    RECORD,
    Settings,
    begin,
    check_place,
    explained,
    first_start,
    room_faults,
    scan_faults,
    sole,
    survey,
)
from bundle.staining.model import modality
from bundle.staining.outcome import show
from bundle.staining.progress import bar
from bundle.staining.recipe import recipe_of
from bundle.staining.reference import check_reference
from bundle.staining.run import Run
from bundle.staining.seen import Grey, Shown
from bundle.staining.slides import colour_faults, setting_faults
from bundle.staining.stainer import Stainer

RGB = 3  # channels
MODULES = ("bundle.staining.recipe",)  # what a worker imports first

# Ids that the result depends on besides, as the config writes them
PARTS = (
    *("network_def", "preprocessing", "inferer", "sliding_window", "windows_apart", "postprocessing"),
    *("source", "target", "invert_source", "halo", "multiple", "side_by_side"),
)


def check(
    input: str | Sequence[str] | None,  # noqa: A002  the id of configs/inference.json
    voxel_um: float | Sequence[float] | None,
    settings: Settings,
    mask: str | None,
    direction: str,
    background_rgb: Sequence[float] | None,
    source: Mapping[str, Any],
    bone_intensity: float | None,
    background_intensity: float | None,
    fill_nan: float | None = None,
    **ids: Any,
) -> list[Volume]:
    """Check all that a run is given but the voxels; nothing is written.

    Args:
        input: the scan, or a list of scans on one grid, one a channel.
        voxel_um: its voxel size in µm, (z, y, x) or one for all; None for what it states.
        settings: what is to be made.
        mask: must be None: volumes have a hull instead.
        direction: must be ``forward``.
        background_rgb: the colour outside the hull.
        source: what the model was trained on.
        bone_intensity: mean grey value of bone in the scan; None where the dataset declared none.
        background_intensity: likewise, of background.
        fill_nan: grey value in place of NaN outside the scan's reconstruction circle; None refuses NaN there too.
        ids: others of ``inference.json`` that :func:`bundle.staining.slides.setting_faults` checks.

    Returns:
        The channels of the scan.

    Raises:
        InputError: with one line for each fault.
    """
    taken = modality(source, "source")
    faults = settings.faults()
    faults += setting_faults(
        direction=direction,
        source=source,
        bone_intensity=bone_intensity,
        background_intensity=background_intensity,
        **ids,
    )
    if direction == "reverse":
        faults.append("direction is 'reverse'; a volume is stained forward only.")
    if mask is not None:
        faults.append("a mask is given, but it goes with slides; a volume's sample is found with --hull true.")
    if background_rgb is not None:
        faults += colour_faults(background_rgb, Modality("the stain", RGB, 0, 255))
    if settings.hull is True and background_rgb is None:
        faults.append("hull is true but background_rgb is not set; pass --background_rgb '[r, g, b]'.")
    if settings.hull is True and None in (bone_intensity, background_intensity):
        faults.append(
            "hull is true but the scan's grey values are not known; pass --bone_intensity and --background_intensity "
            "(python -m scripts.intensities finds them)."
        )
    if not input:
        faults.append("input is not set; pass --input SCAN.")
    elif isinstance(input, str) and input.startswith(("[", "(")) and not Path(input).exists():
        faults.append(f"input is {input}; a list of scans is written --input \"['A','B']\", each in quotes.")
    size = tuple(voxel_um) if isinstance(voxel_um, (list, tuple)) else voxel_um
    if faults:
        raise InputError("\n".join(faults))
    channels = open_channels(input, size)  # type: ignore[arg-type]
    faults = scan_faults(channels[0], settings)
    if len(channels) != taken.channels:
        faults.append(_other_channels(channels, taken))
    if faults:
        raise InputError("\n".join(faults))
    if size is not None and speaks():
        _tell_other_size(channels[0])
    for line in places_note(channels) if speaks() else []:
        print(line)
    return all_with_air(channels, fill_nan)


def _other_channels(channels: Sequence[Volume], taken: Modality) -> str:
    """What to say of a scan of another number of channels than a model takes."""
    way = "give the µCT itself." if taken.channels == 1 else "list a scan for each: --input \"['A','B']\"."
    return f"{named(channels)} has {len(channels)} channel(s), but this model takes {taken}; {way}"


def _tell_other_size(volume: Volume) -> None:
    """Say so where a scan states another voxel size than the one that was given and is used."""
    try:
        stated = open_channels(volume.path)[0].geometry.spacing_um
    except InputError:  # it states none
        return
    given = volume.geometry.spacing_um
    if any(abs(one / other - 1) > SAME for one, other in zip(given, stated, strict=True)):
        one, other = ("×".join(f"{size:g}" for size in sizes) for sizes in (stated, given))
        print(f"note: {volume.path} states voxels of {one} µm (z×y×x); the {other} µm given are used")


def stain(
    volume: Sequence[Volume],
    settings: Settings,
    stainer: Stainer,
    output_dir: str,
    model: str,
    bundle_root: str,
    source: Mapping[str, Any],
    target: Mapping[str, Any],
    step: int | None,
    speed: str,
    bone_intensity: float | None,
    background_intensity: float | None,
    normalisation: str = "window",
    reference_slice: int | None = None,
    engine: Engine | None = None,
) -> None:
    """Stain a volume, or go on with one.

    Args:
        volume: the channels of the scan; where one grey value must do (hull, pictures, stripes), the first counts.
        settings: what is made.
        stainer: stains a slice.
        output_dir: the folder of the result; may hold what an earlier, stopped run of the same has done.
        model: the file of the weights.
        bundle_root: the trained bundle.
        source: what it was trained on.
        target: what it makes.
        step: between windows, px; None where they lie side by side.
        speed: as asked for.
        bone_intensity: mean grey value of bone in the scan; None where the dataset declared none.
        background_intensity: likewise, of background.
        normalisation: ``window``, ``dense`` or ``specimen``.
        reference_slice: number of the slice, across the first of the axes, whose statistics all is stained with where
            ``normalisation`` is ``specimen``; None to look for what is most like the training's sections.
        engine: who does the work; None for this process.

    Raises:
        InputError: if the folder holds something else, a slice cannot be read, a value is not what the model takes,
            or the disk is full; or if what the model makes is not RGB.
    """
    rgb_alone(target)
    check_reference(stainer, reference_slice, settings.axes[0], volume[0].shape, normalisation)
    looked_for = stainer.sections if reference_slice is None else None
    if "::" in str(output_dir) and "://" not in str(output_dir):  # MONAI writes so for # in every text of a config
        raise InputError(f"output_dir {output_dir} has # or :: in its name, which a config cannot hold; rename it.")
    folder, shown = place(str(output_dir)), speaks()
    given = values_taken(modality(source, "source"), recalibrated(source, bone_intensity, background_intensity))
    known = levels_of(bone_intensity, background_intensity)
    check_place(folder, settings)
    check_writable(folder)
    engine, config = engine or Engine(), merged_config()
    with explained(folder), sole(folder), engine.started(MODULES, not (folder / RECORD).exists()):
        scan, values, fill, grey = _survey(volume, given, known, shown)
        if shown and fill is not None and not settings.hull:
            print(f"note: the scan holds {fill}, stained as it is; --hull true leaves it out")
        fingerprint = {
            "scan": scan,
            "model": sha256_of(Path(model)),
            "voxel_um": list(volume[0].geometry.spacing_um),
            **settings.described(),
            "window": stainer.window,
            "step": step,
            "speed": speed,
            **({} if stainer.undecided else {"arithmetic": stainer.network.arithmetic}),
            "bone_intensity": bone_intensity,
            "background_intensity": background_intensity,
            "background_rgb": list(stainer.background_rgb or []) if settings.hull else None,
            **({} if normalisation == "window" else {"normalisation": normalisation}),
            **({} if reference_slice is None else {"reference_slice": reference_slice}),
            **({"sections": looked_for.digest} if looked_for is not None else {}),
            **stainer.trust.digests,
            **{part: digest_of_part(config[part]) for part in PARTS if part in config},
        }
        started = first_start(folder)
        finished = begin(folder, fingerprint, named(volume), started=started)
        about = {
            "research": RESEARCH,
            "stain": target["name"],
            "source": source["name"],
            "fingerprint": fingerprint,
        }
        record = {**about, **_origin(volume, Path(bundle_root)), "started": started, "values": values}
        _warn_of_size(volume[0], settings.axes, record["model_pixel_um"], shown)
        run = Run(volume, settings, stainer, known, folder, about, record, shown, reference_slice)
        refuse_unlike(run.channels, run.stainer)
        if not finished:
            _make(run, engine, config)
        elif shown:
            print(f"{folder / run.result} is there already, made of the same scan, model and settings")
    run.clear()
    if shown:
        show(run, grey)


def _survey(
    channels: Sequence[Volume], given: Modality, levels: tuple[float, float] | None, shown: bool
) -> tuple[str, list[float], Fill | None, Grey | None]:
    """Read every channel, see :func:`bundle.staining.job.survey`: checksums, limits of all, the fill of the first.

    What the page shows of the first is taken from the same pass; by the process that makes the page.

    Raises:
        InputError: as there, if all channels are flat, or two are the same.
    """
    found, planes = [], Shown(channels[0].shape, channels[0].geometry.spacing_um, 1) if shown else None
    for number, channel in enumerate(channels):
        with bar("reading the scan", "slice", shown) as report:
            found.append(survey(channel, given, levels, report, [planes] if planes and not number else []))
        if shown:
            print(described(channel, *found[-1][1], channel.shape[0]))
    scans, limits, fills, flat = zip(*found, strict=True)
    for line in flat_channels(channels, scans, flat):
        if shown:
            print(f"note: {line}")
    values = [min(low for low, _ in limits), max(high for _, high in limits)]
    return " ".join(scans), values, fills[0], planes.grey() if planes else None


def _make(run: Run, engine: Engine, config: Mapping[str, Any]) -> None:
    """Do what is missing of a run."""
    if run.shown:
        print(f"speed {run.about['fingerprint']['speed']}: {run.stainer.network.arithmetic}")
    bricks = 0 if run.direct else 4 * len(run.channels) * math.prod(run.volume.shape)
    faults = room_faults(run.folder, bricks)
    if faults:
        raise InputError("\n".join(faults))
    if run.shown and run.stainer.trust.missing:
        print(run.stainer.trust.missing)
    run.go(engine, recipe_of(run, config))


def digest_of_part(part: Any) -> str:
    """Of a part of a config, as it is written."""
    return hashlib.sha256(json.dumps(part, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _origin(channels: Sequence[Volume], bundle_root: Path) -> dict[str, Any]:
    """Where a result comes from besides its fingerprint, plain JSON."""
    path = bundle_root / "configs" / "metadata.json"
    metadata = read_record(path) if path.is_file() else {}
    paths = list(dict.fromkeys(str(each.path.absolute()) for each in channels))
    return {
        "input": paths[0] if len(paths) == 1 else paths,
        "shape": list(channels[0].shape),
        "channels": len(channels),
        "bundle_root": str(bundle_root.resolve()),
        "trained_on": metadata.get("trained_on"),
        "model_pixel_um": metadata.get("pixel_um"),
        "code": code_version(),
    }


def _warn_of_size(volume: Volume, axes: str, pixel_um: float | None, shown: bool) -> None:
    """Say so where the pixels of a scan's slices are not of the size that the model learnt from."""
    spacing_um = dict(zip("zyx", volume.geometry.spacing_um, strict=True))
    voxel_um = max(size for axis in axes for name, size in spacing_um.items() if name != axis)
    for line in size_note(str(volume.path), voxel_um, pixel_um) if shown else []:
        print(line)
