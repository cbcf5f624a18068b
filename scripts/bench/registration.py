"""Registration against known truth: phantom sections, spoiled, stretched and warped, found again in their volumes.

``python -m scripts.bench.registration --output DIR --trials 20``; start it again to go on. What each arm tries:

| arm | section | start |
|---|---|---|
| whole | whole field of view | 10° and 40 voxels off |
| half | half as wide, centred on the screw | the same |
| whole_free, half_free | the same two | none; slides lie in any way, either side up |
| whole_wrong, half_wrong | the same two, in another specimen of the same material | 10° and 40 voxels off |
| whole_wrong_free, half_wrong_free | likewise | none |
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bundle.common.command_line import command
from bundle.preparation.phantom.block import RIGID, Block, Tissue, make_block
from bundle.preparation.phantom.slides import RawSlide, draw_cut, draw_distortion, photograph_slide
from bundle.preparation.phantom.spoiling import spoiling_of
from bundle.preparation.phantom.staining import stain_block
from bundle.preparation.phantom.tomography import draw_scan, scan_block
from bundle.preparation.registration.confidence import ACCEPTED
from bundle.preparation.registration.plane import find_plane
from bundle.preparation.registration.pose import Pose
from bundle.preparation.registration.search import Guess, reach_of
from bundle.preparation.registration.trace import Trace

ARMS = (
    "whole",
    "half",
    "whole_free",
    "half_free",
    "whole_wrong",
    "half_wrong",
    "whole_wrong_free",
    "half_wrong_free",
)
MATERIALS = (
    "Mg",
    "Mg",
    "Mg",
    "Mg",
    "Ti",
    "Ti",
    "PEEK",
    "PEEK",
    "Mg",
    "Mg",
)  # of trials in turn; neighbours swap volumes
START_DEG, START_VOXELS = 10.0, 40.0
MEASURES = ("plane", "bone", "tissue", "bone_warped", "tissue_warped", "seconds")
SCREWS = (Tissue.MG, Tissue.TI, Tissue.PEEK)


class Trial(NamedTuple):
    """One specimen and its slide."""

    block: Block
    volume: np.ndarray
    slide: RawSlide


def main(
    output: str, trials: int = 20, first: int = 0, arms: list[str] | tuple[str, ...] = ARMS, stain: str = "toluidine"
) -> None:
    """Run the trials that are not done yet, then print a line for each arm.

    Args:
        output: folder of ``trials.jsonl``.
        trials: specimens.
        first: number of the first; other numbers are other specimens.
        arms: see the module.
        stain: ``toluidine`` or ``he``.
    """
    path = Path(output) / "trials.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    done = {(row["trial"], row["arm"]) for row in rows_of(path)}
    for number in range(first, first + trials):
        left = [arm for arm in arms if (number, arm) not in done]
        if not left:
            continue
        trial = make_trial(number, stain)
        other = make_trial(number ^ 1, stain).volume if any("wrong" in arm for arm in left) else trial.volume
        for arm in left:
            row = {"trial": number, "arm": arm, "material": trial.block.material, **run(trial, other, arm, number)}
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    print("\n".join(summary([row for row in rows_of(path) if first <= row["trial"] < first + trials])))


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The trials done so far."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def make_trial(number: int, stain: str = "toluidine", size: int = 256) -> Trial:
    """A specimen with 1 to 2 % of scale and shear, 2 to 4 px of warp, and all the usual faults."""
    rng = np.random.default_rng([5, number])
    block = make_block(rng, MATERIALS[number % len(MATERIALS)], size, 5.0, 0.52 * size / 256)
    volume = scan_block(block, draw_scan(rng), rng)
    plane = draw_cut(block, rng)
    slide = photograph_slide(
        block, stain_block(block, stain, rng), plane, draw_distortion(rng), spoiling_of(stain), rng
    )
    return Trial(block, volume, slide)


def run(trial: Trial, other: np.ndarray, arm: str, number: int) -> dict[str, Any]:
    """Register one section and compare with the truth."""
    slide = half(trial.slide) if arm.startswith("half") else trial.slide
    wrong = "wrong" in arm
    guess = None if arm.endswith("free") else start(slide, np.random.default_rng([6, number]))
    began = time.monotonic()
    found = find_plane(other if wrong else trial.volume, slide.pixels, 5.0, guess, trace=Trace(shown=False))
    seconds = time.monotonic() - began
    verdict = found.verdict
    facts = {
        "score": found.finished.score,
        "confidence": verdict.confidence,
        "placed": verdict.placed,
        "held": verdict.held,
        "rival": verdict.rival,
        "blocks": verdict.blocks,
        "seconds": seconds,
    }
    if not wrong:
        pose = found.finished.pose
        facts |= {"plane": plane_error(slide, pose)}
        for name, tissues in (("bone", RIGID), ("tissue", tuple(set(Tissue) - {Tissue.BACKGROUND, Tissue.HOLDER}))):
            facts |= {name: in_plane_error(slide, pose, tissues)}
            facts |= {f"{name}_warped": in_plane_error(slide, pose, tissues, found.finished.warp)}
    return {name: round(float(value), 4) for name, value in facts.items()}


def half(slide: RawSlide) -> RawSlide:
    """Half of the slide, across the screw and about it (across the rows if there is no screw)."""
    screw = np.nonzero(np.isin(slide.labels, SCREWS))
    middles = [where.mean() if len(where) else size / 2 for where, size in zip(screw, slide.labels.shape, strict=True)]
    axis = 1 if not len(screw[0]) or np.ptp(screw[0]) >= np.ptp(screw[1]) else 0
    size = slide.labels.shape[axis]
    begin = int(np.clip(middles[axis] - size // 4, 0, size // 2))
    window = [slice(None), slice(None)]
    window[axis] = slice(begin, begin + size // 2)
    cut: tuple[Any, ...] = (..., *window)
    return replace(slide, pixels=slide.pixels[cut], places=slide.places[cut], labels=slide.labels[cut])


def true_pose(slide: RawSlide) -> Pose:
    """The plane as it was cut, with the affine transform that fits bone best."""
    where = np.isin(slide.labels, RIGID)
    places = np.column_stack([_centred(slide)[where], np.ones(where.sum())])
    affine = np.linalg.lstsq(places, _true(slide)[where], rcond=None)[0].T
    basis = np.column_stack([slide.plane.down, slide.plane.right])
    return Pose.of_matrix(basis @ affine[:, :2], slide.plane.centre + basis @ affine[:, 2])


def start(slide: RawSlide, rng: np.random.Generator) -> Guess:
    """A guess that is off by 10° about a random axis and 40 voxels in a random direction, and not stretched."""
    turn, shift = (vector / np.linalg.norm(vector) for vector in rng.standard_normal((2, 3)))
    reach = reach_of(slide.labels.shape)
    off = true_pose(slide).moved(np.concatenate([turn * np.deg2rad(START_DEG) * reach, shift * START_VOXELS]), reach)
    return Guess(replace(off, linear=np.eye(2)))


def plane_error(slide: RawSlide, pose: Pose) -> float:
    """Mean distance of the section's corners from the plane that was cut, voxels."""
    corners = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * (np.array(slide.labels.shape) - 1) / 2
    return float(np.abs((pose.points(corners) - slide.plane.centre) @ slide.plane.normal).mean())


