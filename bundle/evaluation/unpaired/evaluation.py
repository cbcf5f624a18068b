"""Measure a method that learns from unpaired images: what a cycle gives back, and virtual against real by region."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from bundle.common.atomic import check_writable, whole_folder, write_json
from bundle.common.checks import sha256_of
from bundle.common.errors import InputError
from bundle.common.region import spread
from bundle.common.run_folder import log_to
from bundle.data.datalist import SIDES, SPLITS, Datalist, Image, Pair
from bundle.data.provenance import provenance
from bundle.evaluation.panels import difference
from bundle.evaluation.tables import HASHES, write_csv
from bundle.evaluation.unpaired import consecutive
from bundle.evaluation.unpaired.labelling_index import outlined, resolution_faults, resolution_note
from bundle.evaluation.unpaired.perceptual_hash import HASH_MISSING, PerceptualHash, find_hash
from bundle.evaluation.unpaired.reconstruction import MEASURES, Cycle, load_cycle, measures
from bundle.evaluation.unpaired.summary import Row, Tables, summarise
from bundle.evaluation.unpaired.tables import CARRIED, markdown
from bundle.images.false_colour import as_picture
from bundle.images.slides import read_mask, read_slide, to_8bit, write_slide

logger = logging.getLogger("bundle")

ABOUT = ("split", "image", "specimen")
RECONSTRUCTION_COLUMNS = (*ABOUT, "side", *MEASURES)
HASH_COLUMNS = (*ABOUT, "top", "left", *HASHES)
LABELLING_COLUMNS = (*ABOUT, *consecutive.REGION_COLUMNS)
CHANNEL_COLUMNS = (*ABOUT, "side", "channel", *CARRIED)


@dataclass(frozen=True)
class Settings:
    """What an evaluation is asked; the ids of ``evaluate_unpaired.json``.

    Attributes:
        splits: which of training, validation and testing to measure.
        patch: side of the tiles that are hashed, about, px.
        pictures: images of each split and side whose pictures are kept, spread over them.
        labelling_index: count nuclei.
        nucleus_um: their diameter in µm.
        dab_threshold: mean optical density of DAB above which a nucleus is positive.
        region_um: side of the regions whose indices are compared, about, µm.
        seed: of the bootstrap over specimens or regions.
    """

    splits: Sequence[str]
    patch: int
    pictures: int
    labelling_index: bool
    nucleus_um: float
    dab_threshold: float
    region_um: float
    seed: int


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

    Raises:
        InputError: if the model and dataset do not belong together, or a value makes no sense.
    """
    asked = Settings(
        eval_splits, eval_patch, eval_pictures, labelling_index, nucleus_um, dab_threshold, region_um, seed
    )
    windows = {name: value for name, value in {"window": eval_window, "step": eval_step}.items() if value is not None}
    cycle = load_cycle(model_bundle, device, **windows)
    faults = setting_faults(data, asked) + _model_faults(data, cycle)
    if faults:
        raise InputError("\n".join(faults))
    perceptual_hash = find_hash(hash_weights, device)
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
    tables = Tables()
    every = [
        (split, image, place, place in _places(images, eval_pictures))
        for (split, _), images in images_of(data, eval_splits).items()
        for place, image in enumerate(images)
    ]
    with whole_folder(folder) as partial:
        measure = _Measurer(data, cycle, asked, perceptual_hash, tables, partial / "images")
        for each in tqdm(every, unit="image", desc="evaluating", dynamic_ncols=True):
            measure(*each)
        names = {side: getattr(data, side).name for side in SIDES}
        found = summarise(tables, names, counting, notes)
        write_tables(partial, tables)
        write_json(partial / "summary.json", found)
        write_json(partial / "provenance.json", origin)
        text = markdown(found)
        (partial / "table.md").write_text(text, encoding="utf-8")
    print(f"\n{text}")


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


