"""Measure a trained bundle on whole slides, beside what needs no network (Irvine et al. §2.9–2.10)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from bundle.common.atomic import check_writable, whole_file, write_json
from bundle.common.checks import sha256_of
from bundle.common.errors import InputError
from bundle.common.region import Region
from bundle.common.run_folder import log_to
from bundle.data.datalist import SPLITS, Datalist, Pair
from bundle.data.patches import load_pair
from bundle.data.provenance import provenance
from bundle.evaluation import baselines
from bundle.evaluation.panels import difference, draw_corners, in_levels, patches_to_keep, save_slide
from bundle.evaluation.scoring import score_patches, score_slides
from bundle.evaluation.similarity import LPIPS_MISSING, find_lpips, patch_corners
from bundle.evaluation.tables import METRICS, ROWS, SUMMARY_COLUMNS, markdown, summarise, write_csv
from bundle.evaluation.trust import CURVE, PERFECT, SECTION, TABLE, TrustTables
from bundle.evaluation.trust import markdown as trust_markdown
from bundle.evaluation.trust import summarise as summarise_trust
from bundle.evaluation.truth import MEASURES, TissueColours, measure, seam_index
from bundle.images.false_colour import as_picture
from bundle.images.slides import read_labels, read_slide, to_8bit
from bundle.networks.cells import at_pixels
from bundle.networks.halo import HaloInferer
from bundle.staining.model import TrainedModel, load_model, on_background
from bundle.staining.trust import NEITHER

logger = logging.getLogger("bundle")

PATCH_COLUMNS = ("split", "slide", "specimen", "row", "top", "left", *METRICS)
TRUTH_COLUMNS = ("split", "slide", "row", *MEASURES)
SLIDE_COLUMNS = ("split", "slide", "specimen", "group", "row", *METRICS)


def evaluate(
    data: Datalist,
    model_bundle: str,
    output_dir: str,
    device: str | torch.device,
    eval_patch: int,
    eval_stride: int,
    eval_overlap: float,
    eval_splits: Sequence[str],
    lpips_weights: str | None,
    eval_baselines: bool = True,
    eval_window: int | None = None,
    eval_step: int | None = None,
) -> None:
    """Stain every slide of a dataset and score it: tables, panels, and the run's report.

    Tables and panels go to ``output_dir/evaluation``, the report to ``output_dir/report.html``.

    Real, generated and baseline images are set to the same background outside the mask before they are
    compared (§2.8); patches with less than ``eval_overlap`` of their pixels in the mask are left out (§2.10).

    Args:
        data: the checked dataset.
        model_bundle: a trained bundle.
        output_dir: the run's folder.
        device: where to run the network and LPIPS.
        eval_patch: side of a scored patch, px.
        eval_stride: distance between patches, px.
        eval_overlap: smallest share of a patch in the mask.
        eval_splits: which of training, validation and testing to measure.
        lpips_weights: SqueezeNet weights; None looks in the torch hub cache.
        eval_baselines: also score what needs no network, and judge the section itself by the measures of truth.
        eval_window: side of the windows that stain a slide, px; None takes the trained bundle's.
        eval_step: distance between windows, px; likewise.

    Raises:
        InputError: if the model and dataset do not belong together, a value makes no sense, or the dataset's images are
            no pairs.
    """
    if not data.paired:
        raise InputError(
            "this method learns from images that are no pairs, so virtual and real stain cannot be compared pixel by "
            "pixel; take configs/evaluate_unpaired.json in place of configs/evaluate.json."
        )
    windows = {"window": eval_window, "step": eval_step}
    model = load_model(model_bundle, device, **{name: value for name, value in windows.items() if value is not None})
    reverse = load_reverse(model_bundle, device)
    lpips = find_lpips(lpips_weights, device)
    work = slides_to_measure(data, eval_splits)
    faults = value_faults(data, eval_patch, eval_stride, eval_overlap, eval_splits) + _model_faults(data, model)
    if faults:
        raise InputError("\n".join(faults))
    folder = Path(output_dir) / "evaluation"
    check_writable(folder)
    log_to(Path(output_dir) / "log.txt")
    calibration = model.trust.calibration
    no_map = "" if calibration else model.trust.missing or NEITHER
    notes = [note for note in (data.caveat, "" if lpips else LPIPS_MISSING, no_map) if note]
    for note in notes:
        logger.warning(note)
    ids = {"model_bundle": str(model_bundle), "eval_patch": eval_patch, "eval_stride": eval_stride}
    ids |= {"eval_overlap": eval_overlap, "eval_splits": list(eval_splits), "eval_baselines": eval_baselines}
    ids |= {"lpips_weights": lpips_weights, "window": model.window, "step": model.step}
    origin = {**_origin(data, ids), "lpips": "computed" if lpips else LPIPS_MISSING}
    origin |= {"expected_error": model.trust.bound} if calibration else {}
    colour_table = baselines.ColourTable(in_8bit(data, load_pair(pair)) for pair in data.training)
    colours = TissueColours(labelled(data), data.tissues)
    patches: list[dict[str, Any]] = []
    slides: list[dict[str, Any]] = []
    truth: list[dict[str, Any]] = []
    trust = TrustTables(calibration.bound, data.tissues) if calibration else None
    patches_kept = {split: patches_to_keep(len(getattr(data, split))) for split in SPLITS}
    for number, (split, pair) in enumerate(tqdm(work, unit="slide", desc="evaluating", dynamic_ncols=True)):
        images = load_pair(pair)
        source, target, mask = in_8bit(data, images)
        stained, cells, verdict = model.judged(images["source"])
        name = f"{split}_{number:03d}_{pair.source.name.split('.')[0]}"
        made = {
            "network": stained,
            "colour table": colour_table(source),
            "mean colour": colour_table.mean_colour(source),
            "inverted source": baselines.inverted(source),
            "raw source": baselines.raw(source),
        }
        shown = {row: on_background(image, mask, data.background_rgb) for row, image in made.items()}
        real = on_background(target, mask, data.background_rgb)
        corners = [
            (top, left)
            for top, left in patch_corners(mask.shape[0], mask.shape[1], eval_patch, eval_stride)
            if mask[top : top + eval_patch, left : left + eval_patch].mean() >= eval_overlap
        ]
        about = {"split": split, "slide": name, "specimen": pair.specimen}
        group = {"group": pair.group or ""}
        scored = {row: shown[row] for row in (ROWS if eval_baselines else ROWS[:1])}
        patches += score_patches(about, scored, real, mask, corners, eval_patch, lpips)
        scores = score_slides(scored, real, mask, lpips)
        slides += [{**about, **group, "row": row, **values} for row, values in scores.items()]
        labels = None if pair.labels is None else read_labels(pair.labels)
        references = {SECTION: target}
        if pair.perfect is not None:
            references[PERFECT] = to_8bit(read_slide(pair.perfect).pixels, data.target.low, data.target.high)
        judged = shown | {row: on_background(each, mask, data.background_rgb) for row, each in references.items()}
        for row, image in judged.items() if eval_baselines else [("network", judged["network"])]:
            values = measure(image, real, mask, labels, colours, data.pixel_um)
            blended = not isinstance(model.inferer, HaloInferer)
            if row == "network" and blended and model.window and model.step:
                values["seam_index"] = seam_index(stained, model.window, model.step)
            truth.append({"split": split, "slide": name, "row": row, **values})
        panels = {
            "source": as_picture(source),
            "generated": shown["network"],
            "real": real,
            "mask": np.uint8(255) * mask[None],
        }
        panels |= {"difference": difference(shown["network"], real)}
        panels |= {"unmasked": stained, "colour_table": shown["colour table"]}
        if PERFECT in judged:
            panels["perfect"] = judged[PERFECT]
        if trust and cells is not None:
            expected = at_pixels(torch.from_numpy(cells), *mask.shape)[0].numpy()
            trust.add(about, verdict, expected, stained, references, source, mask, labels)
            if np.isfinite(expected).all():
                panels["expected_error"] = in_levels(expected)
        drawn = draw_corners(corners, patches_kept[split].pop(0))
        kept = {
            corner: cut_patch(Region(*corner, eval_patch, eval_patch), panels, images["target"], target, reverse)
            for corner in drawn
        }
        save_slide(folder / "slides" / name, panels, kept, data.pixel_um)
    summary = summarise(patches, truth)
    write_csv(folder / "patches.csv", PATCH_COLUMNS, patches)
    write_csv(folder / "slides.csv", SLIDE_COLUMNS, slides)
    write_csv(folder / "summary.csv", SUMMARY_COLUMNS, summary)
    write_csv(folder / "truth.csv", TRUTH_COLUMNS, truth)
    write_json(folder / "provenance.json", origin)
    table = markdown(summary, notes, eval_patch, eval_stride)
    for name in (TABLE, CURVE):  # an earlier evaluation may have left them
        (folder / name).unlink(missing_ok=True)
    if trust and calibration:
        trust.write(folder)
        table += "\n" + trust_markdown(summarise_trust(trust.rows, trust.curves), calibration.level)
    with whole_file(folder / "table.md") as partial:
        partial.write_text(table, encoding="utf-8")
    print(f"\n{table}")


def slides_to_measure(data: Datalist, splits: Sequence[str]) -> list[tuple[str, Pair]]:
    """Split and pair of every slide, in order."""
    return [(split, pair) for split in SPLITS if split in splits for pair in getattr(data, split)]


def value_faults(data: Datalist, patch: int, stride: int, overlap: float, splits: Sequence[str]) -> list[str]:
    """What is wrong with the values of an evaluation for a dataset, a line each."""
    faults = []
    if patch < 7:
        faults.append(f"eval_patch is {patch!r}; SSIM needs at least 7 px.")
    if stride < 1:
        faults.append(f"eval_stride is {stride!r}; it must be at least 1 px.")
    if not 0 <= overlap <= 1:
        faults.append(f"eval_overlap is {overlap!r}; it must be from 0 to 1.")
    faults += [f"eval_splits has {split!r}; the splits are {', '.join(SPLITS)}." for split in set(splits) - set(SPLITS)]
    work = slides_to_measure(data, splits)
    if not work:
        faults.append(f"there is nothing to evaluate: no pair in {', '.join(splits)}.")
    for _, pair in work:
        height, width = load_pair(pair)["mask"].shape[1:]
        if min(height, width) < patch:
            faults.append(f"{pair.label}: {height}×{width} px, smaller than eval_patch {patch}; choose a smaller one.")
    return faults


def _model_faults(data: Datalist, model: TrainedModel) -> list[str]:
    return [
        f"the model was trained on {side} {getattr(model, side)}, but the dataset has {getattr(data, side)}; "
        "use its own dataset."
        for side in ("source", "target")
        if getattr(model, side) != getattr(data, side)
    ]


def _origin(data: Datalist, ids: dict[str, Any]) -> dict[str, Any]:
    """What the figures come from: as of a training run, and the ids, the model and the names of the modalities."""
    model = sha256_of(Path(ids["model_bundle"]) / "models" / "model.pt")
    names = {"source": data.source.name, "target": data.target.name, "caveat": data.caveat}
    return {**provenance(data, ids), "ids": ids, "model_sha256": model, **names}


def in_8bit(data: Datalist, images: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source and target as uint8 by their declared ranges, the mask (H, W)."""
    source = to_8bit(images["source"], data.source.low, data.source.high)
    return source, to_8bit(images["target"], data.target.low, data.target.high), images["mask"][0]


