"""What a resumed run may do otherwise than it began: the table, and what of two configs is not the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

INSIST = "changed"  # the id resume, of who wants a run to go on with another config or other data
LONGEST = 60  # characters of a value in a message
ABSENT = "nothing"

# Ids that change neither what is learned nor from what; docs/training.md has the same table.
MAY_CHANGE = {
    **dict.fromkeys(("epochs", "patience"), "when it ends"),
    **dict.fromkeys(("bundle_root", "dataset_dir", "datalist", "output_dir"), "paths; the data are compared"),
    **dict.fromkeys(("device", "num_workers", "precision", "compile"), "the machine; the arithmetic stays"),
    **dict.fromkeys(("initialize", "finalize", "train#sampler", "train#dataloader#batch_size"), "several processes"),
    **dict.fromkeys(("save_minutes", "skip_nonfinite"), "safety"),
    **dict.fromkeys(("picture_every", "pictures", "mlflow", "train#writer"), "pictures and logs"),
    **dict.fromkeys(("validate_every", "validate_step", "validation_metric", "lpips_weights"), "what is measured"),
    **dict.fromkeys(("deploy_checkpoint", "sigma", "tune_thresholds", "probability_threshold"), "what is published"),
    **dict.fromkeys(("nms_threshold", "window", "segmentation"), "what is published"),
    **dict.fromkeys(("input", "input_pixel_um", "model_bundle", "segmenter", "evaluation", "inference"), "other tasks"),
    **dict.fromkeys(("imports", "training", "run"), "the order of the program's steps"),
}


def differences(before: Any, now: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """What two configs do not have in common; a component of another class counts as one.

    Args:
        before: plain JSON.
        now: likewise.
        at: the id of both.

    Yields:
        An id, and a line that says what it was and is.
    """
    if before == now:
        return
    if isinstance(before, Mapping) and isinstance(now, Mapping) and before.get("_target_") == now.get("_target_"):
        for key in [*before, *(key for key in now if key not in before)]:
            yield from differences(before.get(key, ABSENT), now.get(key, ABSENT), f"{at}#{key}" if at else key)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for place, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from differences(one, other, f"{at}#{place}")
    else:
        yield at, f"{at} was {_short(before)}, is now {_short(now)}"


def _short(value: Any) -> str:
    if isinstance(value, Mapping) and "_target_" in value:
        value = value["_target_"]
    text = value if value is ABSENT else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def may_change(name: str) -> bool:
    """Whether an id, or what it is part of, is in the table."""
    return any(f"{name}#".startswith(f"{free}#") for free in MAY_CHANGE)


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What of a run's config is not as it was.

    Args:
        before: the merged config that the run had.
        now: the one that it is resumed with.

    Returns:
        Lines of what the table lets change, and lines of what makes it another training.
    """
    free: list[str] = []
    others: list[str] = []
    resume = {name: before[name] for name in ("resume",) if name in before}  # how it is asked for is no change
    for name, line in differences(before, json.loads(json.dumps({**now, **resume}, default=str))):
        (free if may_change(name) else others).append(line)
    return free, others
