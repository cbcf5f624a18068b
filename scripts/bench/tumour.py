"""An unpaired dataset of real IHC and fluorescence: ``python -m scripts.bench.tumour --multiplex FOLDER --output DIR``.

The IHC is scikit-image's colon section (DAB on membranes, hematoxylin); the fluorescence are multiplex images whose
first channel is DAPI and whose fifth is CK-EPCAM, a membrane marker (docs/stain_results.md). The IHC has no
labels; ``scripts.insilico`` gets the parts of dense hematoxylin in their place, found by Otsu's threshold: good enough
to see what edits do, not to train on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data
import tifffile
from scipy.ndimage import gaussian_filter
from skimage.filters import threshold_otsu
from skimage.measure import label

from bundle.common.atomic import whole_folder, write_json
from bundle.common.command_line import command
from bundle.common.errors import InputError
from bundle.images.slides import write_slide
from bundle.images.stain_vectors import densities

DAPI, MEMBRANE = 0, 4
# what becomes 255 in each channel of each image: their exposures differ, looked up in their histograms (99.9 %)
WHITE = {"multiplex_0.tif": (0.24, 0.29), "multiplex_1.tif": (0.19, 0.16)}
TRAINING_SHARE = 0.68  # of the width of each image, from the left; the rest is for testing
GAP_PX = 8
LEAST_PX = 40  # of a part of dense hematoxylin


def main(multiplex: str, output: str) -> None:
    """Cut each image into a part to train on and a part to test on.

    Args:
        multiplex: folder of the multiplex images.
        output: the dataset to make.
    """
    images = {"ihc": ("source", np.ascontiguousarray(skimage.data.immunohistochemistry().transpose(2, 0, 1)))}
    for name, white in WHITE.items():
        path = Path(multiplex) / name
        if not path.is_file():
            raise InputError(f"multiplex {path} does not exist.")
        channels = tifffile.imread(path)[[DAPI, MEMBRANE]] / np.reshape(white, (2, 1, 1))
        images[path.stem] = ("target", np.rint(255 * np.clip(channels, 0, 1)).astype(np.uint8))
    with whole_folder(Path(output)) as folder:
        lists: dict[str, list[dict[str, str]]] = {"training": [], "testing": []}
        for stem, (side, pixels) in images.items():
            border = round(TRAINING_SHARE * pixels.shape[2])
            for split, part in (("training", pixels[..., :border]), ("testing", pixels[..., border + GAP_PX :])):
                file = f"{split}/{stem}.{'png' if side == 'source' else 'tif'}"
                write_slide(folder / file, np.ascontiguousarray(part))
                lists[split].append({side: file, "specimen": stem})
                if side == "source":
                    write_slide(folder / "ihc" / split / "ihc.png", np.ascontiguousarray(part))
                    write_slide(folder / "ihc" / split / "ihc_labels.png", dense_parts(part)[None])
        write_json(
            folder / "datalist.json",
            {
                "pixel_um": 0.5,  # 20 ×, about; neither source states it, and nothing here depends on it
                "description": "Colon IHC of scikit-image; DAPI and CK-EPCAM of multiplex images of breast carcinoma",
                "allow_same_specimen": True,
                "source": {"name": "IHC", "channels": 3, "range": [0, 255]},
                "target": {
                    "name": "immunofluorescence",
                    "channels": 2,
                    "channel_names": ["DAPI", "membrane"],
                    "range": [0, 255],
                },
                **lists,
            },
        )
    print(output)


def dense_parts(rgb: np.ndarray) -> np.ndarray:
    """Parts of dense hematoxylin, numbered: (3, H, W) uint8 → (H, W) uint16."""
    hematoxylin = gaussian_filter(densities(rgb)[0], 1.5)
    parts = label(hematoxylin > threshold_otsu(hematoxylin))
    return np.where(np.bincount(parts.ravel())[parts] < LEAST_PX, 0, parts).astype(np.uint16)


if __name__ == "__main__":
    command(main)