def labelled(data: Datalist) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Stain, labels and mask of the training pairs that have labels."""
    for pair in data.training:
        if pair.labels is not None:
            _, target, mask = in_8bit(data, load_pair(pair))
            yield target, read_labels(pair.labels), mask


def load_reverse(model_bundle: str | Path, device: str | torch.device) -> TrainedModel | None:
    """The generator that takes the stain off, to 8 bits in one pass; None if the bundle has none."""
    if not (Path(model_bundle) / "reverse.pt").is_file():
        return None
    return load_model(model_bundle, device, direction="reverse", window=None, output_range=[0.0, 255.0])


def cut_patch(
    place: Region,
    panels: Mapping[str, np.ndarray],
    target: np.ndarray,
    shown_target: np.ndarray,
    reverse: TrainedModel | None,
) -> dict[str, np.ndarray]:
    """One patch in both directions, as it is without a background (Fig. 4a).

    Args:
        place: of the patch.
        panels: of the slide.
        target: (3, H, W) in the units of the dataset.
        shown_target: the same, uint8.
        reverse: None leaves the generated source out.

    Returns:
        By name, (1 or 3, patch, patch), uint8.
    """
    patch = {
        "source": place.cut(panels["source"]),
        "generated": place.cut(panels["unmasked"]),
        "mask": place.cut(panels["mask"]),
        "real": place.cut(shown_target),
    }
    return patch if reverse is None else {**patch, "generated_source": as_picture(reverse(place.cut(target)))}
