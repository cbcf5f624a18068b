"""What the dock does, without its window: what a bundle says of itself, a layer's voxels, and the stain of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.errors import InputError, line_of
from bundle.common.run_folder import read_record
from bundle.common.trained_bundle import LEVELS, no_bundle, trained_pixel_um

PHANTOM = "phantom-trained, not for data"
MICROMETRE_PER = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6}
CELL, SHOWN_LEVELS = 4, 64.0  # px a side of an expected error of a volume; levels that its colours span


class StoppedError(Exception):
    """The user has pressed Cancel."""


@dataclass(frozen=True)
class About:
    """What the dock shows of a bundle before it is loaded.

    Attributes:
        root: its folder.
        words: what it makes of what, on pixels of which size.
        levels: grey values of bone and background in its training; None where these were not declared.
        phantom: whether it was trained on phantoms.
    """

    root: Path
    words: str
    levels: tuple[float, float] | None
    phantom: bool


def about(folder: str) -> About:
    """Read what a bundle says of itself; PyTorch is not loaded for it.

    Args:
        folder: as a run leaves it in ``RUN/bundle``.

    Raises:
        InputError: if it is no trained bundle.
    """
    root = Path(folder).expanduser()
    path = root / "configs" / "inference.json"
    if not path.is_file():
        raise InputError(no_bundle(root))
    config = read_record(path)
    source, target = config["source"], config["target"]
    bone, background = (source.get(f"{name}_intensity") for name in LEVELS)
    pixel_um = trained_pixel_um(root)
    size = "of a size that it does not say" if pixel_um is None else f"of {pixel_um:g} µm"
    return About(
        root,
        f"{target['name']} from {source['name']}, pixels {size}",
        None if bone is None or background is None else (float(bone), float(background)),
        "phantom" in f"{source['name']} {target['name']}".lower(),
    )


def packaged() -> str:
    """The folder of the small model that comes with virtual-staining; empty where there is none."""
    try:
        from bundle.common.home import PRETRAINED
    except ImportError:
        return ""
    return str(PRETRAINED) if (Path(PRETRAINED) / "configs").is_dir() else ""


def can_be_stained(layer: Any) -> bool:
    """Whether a layer is a grey image of two or three axes."""
    return type(layer).__name__ == "Image" and not layer.rgb and layer.ndim in (2, 3)


def stated_um(layer: Any) -> str:
    """The voxel size of a layer as text, ``5`` or ``6, 5, 5``; empty if it does not say it: then the user is asked.

    A scale of 1 is what napari gives to what has none, whatever its unit.
    """
    per = [MICROMETRE_PER.get(str(unit)) for unit in layer.units]
    if None in per or np.allclose(layer.scale, 1.0):
        return ""
    sizes = [float(f"{scale * unit:.6g}") for scale, unit in zip(layer.scale, per, strict=True)]  # type: ignore[operator]
    return ", ".join(f"{size:g}" for size in (sizes[:1] if len(set(sizes)) == 1 else sizes))


def numbers(text: str, what: str, counts: tuple[int, ...] = (1,)) -> list[float]:
    """The numbers that a field holds.

    Args:
        text: as it was typed.
        what: the field's name, for messages.
        counts: how many there may be.

    Raises:
        InputError: if it is empty, or holds something else.
    """
    if not text.strip():
        raise InputError(f"{what} is not filled in; it is not guessed.")
    try:
        found = [float(each) for each in text.replace(";", ",").split(",")]
    except ValueError as error:
        raise InputError(f"{what} is {text!r}; write a number such as 5, or one for each axis: 6, 5, 5.") from error
    if len(found) not in counts:
        raise InputError(f"{what} is {text!r}, {len(found)} numbers; it takes {' or '.join(map(str, counts))}.")
    return found


@dataclass(frozen=True)
class Result:
    """What came of a layer.

    Attributes:
        rgb: of the layer's shape, with colours last.
        error: expected, of the layer's shape or in squares of 4×4 px of its slices; None where it is not known.
        word: the verdict, of :mod:`bundle.common.verdicts`.
        told: the same with its numbers.
        fault: what the user can mend, in place of all these.
    """

    rgb: Any = None
    error: Any = None
    word: str = ""
    told: str = ""
    fault: str = ""


class Loaded:
    """Loads bundles, and keeps the last."""

    def __init__(self) -> None:
        self._kept: tuple[Any, Any] | None = None

    def get(self, root: Path, ids: Mapping[str, Any]) -> Any:
        """The bundle of a folder with ids set, loaded if it is another than the last."""
        key = (str(root), tuple(sorted(ids.items())))
        if self._kept is None or self._kept[0] != key:
            from bundle import load  # here: PyTorch takes seconds

            self._kept = key, load(root, **ids)
        return self._kept[1]


def stain_array(
    loaded: Loaded,
    root: Path,
    ids: Mapping[str, Any],
    data: Any,
    voxel_um: list[float],
    report: Callable[[str, int, int], None],
) -> Result:
    """Stain the data of a layer; nothing is raised but what is our own fault.

    Args:
        loaded: keeps the bundle.
        root: its folder.
        ids: of the bundle to set.
        data: (H, W) or (Z, Y, X).
        voxel_um: one size, or one for each axis.
        report: called with what is being done, how far, of how many; may raise :class:`StoppedError`.
    """
    try:
        report("loading the bundle", 0, 0)
        stain = loaded.get(root, ids)
        report("staining", 0, 0)
        if len(data.shape) == 2:
            made = stain.judged(data, pixel_um=max(voxel_um))
            return Result(made.rgb, made.expected_error, made.word, made.told)
        size = voxel_um[0] if len(voxel_um) == 1 else voxel_um
        volume = stain.judged_volume(data, voxel_um=size, report=report)
        return Result(volume.rgb, volume.expected_error, volume.word, volume.told)
    except StoppedError:
        return Result(fault="cancelled; nothing was added.")
    except Exception as error:
        line = line_of(error)
        if line is None:
            raise
        return Result(fault=line)


def placed(layer: Any, cells: bool = False) -> dict[str, Any]:
    """How a layer is to lie where another lies.

    Args:
        layer: the other.
        cells: whether it has one value for 4×4 px of each slice, whose first lies between four pixels.
    """
    from napari.utils.transforms import Affine

    step = np.array([1.0] * (layer.ndim - 2) + [float(CELL)] * 2) if cells else np.ones(layer.ndim)
    turned = Affine(scale=layer.scale, rotate=layer.rotate, shear=layer.shear, ndim=layer.ndim).linear_matrix
    return {
        "scale": np.asarray(layer.scale) * step,
        "translate": np.asarray(layer.translate) + turned @ ((step - 1) / 2),
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }
