"""A trained bundle where it serves a hospital: its configs, its identity, what a picture depends on; no PyTorch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.errors import InputError
from bundle.common.run_folder import read_record
from bundle.common.values import is_size_um, shown

LEVELS = ("bone", "background")
# How a trained network computes, by name; bundle.networks.engines says what they are
ENGINES = ("fp32", "winograd_fp32", "winograd6_fp32", "bf16", "winograd_bf16", "fp16", "autocast", "compiled")
SPEEDS = ("exact", "fast", "preview", "stock", *ENGINES)  # of ``inference.json``, see bundle.networks.accelerate
LIKENESS = "models/likeness.npz"  # of a bundle: what its training data were like
OTHER_SIZE = 0.05  # by which pixels may differ from those of the training without a note
BEYOND = 0.1  # of the way from background to bone
LEAST_BETWEEN = 0.001  # of a scan's values that must lie between the two
ALL_AT_ONCE = {"_target_": "SimpleInferer"}  # inferer of ``series.json`` where one section decides about all slices
NORMALISATIONS = ("window", "dense", "specimen")  # likewise, bundle.networks.dense_norm


def config_files(bundle_root: str | Path) -> list[Path]:
    """The configs that together stain a volume with MONAI's own parts, in the order in which they are merged.

    A trained bundle keeps what is for volumes in ``configs/series.json``; an exported one has it in
    ``configs/inference.json`` already.

    Args:
        bundle_root: the folder, as a run leaves it in ``output_dir/bundle``, or as ``scripts.export`` packs it.

    Raises:
        InputError: if it is no trained bundle.
    """
    root = Path(bundle_root)
    if root.is_file():
        raise InputError(f"{root} is a file; unpack it, and give the folder that holds configs/ and models/.")
    first, overlay = root / "configs" / "inference.json", root / "configs" / "series.json"
    if not first.is_file():
        raise InputError(no_bundle(root))
    return [first, overlay] if overlay.is_file() else [first]


def no_bundle(root: Path) -> str:
    """What to say of a folder that is no trained bundle."""
    inside = root / "bundle"
    if (inside / "configs" / "inference.json").is_file():
        return f"{root} is the folder of a run; its trained bundle is {inside}."
    return f"{root} is no trained bundle, it has no configs/inference.json; give RUN/bundle of a run."


def read_config(bundle_root: str | Path) -> dict[str, Any]:
    """The ids of :func:`config_files`, as written: nothing in them is run.

    Raises:
        InputError: if it is no trained bundle, one that cannot stain volumes so, or a config is no JSON.
    """
    config: dict[str, Any] = {}
    for path in config_files(bundle_root):
        try:
            config |= dict(json.loads(path.read_text(encoding="utf-8")).items())
        except (ValueError, AttributeError) as error:
            raise InputError(f"{path} is no JSON of a config ({error}); copy it from the run again.") from error
    if "sigma" not in config:
        raise InputError(
            f"{bundle_root} has no configs/series.json, so it stains slides alone; its training command with --resume "
            "true writes the bundle anew."
        )
    return config


def read_grey_config(bundle_root: str | Path) -> dict[str, Any]:
    """The same for DICOM series and what viewers send, which have one value a voxel.

    Raises:
        InputError: as :func:`read_config`, or if the model takes another number of channels.
    """
    config = read_config(bundle_root)
    channels = config["source"].get("channels")
    if channels != 1:
        raise InputError(
            f"{bundle_root} takes {channels} channels of {config['source']['name']}, but a CT series has one value a "
            "voxel; stain such scans with configs/volume.json and a list as --input (docs/volumes.md)."
        )
    return config


def read_stock_config(bundle_root: str | Path) -> dict[str, Any]:
    """The same for MONAI's own parts, which Deploy and Label run.

    Raises:
        InputError: as :func:`read_grey_config`, or if they would not stain as ``normalisation`` says.
    """
    config = read_grey_config(bundle_root)
    normalisation, at_once = config.get("normalisation", "window"), config.get("inferer") == ALL_AT_ONCE
    if at_once != (normalisation == "specimen"):
        raise InputError(
            f"{bundle_root}: normalisation is {normalisation!r}, but its config of volumes stains "
            f"{'all slices at once' if at_once else 'slice by slice'}; copy all of configs/ from one run again."
        )
    return config


def fingerprint(bundle_root: str | Path) -> str:
    """SHA-256 of a bundle's weights, ``models/model.pt``.

    Raises:
        InputError: if there are none.
    """
    path = Path(bundle_root) / "models" / "model.pt"
    if not path.is_file():
        raise InputError(f"{path} does not exist, so what the model is cannot be said; give RUN/bundle of a run.")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refusal_faults(bundle_root: str | Path, refuse_unlike: bool) -> list[str]:
    """What is wrong with refusing what is unlike the training data, in a line.

    Args:
        bundle_root: the trained bundle.
        refuse_unlike: whether that is asked for.
    """
    if not refuse_unlike or (Path(bundle_root) / LIKENESS).is_file():
        return []
    return [
        f"refuse_unlike is true, but {bundle_root} has no {LIKENESS}, so nothing can be called unlike; leave it out."
    ]


def intensity_faults(
    source: Mapping[str, Any], bone_intensity: float | None, background_intensity: float | None
) -> list[str]:
    """What is wrong with the grey values of bone and background that are given for a scan, a line each.

    Args:
        source: what the model was trained on, as ``inference.json`` has it.
        bone_intensity: mean grey value of bone in the scan.
        background_intensity: likewise, of background.
    """
    given = [bone_intensity, background_intensity]
    if recalibrated(source, *given) and None in (source.get(f"{name}_intensity") for name in LEVELS):
        return [
            f"bone_intensity and background_intensity are {given}, but this model's dataset declared none for its "
            f"{source['name']}, so there is nothing to map them to; declare both in datalist.json and train again."
        ]
    if recalibrated(source, *given) and None in given:
        missing = [f"{name}_intensity" for name, level in zip(LEVELS, given, strict=True) if level is None]
        return [f"{' and '.join(missing)} of the scan not given; give both, bone_intensity and background_intensity."]
    if None in given:
        return []
    if given[0] == given[1]:
        return [f"bone_intensity and background_intensity are both {given[0]}; they must differ."]
    bone, background = (float(source[f"{name}_intensity"]) for name in LEVELS)
    if (bone_intensity > background_intensity) != (bone > background):  # type: ignore[operator]
        return [
            f"bone_intensity {given[0]:g} and background_intensity {given[1]:g} are the other way round than in "
            f"training ({bone:g}, {background:g}), so they may be swapped; a negative scan must be inverted first."
        ]
    return []


def recalibrated(source: Mapping[str, Any], bone_intensity: float | None, background_intensity: float | None) -> bool:
    """Whether a scan has other grey values of bone and background than what the model was trained on."""
    return [bone_intensity, background_intensity] != [source.get(f"{name}_intensity") for name in LEVELS]


def levels_of(bone_intensity: float | None, background_intensity: float | None) -> tuple[float, float] | None:
    """Bone and background, in this order; None unless both are known."""
    if bone_intensity is None or background_intensity is None:
        return None
    return float(bone_intensity), float(background_intensity)


def share_between(values: np.ndarray, levels: tuple[float, float]) -> float:
    """Share of grey values that lie between those of background and bone, or at most a tenth of the way beyond.

    Args:
        values: any shape, the scan's own.
        levels: bone and background.
    """
    low, high = sorted(levels)
    beyond = BEYOND * (high - low)
    return float(((values >= low - beyond) & (values <= high + beyond)).mean())


def value_faults(
    what: str, least: float, greatest: float, share: float, levels: tuple[float, float] | None, span: float
) -> list[str]:
    """A line if next to nothing of a grey scan would be told apart, so that its stain would be one colour.

    Args:
        what: the scan, for the message.
        least: its lowest value.
        greatest: its highest.
        share: of :func:`share_between`; 1 without levels.
        levels: bone and background; None if the dataset declared none.
        span: of the declared range; infinite where the levels map the scan to it.
    """
    found = f"{what} has values from {least:g} to {greatest:g}"
    if levels is not None and share < LEAST_BETWEEN:
        return [
            f"{found}, {share:.2%} of them between background_intensity {levels[1]:g} and bone_intensity "
            f"{levels[0]:g}, so it would come out in one colour; pass the two of this scan (python -m scripts."
            "intensities finds them)."
        ]
    if levels is None and greatest - least < span / 256:
        return [
            f"{found}, less than one of 256 grey levels of the declared range, so it would come out in one colour; "
            "rescale it to what the model was trained on."
        ]
    return []


def trained_pixel_um(bundle_root: str | Path) -> float | None:
    """Pixel size in µm that a bundle's model was trained on, as its ``metadata.json`` says; None if it does not.

    Raises:
        InputError: if what it says is no size.
    """
    path = Path(bundle_root) / "configs" / "metadata.json"
    size_um = read_record(path).get("pixel_um") if path.is_file() else None
    if size_um is not None and not is_size_um(size_um):
        raise InputError(f"{path}: pixel_um is {shown(size_um)}; it must be a size in µm, or null: copy it anew.")
    return size_um


def size_note(what: str, pixel_um: float | None, trained_um: float | None) -> list[str]:
    """A line if pixels are of another size than those that a model was trained on, by more than 5 %.

    Args:
        what: the image or scan, for the message.
        pixel_um: its pixel size; None if it states none.
        trained_um: the model's; None if it is not known.
    """
    if not pixel_um or not trained_um or abs(pixel_um / trained_um - 1) <= OTHER_SIZE:
        return []
    return [
        f"note: {what} has pixels of {pixel_um:g} µm, but the model was trained on pixels of {trained_um:g} µm; "
        "cells and struts have another size in px than it knows, so do not trust the detail"
    ]


def stock_settings(
    config: Mapping[str, Any], bone_intensity: float | None, background_intensity: float | None
) -> dict[str, Any]:
    """What a stain depends on besides model and scan where MONAI's own parts make it (Deploy, Label).

    Args:
        config: of :func:`read_stock_config`.
        bone_intensity: mean grey value of bone in the scan.
        background_intensity: likewise, of background.
    """
    if config.get("normalisation") == "dense":  # which MONAI's own parts do not know
        config = {**config, "normalisation": "window"}
    settings = engine_settings(config, "stock", bone_intensity, background_intensity)
    # a whole slice at once rounds otherwise than the engine's windows, so it is another picture
    return settings | ({"parts": "MONAI"} if config.get("normalisation") == "specimen" else {})


def engine_settings(
    config: Mapping[str, Any], speed: str, bone_intensity: float | None, background_intensity: float | None
) -> dict[str, Any]:
    """The same where ``configs/volume.json`` makes it, along z.

    For ``speed`` ``stock`` it is the same picture, unless one section decides. Where that or a halo makes windows lie
    side by side, they do not matter.

    Args:
        config: of :func:`read_config`.
        speed: of ``inference.json``.
        bone_intensity: mean grey value of bone in the scan.
        background_intensity: likewise, of background.
    """
    levels = [None if level is None else float(level) for level in (bone_intensity, background_intensity)]
    normalisation = config.get("normalisation", "window")
    side_by_side = config.get("halo") is not None or normalisation == "specimen"
    return {
        **({} if normalisation == "window" else {"normalisation": normalisation}),  # so that older identities stand
        "speed": speed,
        **{key: None if side_by_side else config[key] for key in ("window", "step")},
        "sigma": config["sigma"],
        "invert_source": config["invert_source"],
        **{f"{name}_intensity": level for name, level in zip(LEVELS, levels, strict=True)},
    }
