"""One registration of two slides, from files to a folder."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.atomic import check_writable, whole_folder, write_json
from bundle.common.errors import InputError
from bundle.common.machine import cores
from bundle.images.slides import write_slide
from bundle.preparation.registration.checks import finished_before, stamped
from bundle.preparation.registration.exchange import write_affine, write_warp
from bundle.preparation.registration.landmarks import read_landmarks
from bundle.preparation.registration.two_slides.blocks import Both, make_both
from bundle.preparation.registration.two_slides.checks import (
    PATHS,
    Slide,
    check_options,
    check_shown,
    check_unlike,
    open_slide,
    pair_um,
)
from bundle.preparation.registration.two_slides.density import shrunk
from bundle.preparation.registration.two_slides.elastix import engine
from bundle.preparation.registration.two_slides.images import SlidePair, make_slide_pair, shifts_at
from bundle.preparation.registration.two_slides.models import Images, Model, find_models
from bundle.preparation.registration.two_slides.page import write_page
from bundle.preparation.registration.two_slides.start import Chosen, find_start
from bundle.preparation.registration.two_slides.verdict import Verdict, judge
from bundle.preparation.registration.warp import jacobian

IMAGES_PX, BLOCKS_PX, COARSE_PX = 1024, 512, 256  # of the longer side: for elastix, for blocks, to try starts
FEWEST_MARKS = 4
FAR = 0.01  # of the source's longer side by which landmarks may lie off, as a median
RESULT, PAGE, MARKS = "registration.json", "qc.html", "landmarks.csv"
LYING = "as the files lie"
NEXT = (
    "; if edges fall together all over it, it is right all the same: scripts.prepare --keep {name} takes it. Else mask "
    "what is torn or folded with --source_mask or --target_mask, in another folder"
)


@dataclass(frozen=True)
class Found:
    """What registration found.

    Attributes:
        start: where it began.
        models: what was fitted.
        model: the one that counts.
        verdict: what speaks for it.
        both: the slides at the size of the blocks.
    """

    start: Chosen
    models: list[Model]
    model: Model
    verdict: Verdict
    both: Both


def register_slides(
    source: str,
    target: str,
    output: str,
    pixel_um: float | None = None,
    source_pixel_um: float | None = None,
    target_pixel_um: float | None = None,
    source_mask: str | None = None,
    target_mask: str | None = None,
    source_landmarks: str | None = None,
    target_landmarks: str | None = None,
    seed: int = 0,
) -> str:
    """Bring two slides of one tissue onto one grid, and write the pair.

    They may lie any way round, either side up. The target is resampled to the source's pixels.

    Args:
        source: the slide that a network is to see: PNG, TIFF, OME-TIFF, or a vendor's format.
        target: the slide that it is to predict, of the same or the next section.
        output: folder of the pair; made whole or not at all.
        pixel_um: pixel size of the pair, µm; none for the coarser slide's.
        source_pixel_um: the source's pixel size, µm, in place of what its file states.
        target_pixel_um: the target's, likewise.
        source_mask: image over the whole source of any size, 0 where it is torn, folded or marked.
        target_mask: likewise over the target.
        source_landmarks: CSV with row, column (pixels of the source), to check the result by; they decide.
        target_landmarks: CSV with row, column (pixels of the target), the same points line for line.
        seed: of the samples.

    Returns:
        What was found, and where to look.

    Raises:
        InputError: if the input makes no sense.
    """
    options = {name: value for name, value in locals().items() if name != "output"}
    folder = Path(str(output))
    request = stamped(options, PATHS)
    if finished_before(folder, folder / RESULT, request):
        return f"{folder} holds this registration already; look at {folder / PAGE}"
    check_options(options)
    cores()  # a number of threads that is none is refused before anything is read
    engine()
    one = open_slide("source", source, source_pixel_um, source_mask)
    other = open_slide("target", target, target_pixel_um, target_mask)
    marks = read_marks(one, other, source_landmarks, target_landmarks)
    step = pair_um(one, other, pixel_um)
    check_writable(folder.parent)
    pixels, target_pixels = one.section.read(step), other.section.read(step)
    found = find(one, other, pixels, target_pixels, step, seed)
    errors: dict[str, list[float]] = {}
    if marks is not None:
        errors = mark_errors(found, *marks)
        found = overruled(found, errors, FAR * max(pixels.shape[1:]) * step)
    placing, warp, warp_um = found.model.placing, found.model.warp, found.both.pixel_um
    known, seen = one.known(pixels.shape[1:]), other.known(target_pixels.shape[1:])
    pair = make_slide_pair(pixels, target_pixels, known, seen, placing, step, warp, warp_um)
    facts = {"source": str(source), "target": str(target), **describe(found, pair, step, errors), "request": request}
    with whole_folder(folder) as partial:
        write_slide(partial / "source.tif", pair.source, step)
        write_slide(partial / "target.png", pair.target, step)
        write_slide(partial / "field.png", pair.field[None].astype(np.uint8) * 255, step)
        write_transforms(partial, found, pair, step, one.section.pixel_um, other.section.pixel_um)
        if marks is not None:
            write_marks(partial / MARKS, marks, errors)
        write_json(partial / RESULT, facts)
        (partial / PAGE).write_text(write_page(folder.name, pair, found, facts), encoding="utf-8")
    advice = "" if found.verdict.accepted else NEXT.format(name=folder.name)
    return f"{found.verdict.sentence}\nlook at {folder / PAGE}{advice}"


def find(one: Slide, other: Slide, pixels: np.ndarray, target: np.ndarray, step_um: float, seed: int) -> Found:
    """Register two slides at pixels of one size.

    Args:
        one: the source.
        other: the target.
        pixels: (3, H, W), uint8, the source.
        target: (3, h, w), uint8.
        step_um: size of both's pixels.
        seed: of elastix' samples.

    Returns:
        The result.

    Raises:
        InputError: if one is blank, they are the same, or have nothing in common.
    """
    longer = max(*pixels.shape[1:], *target.shape[1:])
    factors = [max(longer / side, 1.0) for side in (IMAGES_PX, BLOCKS_PX, COARSE_PX)]
    coloured = [shrunk_colour(pixels, factor) for factor in factors[:2]]
    small = shrunk_colour(target, factors[0])
    tissues = check_shown(one, coloured[0]), check_shown(other, small)
    check_unlike(one, other, pixels, target)
    sizes = []
    for factor in factors:
        images = [shrunk(tissue, factor / factors[0]) for tissue in tissues]
        known = [slide.known(image.shape) for slide, image in zip((one, other), images, strict=True)]
        sizes.append(Images(images[0], images[1], known[0], known[1], step_um * factor))
    blocks = sizes[1]
    fitting = coloured[1][:, : blocks.source.shape[0], : blocks.source.shape[1]]
    both = make_both(fitting, blocks.target, blocks.known, blocks.seen, blocks.pixel_um)
    start = find_start(sizes[0], both, sizes[2], seed)
    models = find_models(sizes[0], both, start.placing, start.placing is not start.lying, seed)
    model = [each for each in models if each.kept][-1]
    return Found(start, models, model, judge(both, model, start.rival), both)


def shrunk_colour(pixels: np.ndarray, factor: float) -> np.ndarray:
    """A slide (3, H, W) at larger pixels, uint8."""
    if factor <= 1:
        return pixels
    return np.stack([np.clip(np.rint(shrunk(channel, factor)), 0, 255).astype(np.uint8) for channel in pixels])


def read_marks(
    one: Slide, other: Slide, source: str | None, target: str | None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Landmarks of both slides, (N, 2) each, µm from their top left corners; None without.

    Raises:
        InputError: if they are not equally many, too few, or lie off the slide.
    """
    if source is None or target is None:
        return None
    found = []
    for slide, path in ((one, Path(str(source))), (other, Path(str(target)))):
        places = read_landmarks(path, ("row", "column"))
        if not ((places >= -0.5) & (places <= np.array(slide.section.shape) - 0.5)).all():
            height, width = slide.section.shape
            raise InputError(
                f"{path} has landmarks off {slide.section.path}, which has {height} rows, {width} columns."
            )
        found.append((places + 0.5) * slide.section.pixel_um)
    if len(found[0]) != len(found[1]):
        raise InputError(
            f"{source} has {len(found[0])} landmarks and {target} has {len(found[1])}; line for line they must be the "
            "same points."
        )
    if len(found[0]) < FEWEST_MARKS:
        raise InputError(f"{source} has {len(found[0])} landmarks; {FEWEST_MARKS} are the least that can decide.")
    return found[0], found[1]


