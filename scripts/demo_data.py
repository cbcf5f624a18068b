"""Make the dataset of ``make demo`` from the stained slide that scikit-image ships."""

from __future__ import annotations

import json
from pathlib import Path

import fire
import numpy as np
from skimage.color import rgb2gray
from skimage.data import immunohistochemistry

from bundle.atomic import whole_folder
from bundle.image_io import write_slide

PART = 256
GLASS = 235  # 8-bit grey of the empty slide around a part
DESCRIPTION = (
    "Four discs of one slide, skimage.data.immunohistochemistry() (colon, DAB and hematoxylin). The source is the "
    "slide's own grey version, inverted, so the task is far easier than a tomogram's. The slide's pixel size is not "
    "published: pixel_um is 1 so that lengths are in pixels."
)


def make(output: str) -> None:
    """Cut the slide into four round specimens, three to train on and one to test.

    Args:
        output: the dataset folder; an earlier one is replaced.
    """
    slide = immunohistochemistry()
    rows, columns = np.mgrid[:PART, :PART] - (PART - 1) / 2
    disc = np.hypot(rows, columns) < 0.48 * PART
    entries = []
    with whole_folder(Path(output)) as folder:
        for number, (top, left) in enumerate([(0, 0), (0, PART), (PART, 0), (PART, PART)]):
            stain = np.where(disc[..., None], slide[top : top + PART, left : left + PART], GLASS).astype(np.uint8)
            grey = np.rint((1 - rgb2gray(stain)) * 65535).astype(np.uint16)
            names = {key: f"{key}/{number}.png" for key in ("source", "target", "mask")}
            write_slide(folder / names["source"], grey[None])
            write_slide(folder / names["target"], stain.transpose(2, 0, 1))
            write_slide(folder / names["mask"], disc[None].astype(np.uint8) * 255)
            entries.append({**names, "specimen": "colon"})
        listed = {
            "description": DESCRIPTION,
            "pixel_um": 1.0,
            "allow_same_specimen": True,
            "source": {"name": "grey version", "channels": 1, "range": [0, 65535]},
            "target": {"name": "DAB and hematoxylin", "channels": 3, "range": [0, 255]},
            "training": entries[:3],
            "testing": entries[3:],
        }
        (folder / "datalist.json").write_text(json.dumps(listed, indent=4) + "\n", encoding="utf-8")
    print(f"{output}: 3 pairs to train on, 1 to test")


if __name__ == "__main__":
    fire.Fire(make)
