"""Evaluation of a trained segmenter on the test images of a dataset."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bundle.common.atomic import whole_file, whole_folder, write_json
from bundle.common.errors import InputError
from bundle.data.datalist import name_in
from bundle.images.slides import read_slide
from bundle.nuclei.dataset import Field, NucleiList, read_nuclei
from bundle.nuclei.pictures import outlined
from bundle.nuclei.scoring import IOUS, Counts, count, pooled, rows, summary
from bundle.nuclei.segmenter import Segmenter

logger = logging.getLogger("bundle")


def evaluate(
    data: NucleiList,
    segmenter: Segmenter,
    output_dir: str,
    seed: int = 0,
    pictures: int = 4,
    model_bundle: str = "",
) -> dict[str, Any]:
    """Segment and score every test image; write ``output_dir/evaluation``, whole or not at all.

    ``scores.csv`` has a row for each image and IoU, ``summary.json`` the scores of all nuclei together with their
    intervals, and ``outlines/`` pictures from the worst image to the best, in order of their names. Images are gone
    through one by one, and counts are all that is kept of them; those that are shown are segmented once more.

    Args:
        data: the dataset; its declared range is what its images are scaled by.
        segmenter: a trained one.
        output_dir: the run's folder.
        seed: of the bootstrap.
        pictures: how many.
        model_bundle: where the segmenter is from, for the record.

    Returns:
        What ``summary.json`` holds.

    Raises:
        InputError: if the dataset has no test images or no nucleus in them, or the bundle takes other channels or
            pixels of another size; with one line for each fault.
    """
    faults = _faults(data, segmenter)
    if faults:
        raise InputError("\n".join(faults))
    if segmenter.pixel_um is not None and data.pixel_um is None:
        logger.warning("%s: its datalist states no pixel_um; %s.", data.folder, segmenter.size_note)
    counts = [_counted(data, segmenter, each) for each in data.testing]
    thresholds = {name: getattr(segmenter, name) for name in ("probability_threshold", "nms_threshold")}
    where = {"dataset_dir": str(data.folder.resolve()), "model_bundle": str(model_bundle), "caveat": data.caveat}
    scores = summary(counts, seed) | thresholds | where
    with whole_folder(Path(output_dir) / "evaluation") as folder:
        table = rows(counts)
        with whole_file(folder / "scores.csv") as partial, partial.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
        write_json(folder / "summary.json", scores)
        for rank, place in enumerate(worst_to_best(counts, pictures), 1):
            each = data.testing[place]
            name = f"{rank:02}_{each.image.stem}.png"  # images of several folders may share a name
            with whole_file(folder / "outlines" / name) as partial:
                Image.fromarray(_picture(data, segmenter, each)).save(partial)
    print(told(scores))
    print(f"written to {Path(output_dir) / 'evaluation'}")
    return scores


def _faults(data: NucleiList, segmenter: Segmenter) -> list[str]:
    """Why a segmenter cannot be scored on a dataset, a line each."""
    faults = []
    if not data.testing:
        faults.append(
            f"{data.folder} has no testing images; give --dataset_dir of labelled images that are no training's."
        )
    elif not any(data.nuclei[each.label] for each in data.testing):
        faults.append(f"{data.folder}: there is no nucleus in its {len(data.testing)} testing images to score.")
    if data.image.channels != segmenter.image.channels:
        faults.append(
            f"{data.folder}: {data.image} is not what the network was trained on, {segmenter.image}; "
            "evaluate it on images of as many channels."
        )
    remedy = "or correct pixel_um in the datalist"
    return faults + segmenter.size_faults(f"{data.folder}: its datalist", data.pixel_um, remedy)


def _counted(data: NucleiList, segmenter: Segmenter, each: Field) -> Counts:
    found = segmenter(read_slide(each.image).pixels, data.image).labels
    return count(read_nuclei(each.labels), found, name_in(data.folder, each.image), each.specimen)


def _picture(data: NucleiList, segmenter: Segmenter, each: Field) -> np.ndarray:
    pixels = read_slide(each.image).pixels
    return outlined(pixels, data.image, segmenter(pixels, data.image).labels, read_nuclei(each.labels))


def worst_to_best(counts: Sequence[Counts], number: int) -> list[int]:
    """Places of so many images, evenly spaced from the least F1 at IoU 0.5 to the greatest; each once."""
    order = np.argsort([pooled([each])["f1"][0] for each in counts], kind="stable")
    places = np.linspace(0, len(order) - 1, min(number, len(order))).round().astype(int)
    return [int(order[place]) for place in dict.fromkeys(places.tolist())]


def told(scores: Mapping[str, Any]) -> str:
    """The summary as lines to read."""
    lines = [
        f"{scores['images']} images, {scores['nuclei']} nuclei, {scores['found']} found; probability threshold "
        f"{scores['probability_threshold']:g}, NMS threshold {scores['nms_threshold']:g}",
        f"at IoU {scores['iou']:g} [{scores['interval']}]:",
    ]
    names = {"f1": "F1", "precision": "precision", "sensitivity": "sensitivity", "ap": "AP = TP/(TP+FP+FN)"}
    lines += [f"  {title:18}  {_with_limits(scores[name])}" for name, title in names.items()]
    lines.append(f"  {f'mean AP {IOUS[0]:g}–{IOUS[-1]:g}':18}  {_with_limits(scores['mean_ap'])}")
    lines.append(
        "AP over IoU: " + "  ".join(f"{iou} {each['value']:.3f}" for iou, each in scores["ap_over_iou"].items())
    )
    return "\n".join([*lines, scores["caveat"]]).rstrip()


def _with_limits(score: Mapping[str, float | None]) -> str:
    if score["low"] is None:
        return f"{score['value']:.3f} (one specimen: no interval)"
    return f"{score['value']:.3f} [{score['low']:.3f}–{score['high']:.3f}]"
