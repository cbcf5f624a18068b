"""Measure a trained bundle on whole slides, beside what needs no network (Irvine et al. §2.9–2.10)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bundle.common.atomic import check_writable, whole_file, write_json
from bundle.common.checks import sha256_of
from bundle.common.columns import plain
from bundle.common.errors import InputError
from bundle.common.run_folder import log_to
from bundle.common.work.engine import Engine
from bundle.data.datalist import SPLITS, Datalist
from bundle.data.patches import load_pair
from bundle.data.provenance import provenance
from bundle.evaluation.similarity import LPIPS_MISSING
from bundle.evaluation.slide_scores import Asked, SlideScores, slides_to_measure
from bundle.evaluation.tables import METRICS, SUMMARY_COLUMNS, markdown, summarise, write_csv
from bundle.evaluation.trust import CURVE, TABLE, TrustTables
from bundle.evaluation.trust import markdown as trust_markdown
from bundle.evaluation.trust import summarise as summarise_trust
from bundle.evaluation.truth import MEASURES
from bundle.evaluation.working import sole, work_off
from bundle.staining.model import TrainedModel
from bundle.staining.trust import NEITHER

logger = logging.getLogger("bundle")

PATCH_COLUMNS = ("split", "slide", "specimen", "row", "top", "left", *METRICS)
TRUTH_COLUMNS = ("split", "slide", "row", *MEASURES)
SLIDE_COLUMNS = ("split", "slide", "specimen", "group", "row", *METRICS)
WORK = ".work"  # what an unfinished evaluation has done
MODULE = "bundle.evaluation.slide_scores"  # what a worker imports first


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
    engine: Engine | None = None,
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
        engine: does the slides; None for this machine.

    Raises:
        InputError: if the model and dataset do not belong together, a value makes no sense, or the dataset's images are
            no pairs.
    """
    if not data.paired:
        raise InputError(
            "this method learns from images that are no pairs, so virtual and real stain cannot be compared pixel by "
            "pixel; take configs/evaluate_unpaired.json in place of configs/evaluate.json."
        )
    windows = {name: value for name, value in {"window": eval_window, "step": eval_step}.items() if value is not None}
    asked = Asked(
        *(str(model_bundle), str(device), eval_patch, eval_stride, eval_overlap, list(eval_splits)),
        *(lpips_weights, eval_baselines, windows),
    )
    folder = Path(output_dir) / "evaluation"
    slides = SlideScores(data, asked, folder, folder / WORK)
    model, lpips = slides.model, slides.lpips
    faults = value_faults(data, eval_patch, eval_stride, eval_overlap, eval_splits) + _model_faults(data, model)
    if faults:
        raise InputError("\n".join(faults))
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
    with sole(slides.work, output_dir, origin):
        slides.learn()
        job = lambda report: replace(slides, report=report)
        work_off(job, slides.recipe(), slides.names, engine or Engine(), "slide", MODULE)
        rows, trust = slides.result()
        table = _write(folder, rows, trust, origin, notes, asked, calibration.level if calibration else 0.0)
    print(f"\n{plain(table)}\n\nall of it, with quartiles: {folder / 'table.md'}")


def _write(
    folder: Path,
    rows: Mapping[str, Sequence[dict[str, Any]]],
    trust: TrustTables | None,
    origin: Mapping[str, Any],
    notes: Sequence[str],
    asked: Asked,
    level: float,
) -> str:
    """Write all tables; gives the one that is shown."""
    summary = summarise(rows["patches"], rows["truth"])
    write_csv(folder / "patches.csv", PATCH_COLUMNS, rows["patches"])
    write_csv(folder / "slides.csv", SLIDE_COLUMNS, rows["slides"])
    write_csv(folder / "summary.csv", SUMMARY_COLUMNS, summary)
    write_csv(folder / "truth.csv", TRUTH_COLUMNS, rows["truth"])
    write_json(folder / "provenance.json", origin)
    table = markdown(summary, notes, asked.patch, asked.stride)
    for name in (TABLE, CURVE):  # an earlier evaluation may have left them
        (folder / name).unlink(missing_ok=True)
    if trust:
        trust.write(folder)
        table += "\n" + trust_markdown(summarise_trust(trust.rows, trust.curves), level)
    with whole_file(folder / "table.md") as partial:
        partial.write_text(table, encoding="utf-8")
    return table


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
