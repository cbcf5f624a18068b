"""Labelled nuclei of two kinds as the datasets of one experiment: ``python -m scripts.bench.nuclei_data``.

The question is whether a segmenter for stained tissue can be trained without one labelled stained image, from labelled
fluorescence alone. The input is a folder with ``colour`` and ``fluorescence``, of ``NAME.png`` and ``NAME_labels.png``
(2018 Data Science Bowl). Three things in it would spoil the answer, and are dealt with here:

- Many of the colour images are neighbours, cut from one larger picture: 25 borders go on in another image without a
  step. Such images stay in one half (:func:`pictures`).
- Nuclei are larger in some images than in others, and a CycleGAN keeps geometry. Each fluorescence image is scaled so
  that their diameters have the distribution of the colour images' in the training half.
- Fluorescence is dark, sparse and of any exposure. Each image is stretched, and of each the window with the most
  nuclei is kept (:mod:`scripts.bench.nuclei_images`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import fclusterdata
from scipy.sparse.csgraph import connected_components

from bundle.common.atomic import whole_folder, write_json
from bundle.common.command_line import command
from bundle.images.slides import write_slide
from scripts.bench.nuclei_images import Labelled, inverted, matched, read_folder, tinted

FAMILY_LEVELS = 20.0  # grey levels between the backgrounds of two families; within one they differ by less
NEIGHBOUR = 1.5  # step across two images' border, over the step beside it: 0.89–1.28 for 25 pairs, then 1.94 and more
FAMILY_LEAST = 3  # images; a GAN is not shown a family of fewer
TRIES = 50000  # random halvings, of which the best balanced is taken
RGB = {"name": "stained tissue", "channels": 3, "range": [0, 255]}
GREY = {"name": "fluorescence", "channels": 1, "channel_names": ["nuclei"], "range": [0, 255]}
NO_PIXEL = "The pixel size of these images is not known; 1 stands for a pixel."


def families(images: Sequence[Labelled]) -> np.ndarray:
    """Which images have a background of the same colour: (N,), numbers from 1."""
    backgrounds = []
    for image in images:
        colours = image.pixels.reshape(3, -1)
        light = colours.mean(0)
        backgrounds.append(np.median(colours[:, light >= np.quantile(light, 0.75)], axis=1))
    return fclusterdata(np.array(backgrounds), FAMILY_LEVELS, "distance", method="average")


def pictures(images: Sequence[Labelled]) -> np.ndarray:
    """Which images were cut from one picture, as far as their borders show: (N,), numbers from 0.

    Two images are neighbours if the last column (row) of one and the first of the other differ about as little as the
    last two columns (rows) of the one. Where borders show plain background alone, images of several pictures may be
    linked; that takes freedom from the halving, and leaks nothing.
    """
    linked = np.zeros((len(images), len(images)), bool)
    grey = [image.pixels.astype(float) for image in images]
    for turned in (grey, [pixels.transpose(0, 2, 1) for pixels in grey]):
        for one, left in enumerate(turned):
            beside = np.abs(left[..., -1] - left[..., -2]).mean()
            for other, right in enumerate(turned):
                if one != other and left.shape[1] == right.shape[1]:
                    linked[one, other] |= np.abs(left[..., -1] - right[..., 0]).mean() < NEIGHBOUR * beside
    return connected_components(linked, directed=False)[1]


def halves(images: Sequence[Labelled], seed: int) -> np.ndarray:
    """Divide images into two halves of like families and diameters, no picture in both.

    Returns:
        (N,), bool: the training half.
    """
    rng = np.random.default_rng(seed)
    picture, family = pictures(images), families(images)
    size = np.log([image.diameter for image in images])
    drawn = (rng.random((TRIES, picture.max() + 1)) < 0.5)[:, picture]
    uneven = 10.0 * np.abs(2 * drawn.sum(1) - len(images))
    for one in np.unique(family):
        mine = family == one
        both = [_spread(half[:, mine], size[mine]) for half in (drawn, ~drawn)]
        uneven += np.abs(2 * drawn[:, mine].sum(1) - mine.sum())
        uneven += 4 * np.nan_to_num(np.abs(np.subtract(*both))).sum(0)
    return drawn[uneven.argmin()]


def _spread(chosen: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of the chosen sizes of each draw: (2, draws), NaN where none is chosen."""
    with np.errstate(invalid="ignore"):
        mean = chosen @ size / chosen.sum(1)
        return np.stack([mean, np.sqrt(np.maximum(chosen @ size**2 / chosen.sum(1) - mean**2, 0))])


