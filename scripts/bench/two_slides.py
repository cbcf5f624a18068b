"""How well two slides are brought together, by ways to do it.

``python -m scripts.bench.two_slides --data FOLDER`` prints a table; the folder has ``rat_jaw`` and ``lung_he_ki67``.

- jaw: a µCT slice and an H&E section that already lie on one another by their authors' affine fit; judged by their
  landmarks, on both parts, on each alone, and either way round. What the authors left is the row "as the files lie".
- lung: H&E and Ki-67 of consecutive sections, the second turned by 8° or 137°, 5 % larger or smaller, 100 px aside. The
  judge is the affine fit that came with them, which itself lies about 12 px from landmarks; "undone" is the distance
  from what the same way finds without the planted error.
- torn, fold, stain, inverted: the lung's H&E or a colon (skimage), with planted transforms, so that truth is exact.

Ways: planar (colour classes, mutual information, Powell), elastix (affine, Mattes), bspline (elastix after that,
64 px), features (SIFT on density, RANSAC, then elastix), ours (the command: start, then what held-out squares allow).
All but features begin at the start that the command finds.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import itk
import numpy as np
from scipy.ndimage import affine_transform, map_coordinates
from skimage.color import rgb2hed
from skimage.data import immunohistochemistry
from skimage.feature import SIFT, match_descriptors
from skimage.measure import ransac
from skimage.transform import AffineTransform

from bundle.common.command_line import command
from bundle.common.errors import InputError
from bundle.images.slides import read_slide
from bundle.preparation.registration import planar
from bundle.preparation.registration.two_slides.checks import Slide
from bundle.preparation.registration.two_slides.density import density
from bundle.preparation.registration.two_slides.elastix import find_affine
from bundle.preparation.registration.two_slides.run import find

GLASS = 245.0
AS_IT_CAME = "lung, as it came"
Field = Callable[[np.ndarray], np.ndarray]  # places (N, 2) on the source, px → places on the target


@dataclass(frozen=True)
class Situation:
    """Two slides and where points of the source lie on the target.

    Attributes:
        name: of the situation.
        source: (3, H, W), uint8.
        target: (3, h, w), uint8.
        known: where the source may be compared.
        seen: likewise the target.
        points: (N, 2), on the source, px.
        truth: (N, 2), on the target.
    """

    name: str
    source: np.ndarray
    target: np.ndarray
    known: np.ndarray
    seen: np.ndarray
    points: np.ndarray
    truth: np.ndarray


def main(data: str, only: str = "", seeds: int = 3, ways: str = "ours,elastix,bspline,features,planar") -> None:
    """Print a line for each situation and way.

    Args:
        data: folder with ``rat_jaw`` and ``lung_he_ki67``.
        only: beginning of the situations' names; all without.
        seeds: planted errors of the lung pair.
        ways: which ones, by commas.
    """
    chosen = ways if isinstance(ways, (list, tuple)) else str(ways).split(",")
    print(
        "| situation | way | error, px: median | 90 % | undone, px | seconds | verdict |\n|---|---|---|---|---|---|---|"
    )
    unmoved: dict[str, Field] = {}
    for situation in situations(Path(str(data)), seeds):
        if situation.name.startswith(only):
            for name, field, seconds, verdict in results(situation, chosen):
                off = np.hypot(*(field(situation.points) - situation.truth).T)
                undone = ""
                if situation.name == AS_IT_CAME:
                    unmoved[_way(name)] = field
                elif situation.name.startswith("lung") and _way(name) in unmoved:
                    undone = f"{_undone(situation, field, unmoved[_way(name)]):.2f}"
                told = f"{np.median(off):.2f} | {np.quantile(off, 0.9):.2f} | {undone} | {seconds:.0f} | {verdict} |"
                print(f"| {situation.name} | {name} | {told}", flush=True)


def _way(name: str) -> str:
    """A way without its figures."""
    return name.split(",")[0]


def _undone(situation: Situation, field: Field, unmoved: Field) -> float:
    """Median distance, px, from what was found without the planted error, moved by it."""
    ones = np.ones((len(situation.points), 1))
    planted_error = np.linalg.lstsq(np.hstack([situation.points, ones]), situation.truth, rcond=None)[0]
    expected = np.hstack([unmoved(situation.points), ones]) @ planted_error
    return float(np.median(np.hypot(*(field(situation.points) - expected).T)))


def results(one: Situation, ways: list[str]) -> Iterator[tuple[str, Field, float, str]]:
    """Name, field, seconds and verdict of each way."""
    begun = time.monotonic()
    try:
        found = find(_slide("source", one), _slide("target", one), one.source, one.target, 1.0, 0)
    except InputError as error:
        print(f"| {one.name} | refused | | | | | {error} |", flush=True)
        return
    seconds = time.monotonic() - begun
    if "ours" in ways:
        yield "as the files lie", lambda points: points, 0.0, ""
        for model in found.models:
            word = (
                found.verdict.sentence.split(":")[0]
                if model is found.model
                else "kept on the way"
                if model.kept
                else ""
            )
            yield (
                f"ours: {model.name}",
                _field(model.placing.in_pixels(1.0), model.warp, found.both.pixel_um),
                seconds,
                word,
            )
    start = found.start.placing.in_pixels(1.0)
    tissues = density(one.source), density(one.target)
    masks = one.known, one.seen
    for way, function in (("elastix", _elastix), ("bspline", _bspline), ("features", _features), ("planar", _planar)):
        if way in ways:
            begun = time.monotonic()
            fields = function(one, tissues, masks, start)
            for name, field in fields.items():
                yield name, field, time.monotonic() - begun, ""


def _slide(role: str, one: Situation) -> Slide:
    mask, image = (one.known, one.source) if role == "source" else (one.seen, one.target)
    section: Any = SimpleNamespace(path=role, pixel_um=1.0, shape=image.shape[1:])
    return Slide(role, section, mask)


def _field(matrix: np.ndarray, warp: np.ndarray | None = None, warp_px: float = 1.0) -> Field:
    def places(points: np.ndarray) -> np.ndarray:
        if warp is not None:
            at = ((points + 0.5) / warp_px - 0.5).T
            points = (
                points + np.stack([map_coordinates(part, at, order=1, mode="nearest") for part in warp], 1) * warp_px
            )
        return points @ matrix[:, :2].T + matrix[:, 2]

    return places


def _elastix(one: Situation, tissues: Any, masks: Any, start: np.ndarray) -> dict[str, Field]:
    found = find_affine(*tissues, masks, start)
    return {} if found is None else {"elastix: affine": _field(found)}


def _bspline(one: Situation, tissues: Any, masks: Any, start: np.ndarray) -> dict[str, Field]:
    affine = find_affine(*tissues, masks, start)
    if affine is None:
        return {}
    moved, seen = (
        affine_transform(image.astype(np.float32), affine[:, :2], affine[:, 2], tissues[0].shape, order=1)
        for image in (tissues[1], masks[1])
    )
    parameters = itk.ParameterObject.New()
    chosen = parameters.GetDefaultParameterMap("bspline", 3)
    ours = {"FinalGridSpacingInPhysicalUnits": "64", "NumberOfSpatialSamples": "4000", "RandomSeed": "1"}
    for name, value in {**ours, "WriteResultImage": "false", "RequiredRatioOfValidSamples": "0.1"}.items():
        chosen[name] = [value]
    parameters.AddParameterMap(chosen)
    fixed = itk.image_from_array(np.ascontiguousarray(tissues[0], np.float32))
    _, result = itk.elastix_registration_method(
        fixed,
        itk.image_from_array(np.ascontiguousarray(moved)),
        parameter_object=parameters,
        fixed_mask=itk.image_from_array(masks[0].astype(np.uint8)),
        moving_mask=itk.image_from_array((seen > 0.99).astype(np.uint8)),
        number_of_threads=1,
    )
    shifts = itk.array_from_image(itk.transformix_deformation_field(fixed, result))
    return {"elastix: affine and B-spline": _field(affine, np.stack([shifts[..., 1], shifts[..., 0]]))}


def _features(one: Situation, tissues: Any, masks: Any, start: np.ndarray) -> dict[str, Field]:
    found = []
    for tissue in tissues:
        sift = SIFT(upsampling=1)
        sift.detect_and_extract(np.clip(tissue / np.quantile(tissue, 0.99), 0, 1))
        found.append(sift)
    pairs = match_descriptors(found[0].descriptors, found[1].descriptors, max_ratio=0.85, cross_check=True)
    if len(pairs) < 6:
        return {}
    keys = found[0].keypoints[pairs[:, 0]], found[1].keypoints[pairs[:, 1]]
    model, inliers = ransac(keys, AffineTransform, 3, 8, max_trials=5000, rng=0)
    if model is None or inliers is None or inliers.sum() < 6:
        return {}
    matrix = np.asarray(model.params)[:2]
    refined = find_affine(*tissues, masks, matrix)
    fields = {f"features: SIFT, {int(inliers.sum())} of {len(pairs)} agree": _field(matrix)}
    return fields if refined is None else {**fields, "features: then elastix": _field(refined)}


def _planar(one: Situation, tissues: Any, masks: Any, start: np.ndarray) -> dict[str, Field]:
    target = np.where(masks[1], tissues[1].astype(float) * 1000, np.nan)
    try:
        found = planar.find_affine(target, one.source, masks[0], start, planar.Within(5, 15))
    except ValueError:
        return {}
    return {"planar: affine": _field(found.matrix), "planar: warp": _field(found.matrix, found.warp)}


def situations(data: Path, seeds: int) -> Iterator[Situation]:
    """All of them."""
    yield from jaws(data / "rat_jaw")
    stained, other = (read_slide(data / "lung_he_ki67" / name).pixels for name in ("he.png", "ki67_affine.png"))
    yield planted(AS_IT_CAME, stained, other, np.eye(2), np.zeros(2), stained.shape[1:])
    for seed in range(seeds):
        for turn in (8.0, 137.0):
            rng = np.random.default_rng(seed)
            scale, around = 1 + rng.choice([-0.05, 0.05]), rng.uniform(0, 2 * np.pi)
            shift = 100 * np.array([np.cos(around), np.sin(around)])
            yield planted(f"lung, {turn:g}° {scale:g} {seed}", stained, other, scale * turned(turn), shift)
    colon = immunohistochemistry().transpose(2, 0, 1)
    brown = hematoxylin_only(colon)
    yield planted(
        "torn, lung H&E", stained, stained[:, 150:550, 100:560], turned(75), np.array([30.0, 20]), None, (150, 100)
    )
    yield folded(stained)
    yield planted("stain, colon", colon, brown, 1.03 * turned(-137), np.array([20.0, -35]))
    yield planted("stain, face down", colon, brown, turned(60) @ np.diag([1, -1]), np.array([20.0, -35]))
    yield planted("inverted, colon", colon, 255 - brown, turned(20), np.array([10.0, 15]), glass=255 - GLASS)


def turned(turn_deg: float) -> np.ndarray:
    """A turn in the plane, (2, 2)."""
    angle = np.deg2rad(turn_deg)
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def hematoxylin_only(image: np.ndarray) -> np.ndarray:
    """The same tissue in another stain, (3, H, W), uint8: its hematoxylin alone, in brown."""
    stain = np.clip(rgb2hed(image.transpose(1, 2, 0))[..., 0], 0, None)
    share = np.clip(stain / np.quantile(stain, 0.99), 0, 1.2)
    return np.rint(GLASS * np.exp(-share * np.array([0.5, 0.9, 1.3])[:, None, None])).astype(np.uint8)


def planted(
    name: str,
    source: np.ndarray,
    image: np.ndarray,
    linear: np.ndarray,
    shift: np.ndarray,
    size: tuple[int, ...] | None = None,
    corner: tuple[int, int] = (0, 0),
    glass: float = GLASS,
) -> Situation:
    """An image laid on larger glass; it shows the source from ``corner`` on."""
    shape = size or (round(1.35 * max(image.shape[1:])),) * 2
    middle = (np.array(image.shape[1:]) - 1) / 2
    offset = (np.array(shape) - 1) / 2 + shift - linear @ middle
    back = np.linalg.inv(linear)
    target = np.stack(
        [affine_transform(each.astype(float), back, -back @ offset, shape, order=1, cval=glass) for each in image]
    )
    points = np.stack(np.meshgrid(*(np.arange(5, n, 10.0) for n in image.shape[1:]), indexing="ij"), -1).reshape(-1, 2)
    known, seen = np.ones(source.shape[1:], bool), np.ones(shape, bool)
    truth = points @ linear.T + offset
    return Situation(name, source, np.rint(target).astype(np.uint8), known, seen, points + corner, truth)


def folded(source: np.ndarray) -> Situation:
    """The source in brown and turned, of which a strip of 40 px is folded away and what is beyond moved up to it."""
    brown = hematoxylin_only(source)
    fold, width = source.shape[2] * 2 // 3, 40
    beyond = brown[:, :, fold + width :]
    image = np.concatenate([brown[:, :, :fold], beyond], 2)
    image[:, :, fold : fold + width] = np.rint(image[:, :, fold : fold + width] * 0.6).astype(np.uint8)  # lies double
    whole = planted("fold, lung H&E", source, image, turned(-25), np.array([15.0, 10]))
    points = whole.points.copy()
    points[points[:, 1] >= fold, 1] += width
    return Situation(whole.name, source, whole.target, whole.known, whole.seen, points, whole.truth)


def jaws(folder: Path) -> Iterator[Situation]:
    """The parts of the rat jaw, and both together (they are neighbours), either image as the source."""
    with (folder / "landmarks.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    parts = []
    for part in ("train", "validation"):
        section, slice_, mask = (
            read_slide(folder / part / f"{name}.png").pixels for name in ("histology", "microct_affine", "mask")
        )
        own = [row for row in rows if row["part"] == part]
        marks = [
            np.array([[float(row[f"{name}_{axis}"]) for axis in ("row", "column")] for row in own])
            for name in ("section", "microct_affine")
        ]
        parts.append((part, section, np.repeat(slice_[:1], 3, 0), mask[0] > 0, *marks))
    below = np.array([parts[0][1].shape[1], 0])
    joined = [np.concatenate([parts[0][k], parts[1][k]], -2) for k in (1, 2, 3)]
    both = ("both", *joined, *(np.concatenate([parts[0][k], parts[1][k] + below]) for k in (4, 5)))
    for name, section, scan, mask, on_section, on_scan in (both, *parts):
        seen = scan[0] > 0
        yield Situation(f"jaw, {name}, section on µCT", section, scan, mask, seen, on_section, on_scan)
        yield Situation(f"jaw, {name}, µCT on section", scan, section, seen, mask, on_scan, on_section)


if __name__ == "__main__":
    command(main)
