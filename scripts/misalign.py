"""Spoil the registration of a dataset's training pairs by a known amount: ``python -m scripts.misalign …``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates
from tqdm import tqdm

from bundle.atomic import whole_folder
from bundle.commands import command
from bundle.data import load_datalist
from bundle.errors import InputError
from bundle.image_io import read_slide, write_slide
from bundle.phantom.fields import smooth_noise

WARP_SCALE_PX = 40.0  # correlation length of the warp


def displacement(shape: tuple[int, int], px: float, rng: np.random.Generator) -> np.ndarray:
    """Half a shift, half a smooth warp, of a given root mean square.

    Args:
        shape: rows and columns.
        px: root mean square length of the displacement.
        rng: direction and warp.

    Returns:
        (2, H, W), px.
    """
    heading = rng.uniform(0, 2 * np.pi)
    shift = np.array([np.sin(heading), np.cos(heading)])[:, None, None] * np.ones((1, *shape))
    warp = np.stack([smooth_noise(shape, WARP_SCALE_PX, rng) for _ in range(2)])
    warp -= warp.mean((1, 2), keepdims=True)
    warp /= max(np.sqrt((warp**2).sum(0).mean()), 1e-9)
    return px * (shift + warp) / np.sqrt(2)


def misalign(dataset_dir: str, output: str, px: float, datalist: str = "datalist.json", seed: int = 0) -> str:
    """Copy a dataset, its training targets displaced; test pairs stay as they are.

    Args:
        dataset_dir: the dataset.
        output: the new dataset folder; made, or empty.
        px: root mean square displacement of the training targets, half a shift and half a smooth warp.
        datalist: name of the list in ``dataset_dir``; it is ``datalist.json`` in ``output``.
        seed: of the displacements. Another ``px`` with the same seed displaces in the same directions.

    Returns:
        The new folder.

    Raises:
        InputError: if the dataset has a fault, ``px`` is negative, or ``output`` is not empty.
    """
    if isinstance(px, bool) or not isinstance(px, (int, float)) or px < 0:
        raise InputError(f"px is {px!r}; give the displacement in pixels, 0 or more.")
    folder = Path(output)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"output {folder} is not empty; name a new folder.")
    data = load_datalist(dataset_dir, datalist)
    listed = json.loads((data.folder / datalist).read_text(encoding="utf-8"))
    displaced = {pair.target for pair in data.training}
    with whole_folder(folder) as partial:
        for number, name in enumerate(tqdm(sorted(set(data.checksums) - {datalist}), unit="file")):
            path = data.folder / name
            copy = partial / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path not in displaced:
                shutil.copy(path, copy)
                continue
            slide = read_slide(path)
            field = displacement(slide.pixels.shape[1:], px, np.random.default_rng([seed, number]))
            places = np.indices(slide.pixels.shape[1:]) + field
            moved = np.stack([map_coordinates(channel, places, order=1, mode="nearest") for channel in slide.pixels])
            write_slide(copy, moved, slide.pixel_um)
        note = f"Training targets displaced by {px:g} px root mean square (scripts.misalign, seed {seed})."
        listed["description"] = f"{listed.get('description', '')} {note}".strip()
        text = json.dumps(listed, indent=4, ensure_ascii=False) + "\n"
        (partial / "datalist.json").write_text(text, encoding="utf-8")
    return str(folder)


if __name__ == "__main__":
    command(misalign)
