"""Segmenting a folder of images into label files."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.measure import regionprops

from bundle.common.atomic import check_writable, whole_file
from bundle.common.errors import InputError
from bundle.common.values import is_number
from bundle.data.load import image_faults
from bundle.images.slides import read_slide, suffix_of, write_slide
from bundle.nuclei.dataset import MOST_NUCLEI
from bundle.nuclei.pictures import outlined
from bundle.nuclei.segmenter import Segmenter
from bundle.staining.slides import list_images

logger = logging.getLogger("bundle")
COLUMNS = ("image", "nucleus", "row_px", "column_px", "area_px", "probability")


def segment(
    input: str | None,  # noqa: A002 - the id's name in every inference config of this project
    output_dir: str,
    segmenter: Segmenter,
    input_pixel_um: float | None = None,
) -> None:
    """Write ``<name>_labels.png`` and ``<name>_outlines.png`` of every image, and ``nuclei.csv`` of all.

    Labels are 16-bit, 0 for background and a number a nucleus; the table has a row for each. Every image is read and
    checked before anything is written, and every file appears whole or not at all.

    Args:
        input: an image, or a folder of them.
        output_dir: where results go.
        segmenter: a trained one.
        input_pixel_um: pixel size in µm of all images, in place of what their files state.

    Raises:
        InputError: with one line for each fault: no image, one that is not what the bundle was trained on, two whose
            results would have one name, results among the images; or if an image has more nuclei than 16 bits number.
    """
    files = checked(input, output_dir, segmenter, input_pixel_um)
    check_writable(output_dir)
    rows: list[tuple] = []
    for file in files:
        slide = read_slide(file)
        nuclei = segmenter(slide.pixels)
        if len(nuclei.probabilities) > MOST_NUCLEI:
            raise InputError(f"{file} has {len(nuclei.probabilities)} nuclei, more than 16 bits can number; tile it.")
        labels, outlines = results(file, output_dir)
        write_slide(labels, nuclei.labels[None].astype(np.uint16), input_pixel_um or slide.pixel_um)
        with whole_file(outlines) as partial:
            Image.fromarray(outlined(slide.pixels, segmenter.image, nuclei.labels)).save(partial)
        for each in regionprops(nuclei.labels):
            place = (round(float(at), 2) for at in each.centroid)
            probability = round(float(nuclei.probabilities[each.label - 1]), 4)
            rows.append((file.name, each.label, *place, int(each.area), probability))
        print(f"{file.name}: {len(nuclei.probabilities)} nuclei")
    with whole_file(Path(output_dir) / "nuclei.csv") as partial, partial.open("w", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])


def results(file: Path, output_dir: str) -> tuple[Path, Path]:
    """Where the labels and the outlines of an image go."""
    stem = file.name[: -len(suffix_of(file))]
    return Path(output_dir) / f"{stem}_labels.png", Path(output_dir) / f"{stem}_outlines.png"


def checked(
    given: str | None, output_dir: str, segmenter: Segmenter, input_pixel_um: float | None = None
) -> list[Path]:
    """The images of a file or folder, all of them such that they can be segmented; nothing is written.

    Warns, once for all of them, of images whose pixel size is not known where that of the training is.

    Args:
        given: an image, or a folder of them.
        output_dir: as in :func:`segment`.
        segmenter: likewise.
        input_pixel_um: likewise.

    Raises:
        InputError: with one line for each fault.
    """
    faults: list[str] = []
    files: list[Path] = []
    try:
        files = list_images(given)
        faults += [] if files else ["input is not set; pass --input FILE or --input FOLDER."]
    except InputError as error:
        faults.append(str(error))
    beside = Path(given) if given and Path(given).is_dir() else files[0].parent if files else None
    if beside is not None and beside.resolve() == Path(output_dir).resolve():
        faults.append(
            f"output_dir {output_dir} is the folder of the input, whose labels it could replace; pass another one."
        )
    if input_pixel_um is not None and (not is_number(input_pixel_um) or input_pixel_um <= 0):
        faults.append(f"input_pixel_um is {input_pixel_um!r}; give the pixel size in µm, or null for the files' own.")
    else:
        faults += segmenter.size_faults("input_pixel_um", input_pixel_um, "or leave it out if it is wrong")
    outputs: dict[Path, Path] = {}
    unknown = []
    for file in files:
        labels, _ = results(file, output_dir)
        if labels in outputs:
            faults.append(f"{file} and {outputs[labels]} would both be written to {labels.name}; rename one of them.")
        outputs.setdefault(labels, file)
        stated_um, found = _looked_at(file, segmenter, input_pixel_um is None)
        faults += found
        unknown += [file.name] if stated_um is None else []
    if faults:
        raise InputError("\n".join(faults))
    if unknown and segmenter.pixel_um is not None and input_pixel_um is None:
        logger.warning(
            "%d of %d images state no pixel size, the first is %s; %s. Pass --input_pixel_um if you know it.",
            *(len(unknown), len(files), unknown[0], segmenter.size_note),
        )
    return files


def _looked_at(file: Path, segmenter: Segmenter, sized: bool) -> tuple[float | None, list[str]]:
    """The pixel size that a file states, and what is wrong with it; with that size too if it is ``sized`` by it."""
    try:
        slide = read_slide(file)
    except InputError as error:
        return None, [str(error)]
    faults = image_faults(file, slide.pixels, segmenter.image)
    if sized:
        remedy = "or pass --input_pixel_um if the file is wrong"
        faults += segmenter.size_faults(str(file), slide.pixel_um, remedy)
    return slide.pixel_um, faults
