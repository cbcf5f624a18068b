"""Tiles of a slide by ``scripts.tile`` and by pyvips: ``python -m scripts.bench.tiles --pyvips PYTHON``.

PYTHON is an interpreter of an environment where ``pip install "pyvips[binary]"`` was done; this project does not need
it. Both cut tiles of 288 px that overlap by half out of one TIFF (JPEG, tiles of 256 px), each as a process of its own.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import skimage.data
import tifffile

from bundle.common.command_line import command

TILE = 288
VIPS = f"""
import sys
import pyvips
image = pyvips.Image.new_from_file(sys.argv[1], access="sequential")
image.dzsave(sys.argv[2], tile_size={TILE // 2}, overlap={TILE // 4}, depth="one", suffix=sys.argv[3])
"""  # its overlap is added on every side


class Cost(NamedTuple):
    """What cutting a slide took: seconds, CPU seconds of all threads, and the bytes of a tile."""

    seconds: float
    cpu: float
    size: float


def slide(path: Path, side: int) -> None:
    """Write scikit-image's stained section, continued as in mirrors, with pixels of 0.5 µm."""
    section = skimage.data.immunohistochemistry()[:side, :side]
    over = [(0, side - length) for length in section.shape[:2]]
    about = {"compression": "jpeg", "compressionargs": {"level": 90}, "resolution": (2e4, 2e4), "resolutionunit": 3}
    pixels = np.pad(section, [*over, (0, 0)], mode="symmetric")
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(256, 256), **about)


def cost(line: list[str], output: Path) -> Cost:
    """Run a command, weigh the tiles it leaves in ``output``, and remove them."""
    before, begin = os.times(), time.perf_counter()
    subprocess.run(line, check=True, capture_output=True)
    seconds, after = time.perf_counter() - begin, os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])  # of children
    sizes = [path.stat().st_size for path in output.rglob("*.png")]
    shutil.rmtree(output)
    return Cost(seconds, cpu, statistics.mean(sizes))


def main(pyvips: str, side: int = 10000, rounds: int = 3) -> None:
    """Print medians (range) of interleaved rounds as Markdown.

    Args:
        pyvips: a Python that has it.
        side: of the slide, px.
        rounds: how often each cuts it.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slide(folder / "slide.tif", side)
        slide(folder / "small.tif", TILE)  # the other stain, which it asks for
        given = [f"--source={folder}/slide.tif", f"--target={folder}/small.tif", f"--output={folder}/ours"]
        ours = [sys.executable, "-m", "scripts.tile", *given, "--source_name=a", "--target_name=b"]
        lines = {"`scripts.tile`": (ours, folder / "ours")}
        for options in ("compression=1", "compression=2,filter=avg"):
            line = [pyvips, "-c", VIPS, str(folder / "slide.tif"), str(folder / "vips"), f".png[{options}]"]
            lines[f"pyvips, `{options}`"] = line, folder / "vips_files"
        found: dict[str, list[Cost]] = {name: [] for name in lines}
        for _ in range(rounds):
            for name, (line, output) in lines.items():
                found[name].append(cost(line, output))
    print("| | s (range) | CPU s (range) | kB a tile |")
    print("|---|---|---|---|")
    for name, costs in found.items():
        print(
            f"| {name} | {_spread([each.seconds for each in costs])} | {_spread([each.cpu for each in costs])} |",
            end="",
        )
        print(f" {costs[0].size / 1e3:.0f} |")


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f}–{max(values):.1f})"


if __name__ == "__main__":
    command(main)