def write_nuclei(
    folder: Path, training: Sequence[Labelled], testing: Sequence[Labelled], specimens: dict[str, str], said: str
) -> None:
    """Write a dataset of labelled nuclei.

    Args:
        folder: of the dataset.
        training: RGB images.
        testing: likewise.
        specimens: by image name; an image that is not in it is its own, up to a ``_``.
        said: its description.
    """
    lists: dict[str, Any] = {"pixel_um": None, "description": said, "image": RGB}
    for split, images in (("training", training), ("testing", testing)):
        lists[split] = []
        for image in images:
            entry = {what: f"{what}/{split}/{image.name}.png" for what in ("image", "labels")}
            write_slide(folder / entry["image"], image.pixels)
            write_slide(folder / entry["labels"], image.labels[None])
            lists[split].append(entry | {"specimen": specimens.get(image.name, image.name.split("_")[0])})
    write_json(folder / "datalist.json", lists)


def write_unpaired(
    folder: Path, stained: Sequence[Labelled], fluorescent: Sequence[Labelled], family: dict[str, int]
) -> None:
    """Write the two sides of an unpaired dataset, without their labels.

    ``datalist.json`` lists all stained images, ``family_N.json`` those of one family.
    """
    entries: dict[str, list[dict[str, str]]] = {"source": [], "target": []}
    for side, images in (("source", stained), ("target", fluorescent)):
        for image in images:
            name = f"{side}/{image.name}.png"
            write_slide(folder / name, image.pixels)
            entries[side].append({side: name, "specimen": f"{side} {image.name}"})
    said = f"Stained tissue and fluorescence of other cells. {NO_PIXEL}"
    common = {"pixel_um": 1.0, "description": said, "source": RGB, "target": GREY, "testing": []}
    lists = {"datalist.json": entries["source"]}
    for one in sorted(set(family.values())):
        of_family = [
            entry for image, entry in zip(stained, entries["source"], strict=True) if family[image.name] == one
        ]
        lists |= {f"family_{one}.json": of_family} if of_family else {}
    for name, sources in lists.items():
        write_json(folder / name, {**common, "training": [*sources, *entries["target"]]})


def main(nuclei: str, output: str, seed: int = 0, window: int = 192, least_cover: float = 0.08, tints: int = 6) -> Path:
    """Write the datasets: ``unpaired``, ``fluorescence`` (tiles), ``upper``, ``inverted``, ``tinted``.

    All are tested on the same images: the half of the stained images that nothing else here has seen.

    Args:
        nuclei: the folder with ``colour`` and ``fluorescence``.
        output: a folder; one made earlier is replaced.
        seed: of the halves and the tints.
        window: side of the fluorescence windows, px.
        least_cover: share of a window that must be nuclei.
        tints: copies of each window in other colours.

    Returns:
        The folder.
    """
    colour, dark = read_folder(Path(nuclei) / "colour"), read_folder(Path(nuclei) / "fluorescence")
    training = halves(colour, seed)
    picture, family = pictures(colour), families(colour)
    first, second = (
        [image for image, mine in zip(colour, training, strict=True) if mine is half] for half in (np.True_, np.False_)
    )
    windows, factors = matched(dark, [image.diameter for image in first], window, least_cover)
    common = {
        image.name
        for image, mine, one in zip(colour, training, family, strict=True)
        if mine and (family[training] == one).sum() >= FAMILY_LEAST
    }
    specimens = {image.name: f"picture {number}" for image, number in zip(colour, picture, strict=True)}
    rng = np.random.default_rng([seed, 1])
    arms = {
        "upper": first,
        "inverted": [inverted(image) for image in windows],
        "tinted": [tinted(image, rng, number) for image in windows for number in range(tints)],
    }
    folder = Path(output)
    with whole_folder(folder) as partial:
        of_name = {image.name: int(one) for image, one in zip(colour, family, strict=True)}
        write_unpaired(partial / "unpaired", [image for image in first if image.name in common], windows, of_name)
        for image in windows:
            write_slide(partial / "fluorescence/images" / f"{image.name}.png", image.pixels)
            write_slide(partial / "fluorescence/labels" / f"{image.name}.png", image.labels[None])
        for arm, images in arms.items():
            write_nuclei(partial / arm, images, second, specimens, f"{arm}. {NO_PIXEL}")
        facts = {
            "seed": seed,
            "colour": {
                image.name: {
                    "half": "training" if mine else "testing",
                    "picture": int(number),
                    "family": int(one),
                    "nuclei": len(np.unique(image.labels)) - 1,
                    "diameter_px": image.diameter,
                    "shown_to_gan": image.name in common,
                }
                for image, mine, number, one in zip(colour, training, picture, family, strict=True)
            },
            "fluorescence": {
                image.name: {"factor": factors[image.name], "diameter_px": image.diameter, "cover": image.cover}
                for image in windows
            },
        }
        write_json(partial / "facts.json", facts)
    return folder


if __name__ == "__main__":
    command(main)
