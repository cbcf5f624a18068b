"""Methods compared on one dataset, as typed."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from bundle.common.columns import plain
from bundle.common.errors import InputError
from bundle.common.work.engine import Engine
from bundle.studies.page import write_study
from bundle.studies.plan import EVALUATION, beside_configs, plan_cells, read_variants
from bundle.studies.study import Study, full_disk_told

DEFAULT = "paired"  # train.json without an overlay


def study(
    dataset_dir: str,
    output_dir: str,
    methods: list[str] | tuple[str, ...] = (DEFAULT,),
    variants: str | None = None,
    folds: list[int | None] | tuple[int | None, ...] = (None,),
    seeds: list[int] | tuple[int, ...] = (0,),
    profile: str | None = None,
    ids: dict[str, Any] | None = None,
    evaluation: dict[str, Any] | None = None,
    evaluation_config: str = EVALUATION,
    workers: int | None = None,
    cluster: str | None = None,
) -> None:
    """Train, stain and measure every variant on every fold with every seed, and compare them.

    Start the same command again to go on after a stop.

    Args:
        dataset_dir: the dataset.
        output_dir: the study's folder.
        methods: "paired" (train.json as it is) and names of configs/methods.
        variants: a JSON file instead: {"name": {"methods": […], "ids": {…}}}.
        folds: validation folds; null trains on all training pairs.
        seeds: of the runs.
        profile: a name of configs/profiles; none for the paper's scale.
        ids: set in every training, for example {epochs: 10}.
        evaluation: set in every evaluation, for example {eval_patch: 128}.
        evaluation_config: what measures them; configs/evaluate_unpaired.json for methods that need no pairs.
        workers: how many cells at a time on this machine; none for one a GPU, or one.
        cluster: of Dask, that does the cells instead: tcp://HOST:8786, or slurm with --workers.
    """
    engine = Engine(cluster, workers)
    for name, value in (("ids", ids), ("evaluation", evaluation)):
        if value is not None and not isinstance(value, dict):
            raise InputError(f"{name} is {value!r}; give ids by name, as JSON: '{{\"eval_patch\": 128}}'.")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    dataset_dir, output_dir, variants = beside_configs(dataset_dir, output_dir, variants)
    chosen = (
        read_variants(variants)
        if variants
        else {method: {"methods": [] if method == DEFAULT else [method]} for method in _list(methods)}
    )
    cells = plan_cells(chosen, _list(folds), _list(seeds), profile, ids or {}, evaluation_config)
    from bundle.studies.checks import check_cells  # here, as PyTorch and MONAI take seconds to load

    check_cells(cells, dataset_dir, evaluation or {})
    work = Study(output_dir, dataset_dir, cells, evaluation or {}, chosen)
    with full_disk_told(output_dir):
        try:
            failed = work.work(engine)
        except KeyboardInterrupt:
            print(
                f"\nstopped; {len(work.undone())} of {len(cells)} cells are left; repeat the command", file=sys.stderr
            )
            sys.exit(130)
        page = write_study(output_dir)
    table = Path(output_dir) / "table.md"
    print(f"{plain(table.read_text(encoding='utf-8'))}\n\n{table}\n{page}")
    if failed:
        raise InputError(f"failed: {', '.join(failed)}; why is said above and in their .out files.")


def _list(value: Any) -> list[Any]:
    """A single value, as fire reads one without brackets, as a list."""
    return list(value) if isinstance(value, (list, tuple)) else [value]