def images_of(data: Datalist, splits: Sequence[str]) -> dict[tuple[str, str], list[Image]]:
    """The images of each split and side, in order."""
    return {(split, side): data.images(split, side) for split in SPLITS if split in splits for side in SIDES}


def _places(images: Sequence[Image], most: int) -> list[int]:
    return spread(len(images), most) if images and most else []


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


@dataclass(frozen=True)
class _Measurer:
    """Measures one image after the other into the tables."""

    data: Datalist
    cycle: Cycle
    asked: Settings
    perceptual_hash: PerceptualHash | None
    tables: Tables
    folder: Path

    def __call__(self, split: str, image: Image, place: int, keep: bool) -> None:
        """Measure an image, the one at a place in the list of its split and side; ``keep`` its pictures too."""
        given, translated, back = self.cycle(image.side, read_slide(image.path).pixels)
        name = f"{split}_{image.side}_{place:04d}_{image.path.name.split('.')[0]}"
        about = {"split": split, "image": name, "specimen": image.specimen}
        self.tables.reconstruction.append({**about, "side": image.side, **measures(back, given)})
        pictures = {"image": given, "translated": translated, "reconstruction": back}
        mask = None if image.mask is None else read_mask(image.mask)
        mask = mask if mask is not None and mask.shape == given.shape[1:] else None
        if self.of_stains():
            self.tables.channels += self.channels({**about, "side": image.side}, image.side, given, translated, mask)
        pair = self.pair_of(split, image)
        if image.side == "source" and pair is not None and self.data.target.is_brightfield:
            pictures |= self.compare(about, pair, translated, mask)
        if keep:
            pictures["residual"] = difference(back, given)
            for key, pixels in pictures.items():
                write_slide(self.folder / name / f"{key}.png", as_picture(pixels), self.data.pixel_um)

    def of_stains(self) -> bool:
        """Whether the source is colour and the target channels, of which each may carry a stain of the source."""
        return self.data.source.is_brightfield and not self.data.target.is_brightfield

    def pair_of(self, split: str, image: Image) -> Pair | None:
        """The entry with both sides that a source image stands in."""
        pairs: list[Pair] = getattr(self.data, split)
        return next((pair for pair in pairs if pair.label == image.label), None)

    def channels(
        self, about: Row, side: str, given: np.ndarray, translated: np.ndarray, mask: np.ndarray | None
    ) -> list[Row]:
        """Which channel carries which stain, in a translation of either side."""
        rgb, channels = (given, translated) if side == "source" else (translated, given)
        target = self.data.target
        names = target.channel_names or [f"channel {place}" for place in range(target.channels)]
        return [{**about, **row} for row in consecutive.carried(rgb, channels, names, mask)]

    def compare(self, about: Row, pair: Pair, virtual: np.ndarray, mask: np.ndarray | None) -> dict[str, np.ndarray]:
        """Virtual stain against that of the consecutive section; gives the pictures of both."""
        real = to_8bit(read_slide(pair.target).pixels, self.data.target.low, self.data.target.high)
        if self.perceptual_hash is not None:
            rows = consecutive.hashed(virtual, real, self.perceptual_hash, self.asked.patch)
            self.tables.hash += [{**about, **row} for row in rows]
        if not self.asked.labelling_index:
            return {"real": real}
        both = {"real": real, "virtual": virtual}
        nuclei = consecutive.nuclei_of(virtual, real, self.data.pixel_um, self.asked.nucleus_um)
        shapes = {stain: (pixels.shape[1], pixels.shape[2]) for stain, pixels in both.items()}
        side = self.asked.region_um / self.data.pixel_um
        rows = consecutive.labelled(nuclei, shapes, mask, self.asked.dab_threshold, side)
        self.tables.labelling += [{**about, **row} for row in rows]
        outlines = {
            f"nuclei_{stain}": outlined(both[stain], found, self.asked.dab_threshold) for stain, found in nuclei.items()
        }
        return {"real": real, **outlines}
