"""Stained volumes scored against a true one, as typed."""

from __future__ import annotations

from pathlib import Path

from bundle.common.atomic import write_json
from bundle.common.columns import plain
from bundle.common.errors import InputError
from bundle.preparation.phantom.dataset import CLASSES


def volume_scores(
    stained: str | list[str] | tuple[str, ...],
    truth: str,
    labels: str | None = None,
    scan: str | None = None,
    tissues: str | None = None,
    every: int = 8,
    between: list[int] | tuple[int, ...] | None = None,
    lpips_weights: str | None = None,
    output: str | None = None,
) -> str:
    """Print how right stained volumes are, side by side.

    In three views LPIPS, detail, gradient correlation, with labels the measures of truth, SSIM, PSNR and FRC
    resolution; with the scan, the stripes.

    Args:
        stained: a stained volume, or several with commas between.
        truth: the true stain, a colour NIfTI.
        labels: its tissues, a volume of whole numbers; without, the whole volume is scored.
        scan: what was stained.
        tissues: JSON of the labels of each tissue, or a datalist.json; the phantom's by default.
        every: score every so many slices of each view.
        between: [start, stop]: score these slices along z alone.
        lpips_weights: torchvision's SqueezeNet 1.1; without, those in the torch hub cache, or no LPIPS.
        output: also write the scores to this JSON file.
    """
    names = stained.strip("[]").split(",") if isinstance(stained, str) else stained
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise InputError(f"every is {every!r}; it must be at least 1.")
    if between is not None and (not isinstance(between, (list, tuple)) or len(between) != 2):
        raise InputError(f"between is {between!r}; give [start,stop], slices along z.")
    from bundle.evaluation.similarity import find_lpips  # here, as PyTorch takes seconds to load
    from bundle.evaluation.volumes import compare, read_tissues, table

    known = CLASSES if tissues is None else read_tissues(Path(tissues))
    results = compare(
        [Path(str(name).strip()) for name in names if str(name).strip()],
        Path(truth),
        None if labels is None else Path(labels),
        None if scan is None else Path(scan),
        known,
        every,
        None if between is None else (between[0], between[1]),
        find_lpips(lpips_weights),
    )
    if output is not None:
        write_json(Path(output), results)
    return plain(table(results))
