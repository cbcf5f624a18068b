"""Versions of a dataset for studies: registration spoiled, fewer pairs, the implant material as a channel."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import map_coordinates

from bundle.common.atomic import whole_folder
from bundle.common.errors import InputError
from bundle.common.ids import SEED, fault_of
from bundle.common.values import is_number
from bundle.data.datalist import DATALIST, Datalist, Pair
from bundle.data.folds import assign_folds
from bundle.data.load import load_datalist
from bundle.images.slides import read_slide, write_slide
from bundle.preparation.phantom.fields import smooth_noise

WARP_SCALE_PX = 40.0  # correlation length of the warp
Listed = dict[str, Any]
FARTHEST_PX = 1000


def write_versions(
    dataset_dir: str,
    output: str,
    misalign_px: Sequence[float] = (),
    pairs_per_fold: Sequence[int] = (),
    material: bool = False,
    datalist: str = DATALIST,
    seed: int = 0,
) -> Path:
    """Copy a dataset and add versions of it, a datalist each in the same folder.

    Test pairs are the same in every version, but for the channel that ``material`` adds.

    Args:
        dataset_dir: the dataset.
        output: the new folder; made, or empty.
        misalign_px: root mean square displacements of the training targets, px: ``datalist_5px.json``; see
            :func:`displacement`. Every displacement with one ``seed`` goes in the same directions.
        pairs_per_fold: how many training pairs to keep of each fold, drawn at random: ``datalist_2pairs.json``.
        material: a source of three channels, twice its grey and a level for the pair's ``group``:
            ``datalist_material.json``.
        datalist: name of the list in ``dataset_dir``; ``datalist.json`` in ``output`` is the same.
        seed: of displacements and draws.

    Returns:
        The folder.

    Raises:
        InputError: if the dataset has a fault, an argument makes no sense, or ``output`` is not empty.
    """
    folder = Path(output)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"output {folder} is not empty; name a new folder.")
    data = load_datalist(dataset_dir, datalist)
    listed = json.loads((data.folder / datalist).read_text(encoding="utf-8"))
    outside = [name for name in sorted(data.checksums) if Path(name).is_absolute() or ".." in Path(name).parts]
    if outside:
        raise InputError(
            "\n".join(f"{name} lies outside {data.folder}; copy it in, and list it there." for name in outside)
        )
    misalign_px, pairs_per_fold = _listed(misalign_px), _listed(pairs_per_fold)
    _check(data, misalign_px, pairs_per_fold, material, seed)
    with whole_folder(folder) as partial:
        for name in sorted(set(data.checksums) - {datalist}):
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(data.folder / name, partial / name)
        lists = {DATALIST: listed}
        for px in misalign_px:
            lists[f"datalist_{px:g}px.json"] = _misaligned(data, listed, partial, px, seed)
        for count in pairs_per_fold:
            lists[f"datalist_{count}pairs.json"] = _fewer(data, listed, count, seed)
        if material:
            lists["datalist_material.json"] = _with_material(data, listed, partial)
        for name, content in lists.items():
            text = json.dumps(content, indent=4, ensure_ascii=False) + "\n"
            (partial / name).write_text(text, encoding="utf-8")
    return folder


def _listed(value: Any) -> Sequence[Any]:
    """A single value, as fire reads one without brackets, as a list."""
    return value if isinstance(value, (list, tuple)) else [value]


def _check(
    data: Datalist, misalign_px: Sequence[float], pairs_per_fold: Sequence[int], material: bool, seed: int
) -> None:
    faults = list(filter(None, [fault_of("seed", seed, SEED)]))
    for px in misalign_px:
        if not is_number(px) or not 0 <= px <= FARTHEST_PX:
            faults.append(f"misalign_px has {px!r}; give displacements in pixels, from 0 to {FARTHEST_PX}.")
    for count in pairs_per_fold:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            faults.append(f"pairs_per_fold has {count!r}; give whole numbers of at least 1.")
    if material and (data.source.channels != 1 or not all(pair.group for pair in data.training + data.testing)):
        faults.append("material needs a source of one channel and a group in every entry of the datalist.")
    if faults:
        raise InputError("\n".join(faults))


def displacement(shape: tuple[int, int], px: float, rng: np.random.Generator) -> np.ndarray:
    """Half a shift, half a smooth warp, of a given root mean square.

    Args:
        shape: rows and columns.
        px: root mean square length of the displacement.
        rng: direction and warp.

    Returns:
        (2, H, W), px.
    """
    heading = rng.uniform(0, 2 * np.pi)
    shift = np.array([np.sin(heading), np.cos(heading)])[:, None, None] * np.ones((1, *shape))
    warp = np.stack([smooth_noise(shape, WARP_SCALE_PX, rng) for _ in range(2)])
    warp -= warp.mean((1, 2), keepdims=True)
    warp /= max(np.sqrt((warp**2).sum(0).mean()), 1e-9)
    return px * (shift + warp) / np.sqrt(2)


def _noted(listed: Listed, note: str, **changes: Any) -> Listed:
    return {**listed, "description": f"{listed.get('description', '')} {note}".strip(), **changes}


def _misaligned(data: Datalist, listed: Listed, folder: Path, px: float, seed: int) -> Listed:
    entries = []
    for number, (pair, entry) in enumerate(zip(data.training, listed["training"], strict=True)):
        slide = read_slide(pair.target)
        shape = slide.pixels.shape[1:]
        places = np.indices(shape) + displacement(shape, px, np.random.default_rng([seed, number]))
        moved = np.stack([map_coordinates(channel, places, order=1, mode="nearest") for channel in slide.pixels])
        name = f"misaligned_{px:g}px/{entry['target']}"
        write_slide(folder / name, moved, slide.pixel_um)
        entries.append({**entry, "target": name})
    note = f"Training targets displaced by {px:g} px root mean square (seed {seed})."
    return _noted(listed, note, training=entries)


def _fewer(data: Datalist, listed: Listed, count: int, seed: int) -> Listed:
    entries = listed["training"]
    folds = [entry.get("fold") for entry in entries]
    if None in folds:
        folds = assign_folds(data.training)
    rng = np.random.default_rng([seed, count])
    kept: list[int] = []
    for fold in sorted(set(folds)):
        there = [place for place, own in enumerate(folds) if own == fold]
        if len(there) < count:
            raise InputError(f"pairs_per_fold has {count}, but fold {fold} has {len(there)}; keep fewer.")
        kept += rng.permutation(there)[:count].tolist()
    fewer = [{**entries[place], "fold": folds[place]} for place in sorted(kept)]
    return _noted(listed, f"{count} training pairs of each fold, drawn at random (seed {seed}).", training=fewer)


def _with_material(data: Datalist, listed: Listed, folder: Path) -> Listed:
    groups = sorted({str(pair.group) for pair in data.training + data.testing})
    levels = np.linspace(data.source.low, data.source.high, len(groups) + 2)[1:-1]

    def with_channel(pair: Pair, entry: Listed) -> Listed:
        slide = read_slide(pair.source)
        level = np.full_like(slide.pixels, levels[groups.index(str(pair.group))])
        name = str(Path("material") / Path(entry["source"]).with_suffix(".tif"))
        write_slide(folder / name, np.concatenate([slide.pixels, slide.pixels, level]), slide.pixel_um)
        return {**entry, "source": name}

    splits = {
        split: [with_channel(pair, entry) for pair, entry in zip(pairs, listed.get(split, []), strict=True)]
        for split, pairs in (("training", data.training), ("testing", data.testing))
    }
    named = ", ".join(f"{group} {level:g}" for group, level in zip(groups, levels, strict=True))
    source = {"name": f"{data.source.name} and material", "channels": 3, "range": [data.source.low, data.source.high]}
    return _noted(listed, f"Third channel of the source: {named}.", source=source, **splits)
