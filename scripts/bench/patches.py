"""Patches per second from a 1500² pair: the transforms of train.json against augmenting first and cropping then."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import fire
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import (
    Compose,
    EnsureTyped,
    RandAdjustContrastd,
    RandFlipd,
    RandSpatialCropd,
    RandZoomd,
    ScaleIntensityRanged,
)

from bundle.images.slides import write_slide

SIZE = 1500
HOME = Path(__file__).parents[2]


def noise_dataset(folder: Path, size: int) -> Path:
    """A dataset of one pair of noise, for timing only."""
    rng = np.random.default_rng(0)
    write_slide(folder / "source.png", rng.integers(0, 65536, (1, size, size), dtype=np.uint16))
    write_slide(folder / "target.png", rng.integers(0, 256, (3, size, size), dtype=np.uint8))
    mask = np.zeros((1, size, size), np.uint8)
    mask[:, size // 8 : -size // 8, size // 8 : -size // 8] = 255
    write_slide(folder / "mask.png", mask)
    listed = {
        "pixel_um": 5.0,
        "source": {"name": "noise", "channels": 1, "range": [0, 65535]},
        "target": {"name": "noise", "channels": 3, "range": [0, 255]},
        "training": [{"source": "source.png", "target": "target.png", "mask": "mask.png"}],
    }
    (folder / "datalist.json").write_text(json.dumps(listed))
    return folder


def augment_then_crop() -> Callable:
    """What one would write first: every transform on the whole slide, and the crop last."""
    keys = ["source", "target", "mask"]
    return Compose(
        [
            EnsureTyped(keys, dtype=torch.float32, track_meta=False),
            ScaleIntensityRanged("source", 0, 65535, -1, 1),
            ScaleIntensityRanged("target", 0, 255, -1, 1),
            RandZoomd(keys, prob=1, min_zoom=0.9, max_zoom=1.1, mode=["bilinear", "bilinear", "nearest"]),
            RandFlipd(keys, prob=0.5, spatial_axis=0),
            RandFlipd(keys, prob=0.5, spatial_axis=1),
            RandAdjustContrastd(["source"], prob=1, gamma=(0.9, 1.1)),
            RandAdjustContrastd(["target"], prob=1, gamma=(0.9, 1.1)),
            RandSpatialCropd(keys, 256, random_size=False),
        ]
    )


def seconds_each(make: Callable[[int], object], number: int, first: int) -> float:
    """Mean time of one of ``number`` patches."""
    begin = time.perf_counter()
    for index in range(first, first + number):
        make(index)
    return (time.perf_counter() - begin) / number


def main(rounds: int = 5, patches: int = 100) -> None:
    """Time both, interleaved, and print medians and their ratio.

    Args:
        rounds: times each is measured.
        patches: patches of the fast one in a round; the slow one makes a twentieth.
    """
    with tempfile.TemporaryDirectory() as folder:
        noise_dataset(Path(folder), SIZE)
        parser = ConfigParser()
        parser.read_config(str(HOME / "configs" / "train.json"))
        parser["dataset_dir"] = folder
        dataset = parser.get_parsed_content("train#dataset")
        images = {key: value for key, value in dataset.images[0].items() if key != "inside"}
        images["source"] = images["source"].astype(np.int32)
        slow = augment_then_crop()
        ours, theirs = [], []
        for number in range(rounds):
            ours.append(seconds_each(dataset.__getitem__, patches, number * patches))
            theirs.append(seconds_each(lambda _: slow(dict(images)), max(1, patches // 20), 0))
    fast, other = statistics.median(ours), statistics.median(theirs)
    print(f"train.json's transforms: {1 / fast:.0f} patches/s ({1e3 * min(ours):.2f}–{1e3 * max(ours):.2f} ms each)")
    print(f"augment, then crop: {1 / other:.1f} patches/s ({1e3 * min(theirs):.0f}–{1e3 * max(theirs):.0f} ms each)")
    print(f"ratio of the medians: {other / fast:.0f}")


if __name__ == "__main__":
    fire.Fire(main)
