"""One registration from files to files."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bundle.common.atomic import check_writable, whole_folder, write_json
from bundle.common.command_line import as_bool
from bundle.common.machine import cores
from bundle.common.work.worker import speaks
from bundle.images.slides import write_slide
from bundle.images.volumes.fill import with_air
from bundle.images.volumes.geometry import Geometry
from bundle.images.volumes.volume import described, load, open_volume
from bundle.images.whole_slides import open_section
from bundle.preparation.registration.checks import (
    check_images,
    check_numbers,
    check_pair,
    check_sizes,
    crop_of,
    finished_before,
    read_cropped,
    stamped,
    voxel_sizes,
)
from bundle.preparation.registration.confidence import Verdict
from bundle.preparation.registration.exchange import (
    pair_shifts,
    plane_in_world,
    section_from_pair,
    world,
    write_affine,
    write_in_world,
    write_rigid,
    write_warp,
)
from bundle.preparation.registration.guess import read_guess
from bundle.preparation.registration.landmarks import errors_um, read_pairs
from bundle.preparation.registration.page import write_page
from bundle.preparation.registration.pair import FINER, Pair, common_grid, make_pair
from bundle.preparation.registration.plane import Registration, find_plane
from bundle.preparation.registration.pose import Pose
from bundle.preparation.registration.trace import Trace
from bundle.preparation.registration.warp import jacobian, without_folds

NEXT = (
    "; if edges fall together all over it, it is right all the same: scripts.prepare --keep {name} takes it. Else "
    "start again with a --guess, in another folder"
)
FAR_PX = 10  # voxels by which landmarks may lie off, as a median, before the registration is doubted
RESULT, PAGE = "registration.json", "qc.html"


def register(
    volume: str,
    section: str,
    output: str,
    voxel_um: float | None = None,
    scan_voxel_um: float | tuple[float, float, float] | None = None,
    pixel_um: float | None = None,
    crop: list[int] | None = None,
    guess: Any = None,
    turn_deg: float = 0.0,
    mirrored: bool = False,
    guess_deg: float = 15.0,
    guess_um: float = 300.0,
    slab_um: float = 0.0,
    refine: bool = False,
    volume_landmarks: str | None = None,
    section_landmarks: str | None = None,
    dark_background: bool = False,
    fill_nan: float | None = None,
    seed: int = 0,
) -> str:
    """Find the plane of a scan that a section shows, and write the pair.

    Without a guess the plane is searched everywhere, either side of the section up, which takes longer.

    Args:
        volume: the scan: NIfTI, NRRD, MetaImage, a TIFF stack, a folder of slices, or OME-Zarr.
        section: the slide: PNG, TIFF, OME-TIFF, or a vendor's format.
        output: folder of the pair; made whole or not at all.
        voxel_um: size to average the scan to, µm, and pixel size of the pair; none for the scan's own.
        scan_voxel_um: the scan's voxel size, µm, in place of what its file states; one, or z,y,x.
        pixel_um: the slide's pixel size, µm, likewise.
        crop: the part of the slide that holds the section: top, left, height, width, in its own pixels.
        guess: about where: a slice ("z=600"), three corners, or an earlier registration.json.
        turn_deg: with a slice: clockwise turn that makes the section look like it.
        mirrored: with a slice: the section must be turned over first.
        guess_deg: how far off the guessed orientation may be.
        guess_um: how far off the guessed place may be.
        slab_um: average the written µCT over so much of the section's thickness (about 40); 0 is the plane alone.
        refine: also take local shifts out of the written section, without folds.
        volume_landmarks: CSV with z, y, x (voxels of the scan's file), to check the result by.
        section_landmarks: CSV with row, column (pixels of the slide), the same points line for line.
        dark_background: the section is bright on dark, and that is meant.
        fill_nan: grey value of air, in place of NaN outside the scan's reconstruction circle.
        seed: of the random poses.

    Returns:
        What was found, and where to look.

    Raises:
        InputError: if the input makes no sense.
    """
    options = {name: value for name, value in locals().items() if name != "output"}
    if fill_nan is None:  # so that older registrations stay known
        del options["fill_nan"]
    folder = Path(str(output))
    request = stamped(options)
    if finished_before(folder, folder / RESULT, request):
        return f"{folder} holds this registration already; look at {folder / PAGE}"
    check_numbers(options)
    cores()  # a number of threads that is none is refused before anything is read
    refine, mirrored = as_bool("refine", refine), as_bool("mirrored", mirrored)
    dark_background = as_bool("dark_background", dark_background)
    marks = None
    if volume_landmarks or section_landmarks:
        marks = read_pairs(Path(str(volume_landmarks)), Path(str(section_landmarks)))
    scan = with_air(open_volume(str(volume), voxel_sizes(scan_voxel_um)), fill_nan)
    slide = open_section(Path(str(section)), pixel_um)
    step = float(voxel_um or np.mean(scan.geometry.spacing_um))
    area = crop_of(slide, crop)
    check_sizes(scan, slide, area, step)
    check_writable(folder.parent)
    trace = Trace(shown=speaks())
    with tqdm(
        total=scan.shape[0],
        desc="reading the scan",
        unit="slice",
        dynamic_ncols=True,
        disable=voxel_um is None or not speaks(),
    ) as bar:
        greys, geometry = load(scan, voxel_um, lambda done, _: bar.update(done - bar.n))
    step = geometry.spacing_um[0]  # a size within 1 % of the scan's own leaves the scan as it is
    flat, corner = read_cropped(slide, area, step)
    check_images(scan, greys, slide, flat)
    averaged = f", averaged to {step:g} µm" if voxel_um is not None else ""
    if speaks():
        print(described(scan, float(greys.min()), float(greys.max()), scan.shape[0]) + averaged)
    about = None
    if guess is not None:
        about = read_guess(guess, turn_deg, mirrored, guess_deg, guess_um, scan.geometry, geometry, greys.shape)
    found = find_plane(greys, flat, step, about, seed, trace)
    shape = flat.shape[1], flat.shape[2]
    warp = without_folds(found.finished.warp) if refine else None
    grid = common_grid(greys.shape, shape, found.finished.pose, warp)
    fine_um = max(step / FINER, slide.pixel_um)
    first = corner[0] / fine_um, corner[1] / fine_um
    pair = make_pair(greys, grid, slide.read(fine_um), shape, warp, slices_of(slab_um, step), step / fine_um, first)
    check_pair(pair, shape, slide.path, dark_background)
    errors: dict[str, Any] = {}
    if marks is not None:
        errors = landmark_errors(*marks, scan.geometry, geometry, slide.pixel_um, corner, found, shape)
        found = replace(found, verdict=with_landmarks(found.verdict, errors, step))
    facts = {"volume": str(volume), "section": str(section), **describe(found, pair, geometry, shape, warp)}
    facts |= {"landmarks": errors, "request": request} if errors else {"request": request}
    with whole_folder(folder) as partial:
        write_images(partial, pair, geometry)
        write_affine(partial / "section.tfm", *section_from_pair(grid, shape, step, slide.pixel_um, corner))
        if warp is not None:
            write_warp(partial / "warp.nrrd", pair_shifts(grid, shape, warp, step), step)
        with (partial / "trace.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("stage", "seconds", "nats per pixel", "evaluations"), *trace.rows])
        write_json(partial / RESULT, facts)
        page = write_page(folder.name, greys, pair, facts, found, trace.rows)
        (partial / PAGE).write_text(page, encoding="utf-8")
    advice = "" if found.verdict.accepted else NEXT.format(name=folder.name)
    return f"{found.verdict.sentence}\nlook at {folder / PAGE}{advice}"


def write_images(folder: Path, pair: Pair, geometry: Geometry) -> None:
    """Write a pair's images, and where they lie in the scan's world."""
    step = geometry.spacing_um[0]
    write_slide(folder / "source.tif", pair.source, step)
    write_slide(folder / "target.png", pair.target, step)
    write_slide(folder / "field.png", pair.field[None].astype(np.uint8) * 255, step)
    write_rigid(folder / "plane.tfm", *plane_in_world(pair.grid, geometry))
    write_in_world(folder / "section_in_scan.nrrd", pair.target, pair.grid, geometry)


def slices_of(slab_um: float, voxel_um: float) -> int:
    """How many slices a slab has, an odd number so that the plane is its middle."""
    return 2 * round((slab_um / voxel_um - 1) / 2) + 1 if slab_um > voxel_um else 1


def describe(
    found: Registration, pair: Pair, geometry: Geometry, section: tuple[int, int], warp: np.ndarray | None
) -> dict[str, Any]:
    """The result as ``registration.json`` has it."""
    pose, grid, verdict = pair.grid.pose, pair.grid, found.verdict
    rotation, origin = plane_in_world(grid, geometry)
    facts: dict[str, Any] = {
        "accepted": verdict.accepted,
        "confidence": round(verdict.confidence, 4),
        "evidence": {
            "blocks": verdict.blocks,
            "placed": round(verdict.placed, 4),
            "held": round(verdict.held, 4),
            "rival": round(verdict.rival, 4),
        },
        "mutual_information": round(found.finished.score, 4),
        "scale": [round(value, 5) for value in pose.scale],
        "shear": round(pose.shear, 5),
        "voxel_um": geometry.spacing_um[0],
        "plane": {
            "what": "down, right: unit vectors from one row and one column to the next; centre: where the section's "
            "middle lies; in voxels (z, y, x) of voxel_um. world: the same in mm (LPS: x, y, z), and the middle of the "
            "pair's first pixel",
            "voxel_um": geometry.spacing_um[0],
            "down": pose.frame[:, 0].tolist(),
            "right": pose.frame[:, 1].tolist(),
            "normal": pose.frame[:, 2].tolist(),
            "centre": pose.centre.tolist(),
            "world": {"right": rotation[:, 0].tolist(), "down": rotation[:, 1].tolist(), "first": origin.tolist()},
            "corners_world": world(geometry, _corners(pose, section)).tolist(),
        },
        "pair": {
            "what": "first row and column on the plane, voxels from the section's middle",
            "first": [grid.top, grid.left],
            "rows_columns": list(grid.shape),
            "common": round(float(pair.field.mean()), 4),
        },
    }
    left = np.hypot(*found.finished.warp)
    facts["local_shifts_px"] = {"median": round(float(np.median(left)), 3), "largest": round(float(left.max()), 3)}
    if warp is not None:
        facts["refined"] = {"least_jacobian": round(float(jacobian(warp).min()), 4)}
    return facts


def with_landmarks(verdict: Verdict, errors: dict[str, Any], voxel_um: float) -> Verdict:
    """The verdict, doubted if landmarks lie far off."""
    off = max(errors["median_in_plane_um"], errors["median_out_of_plane_um"])
    if off <= FAR_PX * voxel_um:
        return verdict
    told = f"the {errors['count']} landmarks lie {off:.0f} µm off (median)"
    return replace(verdict, doubts=(*verdict.doubts, told))


def _corners(pose: Pose, section: tuple[int, int]) -> np.ndarray:
    """Voxels of the section's corners: top left, top right, bottom right, bottom left."""
    half = (np.array(section) - 1) / 2
    return pose.points(np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * half)


def landmark_errors(
    voxels: np.ndarray,
    pixels: np.ndarray,
    scan: Geometry,
    geometry: Geometry,
    pixel_um: float,
    corner: tuple[float, float],
    found: Registration,
    section: tuple[int, int],
) -> dict[str, Any]:
    """Distances of landmarks from where the rigid plane and the affine transform put them, µm."""
    step = geometry.spacing_um[0]
    ratio = np.array(scan.spacing_um) / step
    places = ((pixels + 0.5) * pixel_um - np.array(corner)) / step - 0.5 - (np.array(section) - 1) / 2
    pose = found.finished.pose
    each = errors_um((voxels + 0.5) * ratio - 0.5, pose.points(places), pose.frame[:, 2], step)
    middle = {f"median_{name}": float(np.median(values)) for name, values in each.items()}
    return {"count": len(voxels), **middle, **each}
