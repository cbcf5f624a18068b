"""Small seeded datasets of labelled nuclei, and trainings on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from monai.bundle import ConfigParser
from monai.utils import set_determinism
from skimage.draw import disk

from bundle.images.slides import write_slide
from bundle.nuclei.trainer import NucleiTrainer
from tests.conftest import ROOT

CONFIG = "configs/nuclei.json"
TINY = {"epochs": 2, "steps_per_epoch": 5, "batch_size": 2, "patch_size": 32, "width": 4, "rays": 8, "decay_epochs": 1}
TINY |= {"learning_rate": 0.003, "device": "cpu"}


def nuclei(size: tuple[int, int], number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Bright discs that do not touch, on a dark noisy ground: image (1, H, W), uint8, and labels (1, H, W), uint16."""
    labels = np.zeros(size, np.uint16)
    while labels.max() < number:
        radius = int(rng.integers(5, 8))
        place = [int(rng.integers(radius, side - radius)) for side in size]
        if not labels[disk(place, radius + 2, shape=size)].any():
            labels[disk(place, radius, shape=size)] = labels.max() + 1
    image = np.where(labels > 0, 160, 20) + rng.integers(0, 40, size)
    return image[None].astype(np.uint8), labels[None]


def make_nuclei(folder: Path, training: int = 3, testing: int = 2, number: int = 5, **changes) -> Path:
    """Write a dataset of such images; ``changes`` are keys of its datalist."""
    rng = np.random.default_rng(0)
    entries = []
    for place in range(training + testing):
        image, labels = nuclei((64, 72), number, rng)
        write_slide(folder / f"images/{place}.png", image)
        write_slide(folder / f"labels/{place}.png", labels)
        entries.append({"image": f"images/{place}.png", "labels": f"labels/{place}.png", "specimen": f"slide {place}"})
    listed = {
        "pixel_um": None,
        "image": {"name": "DAPI", "channels": 1, "range": [0, 255]},
        "training": entries[:training],
        "testing": entries[training:],
        **changes,
    }
    (folder / "datalist.json").write_text(json.dumps(listed))
    return folder


def relist(folder: Path, **changes) -> dict:
    """Change keys of a datalist; returns it."""
    path = folder / "datalist.json"
    listed = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(listed))
    return listed


def make_nuclei_trainer(dataset: Path, output: Path, **ids) -> NucleiTrainer:
    """The trainer of ``nuclei.json``, tiny, restored if ``resume`` is set."""
    parser = ConfigParser()
    parser.read_config(str(ROOT / CONFIG))
    parser.update({"dataset_dir": str(dataset), "output_dir": str(output), **TINY, **ids})
    set_determinism(0)
    trainer = parser.get_parsed_content("train#trainer")
    parser.get_parsed_content("train#keeper").restore(trainer)
    return trainer
