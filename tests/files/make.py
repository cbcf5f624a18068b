"""Make what ``tests/evaluation/test_measures.py`` reads: ``python -m tests.files.make DATA RUN`` in the root.

DATA and RUN were made by these commands, on one thread of a CPU, RUN in nine minutes beside other programs::

    python -m scripts.phantom --output DATA --pairs 24 --seed 70 --volumes false
    python -m monai.bundle run training --config_file \
        "['configs/train.json','configs/methods/one_way.json','configs/profiles/demo.json']" --dataset_dir DATA \
        --output_dir RUN --width 8 --epochs 60 --patches_per_pair 4
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from bundle.images.slides import read_slide, write_slide

HERE = Path(__file__).parent
SIDE = 128
TRAINING, TESTING = (0, 4, 8), (0, 1, 2)  # places in the lists of DATA


def cut(image: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
    """A square of (C, H, W) with this top left corner."""
    return image[:, corner[0] : corner[0] + SIDE, corner[1] : corner[1] + SIDE]


def main(data: Path, run: Path) -> None:
    """Cut the part of a few pairs with most lacunae, and halve the precision of the weights."""
    listed = json.loads((data / "datalist.json").read_text(encoding="utf-8"))
    for split, places in (("training", TRAINING), ("testing", TESTING)):
        listed[split] = [listed[split][place] for place in places]
        for entry in listed[split]:
            entry.pop("perfect")
            images = {name: read_slide(data / entry[name]).pixels for name in ("source", "target", "mask", "labels")}
            height, width = images["mask"].shape[1:]
            corners = [(top, left) for top in range(0, height - 127, 16) for left in range(0, width - 127, 16)]
            lacunae = (images["labels"] == 9) & (images["mask"] > 0)
            best = max(corners, key=lambda corner: cut(lacunae, corner).sum())
            for name, image in images.items():
                entry[name] = f"{name}/{Path(entry[name]).name}"
                write_slide(HERE / "phantom" / entry[name], np.ascontiguousarray(cut(image, best)))
    (HERE / "phantom" / "datalist.json").write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    weights = torch.load(run / "bundle" / "models" / "model.pt", weights_only=True)
    torch.save({name: value.half() for name, value in weights.items()}, HERE / "one_way.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
