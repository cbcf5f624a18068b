"""Windows and their normalisation: ``python -m scripts.bench.windows --bundle RUN/bundle --dataset_dir DATA …``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import fire
import numpy as np
import torch

from bundle.data.load import load_datalist
from bundle.data.patches import load_pair
from bundle.evaluation.scoring import score_slide
from bundle.evaluation.similarity import find_lpips
from bundle.evaluation.slide_scores import in_8bit
from bundle.evaluation.truth import seam_index
from bundle.evaluation.volumes import read_colour, volume_psnr
from bundle.images.volumes.volume import open_volume
from bundle.preparation.phantom.dataset import CLASSES
from bundle.staining.model import load_model, on_background
from bundle.staining.source import SmoothedScan

Images = list[tuple[np.ndarray, np.ndarray, np.ndarray]]  # source (1, H, W), true stain (3, H, W), mask (H, W)


def slices(specimen: Path, every: int) -> Images:
    """Every so many slices of a specimen of the phantom, after the Gaussian of σ = 1 voxel (§2.11)."""
    scan = SmoothedScan(open_volume(specimen / "ct.nii.gz"), 1.0)
    stain = read_colour(specimen / "stain.nii.gz").transpose(0, 3, 1, 2)
    labels = open_volume(specimen / "labels.nii.gz").read(0, len(stain))
    inside = ~np.isin(labels, CLASSES["background"])
    places = [place for place in range(every // 2, len(stain), every) if inside[place].any()]
    return [(scan.slab("z", place, place + 1), stain[place], inside[place]) for place in places]


def main(bundle: str, dataset_dir: str, specimens: str, window: int, every: int = 32, lpips_weights: str = "") -> None:
    """Print a table as Markdown, with a fast network on one thread.

    Args:
        bundle: a trained bundle.
        dataset_dir: a phantom with volumes, whose test slides are stained.
        specimens: folders of a phantom's volumes, commas between.
        window: side of the windows, px.
        every: stain every so many slices of a specimen.
        lpips_weights: SqueezeNet weights; none looks in the torch hub cache.
    """
    torch.set_num_threads(1)
    data, lpips = load_datalist(dataset_dir), find_lpips(lpips_weights or None, "cpu")
    pairs = [load_pair(pair) for pair in data.testing]
    shown = [(pair["source"], *in_8bit(data, pair)[1:]) for pair in pairs]
    volumes = [slices(Path(specimen), every) for specimen in specimens.split(",")]
    far = 3 * window // 4
    settings: list[dict[str, Any]] = [{"step": step} for step in (window // 4, window // 2, far, window)]
    settings += [{"step": step, "normalisation": "dense"} for step in (window // 2, far, window)]
    print("| window, step, normalisation | SSIM | PSNR | LPIPS | PSNR of volumes | seams | seconds |")
    print("|" + "---|" * 7)
    for ids in [*settings, {"window": None}]:
        model = load_model(bundle, speed="fast", **{"window": window, **ids})
        began = time.process_time()
        made = [[model(source) for source, *_ in images] for images in (shown, *volumes)]
        seconds = time.process_time() - began
        scores = [
            score_slide(*(on_background(each, mask, data.background_rgb) for each in (stain, real)), mask, lpips)
            for stain, (_, real, mask) in zip(made[0], shown, strict=True)
        ]
        means = " | ".join(f"{np.mean([each[name] for each in scores]):.2f}" for name in ("ssim", "psnr", "lpips"))
        psnrs = [
            volume_psnr(
                *(np.stack(part).transpose(0, 2, 3, 1) for part in (stained, [each[1] for each in images])),
                np.stack([each[2] for each in images]),
            )
            for stained, images in zip(made[1:], volumes, strict=True)
        ]
        seams = [seam_index(stain, window, far) for images in made for stain in images]
        told = ", ".join(str(value or "whole image") for value in {"window": window, **ids}.values())
        print(
            f"| {told} | {means} | {' / '.join(f'{each:.1f}' for each in psnrs)} | "
            f"{np.mean([each for each in seams if each]):.2f} | {seconds:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    fire.Fire(main)
