"""What staining a whole slide costs beside the network: time over windows × window time, and memory.

python -m scripts.bench.whole_slide --bundle RUN/bundle --slide SLIDE --output DIR [--step 64]
"""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any

import fire
import monai.bundle
import numpy as np
from torch import Tensor

from bundle.staining import stainer
from bundle.staining.whole_slides.run import SlideRun
from bundle.staining.whole_slides.source import at_pixels


class Timed(stainer.Windows):
    """Windows whose network is timed, in CPU seconds of this process."""

    seconds, windows = 0.0, 0

    def __init__(self, network: Any, *given: Any) -> None:
        super().__init__(network, *given)
        inner = self.network

        def timed(batch: Tensor) -> Tensor:
            began = time.process_time()
            made = inner(batch)
            Timed.seconds += time.process_time() - began
            Timed.windows += len(batch)
            return made

        self.network = _Called(timed)


class _Called(stainer.nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Call it."""
        return self.function(x)


def least(run: SlideRun) -> int:
    """Windows of one pass over all of the slide that hold tissue."""
    side, step = run.stainer.window or 0, run.stainer.step or run.stainer.window or 1
    tissue, (height, width) = run.tissue, run.spec.shape
    starts = [[*range(0, max(1, size - side), step), max(0, size - side)] for size in (height, width)]
    if tissue is None:
        return len(starts[0]) * len(starts[1])
    found = 0
    for top in starts[0]:
        rows = at_pixels(tissue, slice(top, min(top + side, height)), slice(0, width))[::8].any(0)
        total = np.concatenate([[0], np.cumsum(rows)])
        found += sum(total[min(left + side, width)] > total[left] for left in starts[1])
    return found


def bench(bundle: str, slide: str, output: str, step: int | None = None) -> str:
    """Stain a slide without its page, and say what that took.

    Args:
        bundle: a trained bundle.
        slide: a whole slide.
        output: a new folder.
        step: between windows, px; None side by side.
    """
    stainer.Windows = Timed  # type: ignore[misc]
    told: dict[str, Any] = {}
    clear = SlideRun.clear
    SlideRun.clear = lambda run: (told.setdefault("least", least(run)), clear(run))[1]  # type: ignore[method-assign]
    begun = time.process_time()
    configs = [f"{bundle}/configs/inference.json", "configs/slide.json"]
    ids = {"step": "null" if step is None else step, "device": "cpu", "viewer": False}
    monai.bundle.run(run_id="inference", config_file=configs, bundle_root=bundle, input=slide, output_dir=output, **ids)
    record = json.loads((Path(output) / "slide.json").read_text(encoding="utf-8"))
    spent, each = record["spent"], Timed.seconds / Timed.windows
    cpu_s = time.process_time() - begun
    row = {
        "shape": record["stain_shape"],
        "tissue Mpx": round(spent["tissue_px"] / 1e6, 1),
        "windows": spent["windows"],
        "least windows": int(told["least"]),
        "ms a window": round(1000 * each, 1),
        "CPU seconds": round(cpu_s, 1),
        "over windows × window time": round(cpu_s / (told["least"] * each), 3),
        "peak GB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }
    return json.dumps(row, ensure_ascii=False)


if __name__ == "__main__":
    fire.Fire(bench)