def mark_errors(found: Found, source_um: np.ndarray, target_um: np.ndarray) -> dict[str, list[float]]:
    """Distances of landmarks, µm, from where each model puts them; how the files lie is a model too."""
    models = [Model(LYING, found.start.lying), *found.models]
    errors = {}
    for model in models:
        places = source_um
        if model.warp is not None:
            places = places + shifts_at(places.T, model.warp, found.both.pixel_um).T
        errors[model.name] = np.hypot(*(model.placing.places(places) - target_um).T).tolist()
    return errors


def overruled(found: Found, errors: dict[str, list[float]], far_um: float) -> Found:
    """The result that landmarks choose, by their median, and their verdict."""
    medians = {name: float(np.median(values)) for name, values in errors.items()}
    best = min(medians, key=lambda name: medians[name])
    model = {LYING: Model(LYING, found.start.lying), **{each.name: each for each in found.models}}[best]
    count = len(errors[best])
    told = f"{count} landmarks chose '{best}' and lie {medians[best]:.3g} µm off (median; {far_um:.3g} at most)"
    if medians[best] > far_um:
        verdict = replace(found.verdict, doubts=(*found.verdict.doubts, told))
    else:
        verdict = replace(found.verdict, doubts=(), landmarks=told)
    return replace(found, model=model, verdict=verdict)