def in_plane_error(slide: RawSlide, pose: Pose, tissues: tuple[Tissue, ...], warp: np.ndarray | None = None) -> float:
    """Mean distance in the plane of what is registered from where it was, over some tissues, voxels.

    Args:
        slide: with its truth.
        pose: found.
        tissues: where to look.
        warp: local shifts to apply too.
    """
    where = np.isin(slide.labels, tissues)
    places = _centred(slide)[where] + (0 if warp is None else warp[:, where].T)
    off = pose.points(places) - slide.plane.centre
    basis = np.column_stack([slide.plane.down, slide.plane.right])
    return float(np.linalg.norm(off @ basis - _true(slide)[where], axis=1).mean())


def _centred(slide: RawSlide) -> np.ndarray:
    """Rows and columns of the slide's pixels from its middle, (H, W, 2)."""
    steps = [np.arange(size) - (size - 1) / 2 for size in slide.labels.shape]
    return np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1)


def _true(slide: RawSlide) -> np.ndarray:
    """Rows and columns on the plane that the pixels show, from its middle, (H, W, 2)."""
    return slide.places.transpose(1, 2, 0) - (np.array(slide.plane.shape) - 1) / 2


def summary(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A line of a table for each arm, and what the verdicts are worth."""
    yield (
        "| arm | n | plane < 1.5 and bone < 2 | … and tissue < 2 | … refined | plane < 3 | plane, median and worst | "
        "bone, tissue | refined | s |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for arm in [arm for arm in ARMS if "wrong" not in arm]:
        mine = {name: np.array([row[name] for row in rows if row["arm"] == arm]) for name in MEASURES}
        if not len(mine["plane"]):
            continue
        exact = mine["plane"] < 1.5
        counts = [(exact & (mine[name] < 2)).sum() for name in ("bone", "tissue", "tissue_warped")]
        middle = {name: f"{np.median(values):.2f}" for name, values in mine.items()}
        yield (
            f"| {arm} | {len(exact)} | {counts[0]} | {counts[1]} | {counts[2]} | {(mine['plane'] < 3).sum()} | "
            f"{middle['plane']}, {mine['plane'].max():.2f} | {middle['bone']}, {middle['tissue']} | "
            f"{middle['bone_warped']}, {middle['tissue_warped']} | {np.median(mine['seconds']):.0f} |"
        )
    good = [row for row in rows if "wrong" not in row["arm"] and row["plane"] < 3 and row["bone"] < 3]
    bad = [row for row in rows if row not in good]
    taken = [sum(row["confidence"] >= ACCEPTED for row in group) for group in (good, bad)]
    wrong = sum("wrong" in row["arm"] for row in bad)
    yield f"accepted: {taken[0]} of {len(good)} good, {taken[1]} of {len(bad)} bad ({wrong} in a wrong volume)"
    if good and bad:
        scores = [[row["score"] for row in group] for group in (good, bad)]
        yield f"nats per pixel: good {min(scores[0]):.2f} to {max(scores[0]):.2f}, bad up to {max(scores[1]):.2f}"


if __name__ == "__main__":
    command(main)
