"""Normalisation (§2.5) and masks (§2.8) against the truth of phantoms whose greys and colours are spoilt first.

``python -m scripts.phantom --output DATA --pairs 12 --volumes false --spoiling "{partial: 0}"``, then
``python -m scripts.bench.preparation --dataset_dir DATA``.
"""

from __future__ import annotations

import numpy as np

from bundle.common.command_line import command
from bundle.data.datalist import Pair
from bundle.data.load import load_datalist
from bundle.images.slides import read_labels, read_mask, read_slide
from bundle.preparation.pairs.masks import correspondence
from bundle.preparation.pairs.normalisation import (
    balanced,
    colour_ratios,
    normalise_source,
    normalise_stain,
    source_scale,
    stain_scale,
)
from bundle.preparation.pairs.proposal import BACKGROUND, BONE, propose
from bundle.preparation.phantom.block import Tissue
from bundle.preparation.phantom.laboratory import own_colours, own_greys
from bundle.preparation.phantom.tomography import BACKGROUND_INTENSITY, BONE_INTENSITY

TRUE_BONE = (Tissue.BONE, Tissue.YOUNG_BONE)


def main(dataset_dir: str) -> None:
    """Print a line for each pair: errors of the proposed regions' means, overlap of the masks, shift of ratios.

    Args:
        dataset_dir: phantoms.
    """
    print("| pair | true regions: bone, background | proposed: bone, background | mask IoU | R/G | B/G |")
    print("|---|---|---|---|---|---|")
    for number, pair in enumerate((data := load_datalist(dataset_dir)).training + data.testing):
        print(line(pair, np.random.default_rng([7, number])), flush=True)


def line(pair: Pair, rng: np.random.Generator) -> str:
    """Spoil one pair, prepare it, and compare; errors are in % of bone − background."""
    clean = read_slide(pair.source).pixels[0]
    assert pair.labels is not None
    assert pair.mask is not None
    labels, mask = read_labels(pair.labels), read_mask(pair.mask)
    source, levels = own_greys(clean, rng)
    target, _ = own_colours(read_slide(pair.target).pixels, rng)
    field = np.ones(labels.shape, bool)
    regions, colours = propose(source, target, field)
    if not (regions == BACKGROUND).any():
        return f"| {pair.specimen}, {pair.group} | no air proposed | | | | |"
    known = [clean[np.isin(labels, TRUE_BONE)].mean(), clean[labels == Tissue.BACKGROUND].mean()]
    spoilt = [source[np.isin(labels, TRUE_BONE)].mean(), source[labels == Tissue.BACKGROUND].mean()]
    gain = (levels["bone"] - levels["background"]) / (BONE_INTENSITY - BACKGROUND_INTENSITY)
    undone = [(value - levels["background"]) / gain + BACKGROUND_INTENSITY for value in spoilt]
    exact = [100 * abs(a - b) / (BONE_INTENSITY - BACKGROUND_INTENSITY) for a, b in zip(undone, known, strict=True)]
    scale = source_scale(source[regions == BONE], source[regions == BACKGROUND])
    found = [
        100 * (value - levels[name]) / (levels["bone"] - levels["background"])
        for name, value in (("bone", scale.bone), ("background", scale.background))
    ]
    stain = stain_scale(target[:, colours == BONE], target[:, colours == BACKGROUND])
    stretched = normalise_stain(target, stain)
    made = correspondence(normalise_source(source, scale), stretched, field, field, colours == BONE).mask
    before = colour_ratios(balanced(target[:, colours == BONE], stain))
    after = colour_ratios(stretched[:, colours == BONE])
    return (
        f"| {pair.specimen}, {pair.group} | {exact[0]:.2f}, {exact[1]:.2f} | {found[0]:+.1f}, {found[1]:+.1f} | "
        f"{(made & mask).sum() / (made | mask).sum():.3f} | {before[0]:.2f} → {after[0]:.2f} | "
        f"{before[1]:.2f} → {after[1]:.2f} |"
    )


if __name__ == "__main__":
    command(main)