def describe(found: Found, pair: SlidePair, step_um: float, errors: dict[str, list[float]]) -> dict[str, Any]:
    """The result as ``registration.json`` has it."""
    verdict, placing = found.verdict, found.model.placing
    facts: dict[str, Any] = {
        "kind": "two slides",
        "accepted": verdict.accepted,
        "verdict": verdict.sentence,
        "confidence": round(verdict.confidence, 4),
        "evidence": {
            "blocks": verdict.blocks,
            "placed": round(verdict.placed, 4),
            "rival": round(verdict.rival, 4),
        },
        "mutual_information": round(found.model.told, 4),
        "voxel_um": step_um,
        "pixel_um": step_um,
        "model": found.model.name,
        "models": {
            model.name: {
                "held_out_nats": round(model.told, 4),
                "gain": round(model.gain, 4),
                "standard_error": round(model.error, 4) if np.isfinite(model.error) else None,
                "kept": model.kept,
            }
            for model in found.models
        },
        "what": "matrix: row and column on the target = matrix @ (row, column, 1) on the source, whole slides at "
        "pixel_um from the middle of the first pixel, before local shifts; pair.first: its first pixel on the source",
        "matrix": placing.in_pixels(step_um).tolist(),
        "turn_deg": round(placing.turn_deg, 3),
        "mirrored": placing.mirrored,
        "scale": [round(scale, 5) for scale in placing.scales],
        "pair": {
            "first": list(pair.corner),
            "rows_columns": list(pair.field.shape),
            "common": round(float(pair.field.mean()), 4),
        },
    }
    if found.model.warp is not None:
        shifts = np.hypot(*found.model.warp) * found.both.pixel_um
        facts["local_shifts_um"] = {
            "median": round(float(np.median(shifts)), 3),
            "largest": round(float(shifts.max()), 3),
        }
        facts["least_jacobian"] = round(float(jacobian(found.model.warp).min()), 4)
    if errors:
        facts["landmarks"] = {
            "count": len(errors[LYING]),
            **{
                name: {"median_um": float(np.median(each)), "ninety_percent_um": float(np.quantile(each, 0.9))}
                for name, each in errors.items()
            },
        }
    return facts


def write_transforms(
    folder: Path, found: Found, pair: SlidePair, step_um: float, source_um: float, target_um: float
) -> None:
    """``source.tfm`` and ``target.tfm``: from a pair's points (x, y; mm) to the slides'; local shifts before it."""
    first = np.array(pair.corner) * step_um + 0.5 * step_um  # of the pair on the source, from its corner
    linear, offset = found.model.placing.linear, found.model.placing.places(first[None])[0]
    write_affine(folder / "source.tfm", np.eye(2), (first - 0.5 * source_um)[::-1] / 1000)
    write_affine(folder / "target.tfm", linear[::-1, ::-1], (offset - 0.5 * target_um)[::-1] / 1000)
    if found.model.warp is not None:
        warp_um = found.both.pixel_um
        places = [first[axis] + np.arange(0, size * step_um, warp_um) for axis, size in enumerate(pair.field.shape)]
        shifts = shifts_at(np.stack(np.meshgrid(*places, indexing="ij")), found.model.warp, warp_um)
        write_warp(folder / "warp.nrrd", shifts / 1000, warp_um)


def write_marks(path: Path, marks: tuple[np.ndarray, np.ndarray], errors: dict[str, list[float]]) -> None:
    """A line for each landmark: where it is on both slides, and how far each model is off, µm."""
    heads = [
        "source_row_um",
        "source_column_um",
        "target_row_um",
        "target_column_um",
        *(f"{name}, off by µm" for name in errors),
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(heads)
        for number, (source, target) in enumerate(zip(*marks, strict=True)):
            values = [*source, *target, *(each[number] for each in errors.values())]
            table.writerow([f"{value:.3f}" for value in values])
