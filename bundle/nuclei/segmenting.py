"""Segmenting a folder of images into label files."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.measure import regionprops

from bundle.atomic import check_writable, whole_file
from bundle.errors import InputError
from bundle.image_io import read_slide, suffix_of, write_slide
from bundle.inference import list_images
from bundle.nuclei.dataset import MOST_NUCLEI
from bundle.nuclei.pictures import outlined
from bundle.nuclei.segmenter import Segmenter, checked

logger = logging.getLogger("bundle")
COLUMNS = ("image", "nucleus", "row_px", "column_px", "area_px", "probability")


def segment(
    input: str | None,  # noqa: A002 - the id's name in every inference config of this project
    output_dir: str,
    segmenter: Segmenter,
) -> None:
    """Write ``<name>_labels.png`` and ``<name>_outlines.png`` of every image, and ``nuclei.csv`` of all.

    Labels are 16-bit, 0 for background and a number a nucleus; the table has a row for each.

    Args:
        input: an image, or a folder of them.
        output_dir: where results go.
        segmenter: a trained one.

    Raises:
        InputError: if an image is not what the bundle was trained on, or there is none.
    """
    files = list_images(input)
    if not files:
        raise InputError("input is not set; pass --input FILE or --input FOLDER.")
    check_writable(output_dir)
    rows: list[tuple] = []
    for file in files:
        slide = read_slide(file)
        nuclei = segmenter(checked(slide.pixels, file, segmenter.image))
        if len(nuclei.probabilities) > MOST_NUCLEI:
            raise InputError(f"{file} has {len(nuclei.probabilities)} nuclei, more than 16 bits can number; tile it.")
        stem = file.name[: -len(suffix_of(file))]
        folder = Path(output_dir)
        write_slide(folder / f"{stem}_labels.png", nuclei.labels[None].astype(np.uint16), slide.pixel_um)
        with whole_file(folder / f"{stem}_outlines.png") as partial:
            Image.fromarray(outlined(slide.pixels, segmenter.image, nuclei.labels)).save(partial)
        for each in regionprops(nuclei.labels):
            place = (round(float(at), 2) for at in each.centroid)
            probability = round(float(nuclei.probabilities[each.label - 1]), 4)
            rows.append((file.name, each.label, *place, int(each.area), probability))
        print(f"{file.name}: {len(nuclei.probabilities)} nuclei")
    with whole_file(Path(output_dir) / "nuclei.csv") as partial, partial.open("w", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])
