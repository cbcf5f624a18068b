"""Measure a method that learns from unpaired images: what a cycle gives back, and virtual against real by region."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bundle.common.atomic import check_writable, whole_folder, write_json
from bundle.common.checks import sha256_of
from bundle.common.columns import plain
from bundle.common.errors import InputError
from bundle.common.run_folder import log_to
from bundle.common.work.engine import Engine
from bundle.data.datalist import SIDES, SPLITS, Datalist, Pair
from bundle.data.provenance import provenance
from bundle.evaluation.tables import HASHES, write_csv
from bundle.evaluation.unpaired import consecutive
from bundle.evaluation.unpaired.image_scores import IMAGES, ImageScores, Model, Settings, images_of
from bundle.evaluation.unpaired.labelling_index import resolution_faults, resolution_note
from bundle.evaluation.unpaired.perceptual_hash import HASH_MISSING, PerceptualHash
from bundle.evaluation.unpaired.reconstruction import MEASURES, Cycle
from bundle.evaluation.unpaired.summary import Row, Tables, summarise
from bundle.evaluation.unpaired.tables import CARRIED, markdown
from bundle.evaluation.working import sole, work_off

logger = logging.getLogger("bundle")

WORK = ".evaluation"  # what an unfinished evaluation has done
MODULE = "bundle.evaluation.unpaired.image_scores"  # what a worker imports first
ABOUT = ("split", "image", "specimen")
RECONSTRUCTION_COLUMNS = (*ABOUT, "side", *MEASURES)
HASH_COLUMNS = (*ABOUT, "top", "left", *HASHES)
LABELLING_COLUMNS = (*ABOUT, *consecutive.REGION_COLUMNS)
CHANNEL_COLUMNS = (*ABOUT, "side", "channel", *CARRIED)


def evaluate(
    data: Datalist,
    model_bundle: str,
    output_dir: str,
    device: str | torch.device,
    eval_splits: Sequence[str],
    eval_patch: int,
    eval_pictures: int,
    eval_window: int | None,
    eval_step: int | None,
    hash_weights: str | None,
    labelling_index: bool,
    nucleus_um: float,
    dab_threshold: float,
    region_um: float,
    seed: int,
    engine: Engine | None = None,
) -> None:
    """Translate every image of a dataset and back, and score it: tables, pictures, and the run's report.

    Every image of both sides is measured against its reconstruction. Where an entry has both sides, as consecutive
    sections, its virtual stain is measured against the real one by perceptual hash and labelling index.

    Args:
        data: the checked dataset.
        model_bundle: a trained bundle.
        output_dir: the run's folder; tables and pictures go to ``evaluation`` in it.
        device: where to run the networks.
        eval_splits: see :class:`Settings`; likewise the others without a line here.
        eval_patch: likewise.
        eval_pictures: likewise.
        eval_window: side of the windows that stain a slide, px; None takes the trained bundle's.
        eval_step: distance between windows, px; likewise.
        hash_weights: ResNet-18 weights; None looks in the torch hub cache.
        labelling_index: see :class:`Settings`.
        nucleus_um: likewise.
        dab_threshold: likewise.
        region_um: likewise.
        seed: likewise.
        engine: does the images; None for this machine.

    Raises:
        InputError: if the model and dataset do not belong together, or a value makes no sense.
    """
    asked = Settings(
        eval_splits, eval_patch, eval_pictures, labelling_index, nucleus_um, dab_threshold, region_um, seed
    )
    windows = {name: value for name, value in {"window": eval_window, "step": eval_step}.items() if value is not None}
    model = Model(str(model_bundle), str(device), windows, hash_weights)
    images = ImageScores(data, asked, model, Path(output_dir) / WORK)
    cycle = images.cycle
    faults = setting_faults(data, asked) + _model_faults(data, cycle)
    if faults:
        raise InputError("\n".join(faults))
    perceptual_hash = images.perceptual_hash
    folder = Path(output_dir) / "evaluation"
    check_writable(output_dir)
    log_to(Path(output_dir) / "log.txt")
    notes = notes_of(data, asked, perceptual_hash)
    for note in notes:
        logger.warning(note)
    counting = {name: vars(asked)[name] for name in ("nucleus_um", "dab_threshold", "region_um", "seed")}
    ids = {"model_bundle": str(model_bundle), "eval_patch": eval_patch, "eval_splits": list(eval_splits), **windows}
    ids |= {"hash_weights": hash_weights, "labelling_index": labelling_index, **counting}
    origin = _origin(data, ids)
    names = [task.name for task in images.tasks()]
    with sole(images.work, output_dir, origin):
        job = lambda report: replace(images, report=report)
        work_off(job, images.recipe(), names, engine or Engine(), "image", MODULE)
        tables = images.result()
        with whole_folder(folder) as partial:
            if (images.work / IMAGES).exists():
                shutil.copytree(images.work / IMAGES, partial / IMAGES)
            text = _write(partial, data, tables, counting, notes, origin)
    print(f"\n{plain(text)}\n\nall of it: {folder / 'table.md'}")


def _write(
    folder: Path, data: Datalist, tables: Tables, counting: Row, notes: Sequence[str], origin: Mapping[str, Any]
) -> str:
    """Write all tables; gives the one that is shown."""
    names = {side: getattr(data, side).name for side in SIDES}
    found = summarise(tables, names, counting, notes)
    write_tables(folder, tables)
    write_json(folder / "summary.json", found)
    write_json(folder / "provenance.json", origin)
    text = markdown(found)
    (folder / "table.md").write_text(text, encoding="utf-8")
    return text


def write_tables(folder: Path, tables: Tables) -> None:
    """Write a CSV of each table that has rows."""
    every = {
        "reconstruction": RECONSTRUCTION_COLUMNS,
        "hash": HASH_COLUMNS,
        "labelling": LABELLING_COLUMNS,
        "channels": CHANNEL_COLUMNS,
    }
    for name, columns in every.items():
        if rows := getattr(tables, name):
            write_csv(folder / f"{name}.csv", columns, rows)


def setting_faults(data: Datalist, asked: Settings) -> list[str]:
    """What is wrong with the values of an evaluation for a dataset, a line each."""
    faults = [
        f"eval_splits has {split!r}; the splits are {', '.join(SPLITS)}." for split in set(asked.splits) - set(SPLITS)
    ]
    if not any(images_of(data, asked.splits).values()):
        faults.append(f"there is nothing to evaluate: no image in {', '.join(asked.splits)}.")
    whole = {"eval_patch": (asked.patch, 32), "eval_pictures": (asked.pictures, 0)}
    for name, (value, least) in whole.items():
        if type(value) is not int or value < least:
            faults.append(f"{name} is {value!r}; it must be a whole number of at least {least}.")
    for name, number in (("dab_threshold", asked.dab_threshold), ("region_um", asked.region_um)):
        if not isinstance(number, (int, float)) or not number > 0:
            faults.append(f"{name} is {number!r}; it must be above 0.")
    if type(asked.labelling_index) is not bool:
        faults.append(f"labelling_index is {asked.labelling_index!r}; it must be true or false.")
    elif asked.labelling_index and data.target.is_brightfield:
        faults += resolution_faults(data.pixel_um, asked.nucleus_um)
    return faults


def _model_faults(data: Datalist, cycle: Cycle) -> list[str]:
    return [
        f"the model was trained on {side} {modality}, but the dataset has {getattr(data, side)}; use its own dataset."
        for side, modality in cycle.modalities.items()
        if modality != getattr(data, side)
    ]


def notes_of(data: Datalist, asked: Settings, perceptual_hash: PerceptualHash | None) -> list[str]:
    """What is not computed or must be read with care, and why."""
    notes = [data.caveat]
    pairs: list[Pair] = [pair for split in asked.splits for pair in getattr(data, split)]
    if not pairs:
        notes.append(
            "No entry has both sides, so virtual stain is not compared with real stain. List consecutive sections of "
            "one place in one entry for that."
        )
    elif not data.target.is_brightfield:
        notes.append(
            f"{data.target.name} has {data.target.channels} channels: no perceptual hash and no labelling index, which "
            "are of RGB brightfield."
        )
    else:
        notes += ["" if perceptual_hash else HASH_MISSING]
        notes += [resolution_note(data.pixel_um, asked.nucleus_um) if asked.labelling_index else ""]
        specimens = {pair.specimen for pair in pairs}
        if len(specimens) == 1:
            notes.append(
                f"Virtual and real stain are of one specimen ({next(iter(specimens))}): intervals are over its regions "
                "and say nothing of other specimens."
            )
    return [note for note in notes if note]


def _origin(data: Datalist, ids: dict[str, Any]) -> dict[str, Any]:
    model = sha256_of(Path(ids["model_bundle"]) / "models" / "model.pt")
    names = {"source": data.source.name, "target": data.target.name, "caveat": data.caveat}
    return {**provenance(data, ids), "ids": ids, "model_sha256": model, **names}
