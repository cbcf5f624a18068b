"""What the ids of the configs may be: one table, for the checks and for ``docs/configuration.md``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bundle.common.errors import InputError, causes
from bundle.common.kinds import (
    AXES,
    CHECKPOINT,
    DEVICE,
    MOST,
    NAMES,
    NULL,
    PATH,
    PATHS,
    SWITCH,
    TEXT,
    Kind,
    above,
    below,
    between,
    either,
    number,
    numbers,
    one_of,
    some_of,
    whole,
)
from bundle.common.trained_bundle import SPEEDS
from bundle.common.values import is_number, is_text, shown

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

WORDS = {"true": True, "false": False, "null": None}
NUMERAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")  # 2e-4 is text to YAML
CODE = ("$", "@", "%")  # what MONAI gives a meaning to, at the beginning of text


SPLITS = some_of("training", "validation", "testing")
RESUME = Kind("true, false or changed", lambda value: isinstance(value, bool) or value == "changed")
SEED = whole(0, 2**32 - 1)
STAINED = Kind("a format of stained volumes", is_text)  # which there are, is known where they are written
SLIDES = Kind("a format of stained whole slides", is_text)
NGFF = Kind("0.4 or 0.5", lambda value: str(value) in ("0.4", "0.5"))  # a number to the command line
CHANNELS = Kind(
    "null, a list of numbers, or names with a number each",
    lambda value: value is None or (isinstance(value, (list, dict)) and len(value) > 0),
)
TISSUE = Kind(
    "null, brightfield, fluorescence, a threshold, or false",
    lambda value: value is None or value is False or value in ("brightfield", "fluorescence") or is_number(value),
)
WORKERS = {  # which there are, is known where they are started
    "cluster": either(Kind("tcp://HOST:PORT of a Dask scheduler, slurm", is_text), NULL),
    "workers": either(whole(1), NULL),
}
MARGINS = numbers("two numbers from 0.1 to 10, the first not the greater", 0.1, (2,), ordered=True, most=10)

TRAIN = {
    "bundle_root": PATH,
    "dataset_dir": either(PATH, NULL),
    "datalist": PATH,
    "output_dir": PATH,
    "method": TEXT,
    "device": DEVICE,
    "seed": SEED,
    "paired": SWITCH,
    "fold": either(whole(), NULL),
    "epochs": whole(1),
    "batch_size": whole(1),
    "patch_size": whole(24),  # from which the discriminator's last map has more than one pixel
    "patches_per_pair": whole(1),
    "width": whole(1),
    "blocks": whole(1),
    "upsampling": one_of("nearest", "transposed"),
    "learning_rate": number(0, 1),
    "decay_epochs": whole(),
    "pool_size": whole(),
    "num_workers": either(whole(), NULL),
    "precision": TEXT,
    "compile": SWITCH,
    "invert_source": SWITCH,
    "masked_sampling": SWITCH,
    "masked_loss": SWITCH,
    "mask_discriminator": SWITCH,
    "zoom": MARGINS,
    "jitter": below(1),
    "noise_std": number(0, 1),
    "smoothing_sigma": number(0, 10),
    "sigma": number(0, 10),
    "normalisation": one_of("window", "specimen"),
    "lambda_adv": number(),
    "lambda_cycle": number(),
    "lambda_identity": number(),
    "lambda_pixel": number(),
    "lambda_grey": number(),
    "lambda_structure": number(),
    "picture_every": whole(1),
    "save_minutes": number(),
    "skip_nonfinite": whole(),
    "validate_every": whole(),
    "validate_step": either(whole(1), NULL),
    "validation_metric": TEXT,
    "patience": either(whole(1), NULL),
    "lpips_weights": either(PATH, NULL),
    "mlflow": either(SWITCH, TEXT),
    "deploy_checkpoint": CHECKPOINT,
    "resume": RESUME,
}
EVALUATE = {
    "model_bundle": PATH,
    "eval_patch": whole(8),
    "eval_stride": whole(1),
    "eval_overlap": number(0, 1),
    "eval_splits": SPLITS,
    "lpips_weights": either(PATH, NULL),
    "eval_baselines": SWITCH,
    "eval_window": either(whole(8), NULL),
    "eval_step": either(whole(1), NULL),
    **WORKERS,
}
EVALUATE_UNPAIRED = {
    "model_bundle": PATH,
    "eval_splits": SPLITS,
    "eval_patch": whole(8),
    "eval_pictures": whole(),
    "eval_window": either(whole(8), NULL),
    "eval_step": either(whole(1), NULL),
    "hash_weights": either(PATH, NULL),
    "labelling_index": SWITCH,
    "nucleus_um": above(0),
    "dab_threshold": above(0),
    "region_um": above(0),
    **WORKERS,
}
INFERENCE = {
    "bundle_root": PATH,
    "input": either(PATH, NULL),
    "dataset_dir": either(PATH, NULL),
    "output_dir": PATH,
    "mask": either(PATH, NULL),
    "output_format": either(one_of("png", "tif"), NULL),
    "direction": one_of("forward", "reverse"),
    "model": PATH,
    "device": DEVICE,
    "window": either(whole(8), NULL),
    "step": either(whole(1), NULL),
    "normalisation": one_of("window", "dense", "specimen"),
    "speed": one_of(*SPEEDS),
    "bone_intensity": either(number(-math.inf), NULL),
    "background_intensity": either(number(-math.inf), NULL),
    "background_rgb": either(numbers("a list of numbers, one a channel", 0), NULL),
    "error_map": either(PATH, NULL),
    "refuse_unlike": SWITCH,
    "invert_source": SWITCH,
    "halo": either(whole(), NULL),
    "multiple": either(whole(1), NULL),
}
VOLUME = {
    **dict.fromkeys(("input", "dataset_dir"), either(PATH, PATHS, NULL)),
    "voxel_um": either(above(0), numbers("three in the order z, y, x", 1e-6, (3,)), NULL),
    "axes": AXES,
    "fusion": one_of("mean", "median"),
    "sigma": number(0, 10),
    "output_format": STAINED,
    "ngff": NGFF,
    "alpha": SWITCH,
    "hull": SWITCH,
    "fill_nan": either(number(-math.inf), NULL),
    "reference_slice": either(whole(), NULL),
    **WORKERS,
}
SLIDE = {
    **{name: INFERENCE[name] for name in ("input", "dataset_dir")},
    "pixel_um": either(above(0), NULL),
    "channels": CHANNELS,
    "tissue": TISSUE,
    "output_format": SLIDES,
    "ngff": NGFF,
    "compression": one_of("jpeg", "lossless"),
    "jpeg_quality": whole(1, 100),
    "viewer": SWITCH,
    **WORKERS,
}
NUCLEI = {
    **{name: TRAIN[name] for name in ("bundle_root", "dataset_dir", "datalist", "output_dir", "device", "seed")},
    "epochs": whole(1),
    "steps_per_epoch": whole(1),
    "batch_size": whole(1),
    "patch_size": whole(8),
    "foreground": number(0, 1),
    "rays": whole(3),
    "grid": one_of(1, 2, 4),
    "ray_unit_px": above(0),
    "width": whole(1),
    "learning_rate": number(0, 1),
    "decay_epochs": whole(),
    "num_workers": either(whole(), NULL),
    "jitter": below(1),
    "noise_std": number(0, 1),
    "lambda_distance": number(),
    "lambda_background": number(),
    "probability_threshold": either(between(0, 1), NULL),
    "nms_threshold": either(between(0, 1), NULL),
    "tune_thresholds": SWITCH,
    "held_out": below(1),
    "window": either(whole(8), NULL),
    "save_minutes": number(),
    "skip_nonfinite": whole(),
    "resume": RESUME,
    "deploy_checkpoint": CHECKPOINT,
    "input": either(PATH, NULL),
    "input_pixel_um": either(above(0), NULL),
    "model_bundle": PATH,
    "pictures": whole(),
}
METHODS = {  # of single overlays in configs/methods
    "levels": whole(1, 8),
    "average": below(1),
    "warmup_epochs": whole(),
    "pair_share": below(1),
    "reach_px": whole(),
    "extremes": number(),
    "air_weight": number(0, 1),
    "air_beside": number(0, 1),
    "air_alone": number(0, 1),
    "skips": SWITCH,
    "lambda_stain": number(),
    "carriers": NAMES,
}
TABLES = {  # an overlay after what it lies over
    "methods": METHODS,
    "nuclei.json": NUCLEI,
    "train.json": TRAIN,
    "evaluate.json": EVALUATE,
    "evaluate_unpaired.json": EVALUATE_UNPAIRED,
    "inference.json": INFERENCE,
    "volume.json": VOLUME,
    "slide.json": SLIDE,
    "series.json": {"sigma": VOLUME["sigma"], "error_map": INFERENCE["error_map"]},
}


def kinds_of(config: Mapping[str, Any]) -> dict[str, Kind]:
    """The kinds of a config's ids; where tables disagree, that of the last one that the config has an id of its own of.

    Args:
        config: overlays and command line included.
    """
    here = []
    for table in TABLES.values():
        others = set().union(*(other for other in TABLES.values() if other is not table))
        here += [table] if (table.keys() - others) & config.keys() else []
    known: dict[str, Kind] = {}
    for table in (*TABLES.values(), *here):
        known |= table
    return {name: kind for name, kind in known.items() if name in config}


def settle(parser: ConfigParser) -> None:
    """Check the values of a config's ids; words such as ``true``, and numerals that are text, become what they mean.

    Nothing of the config but these ids is made.

    Args:
        parser: of the whole config; its ids are changed.

    Raises:
        InputError: with a line for each id whose value is none that it may have.
    """
    config = parser.get()
    kinds = kinds_of(config)
    for name, value in list(config.items()):
        meant = read(value, kinds.get(name))
        if meant is not value:  # to set an id makes MONAI forget what it has made
            parser[name] = meant
    plain = [name for name in kinds if not is_made(config[name])]
    faults = list(filter(None, (fault_of(name, config[name], kinds[name]) for name in plain)))
    if not faults:
        expressions = [name for name in kinds if is_made(config[name]) and isinstance(config[name], str)]
        faults = list(filter(None, (fault_of(name, _value(parser, name), kinds[name]) for name in expressions)))
    if faults:
        raise InputError("\n".join(faults))


def read(value: Any, kind: Kind | None = None) -> Any:
    """A value as its id takes it: true, false and none for the words, a number for a numeral, and a whole one at that.

    Args:
        value: as a file or the command line has it.
        kind: of the id, if that is known.
    """
    if isinstance(value, str) and value in WORDS:
        return WORDS[value]
    if kind is None or not kind.of_numbers:
        return value
    if isinstance(value, str) and NUMERAL.fullmatch(value) and not kind.fits(value):
        value = float(value)
    if isinstance(value, float) and value.is_integer() and not kind.fits(value) and abs(value) < 2**53:
        return int(value)
    return value


def is_made(value: Any) -> bool:
    """Whether a value is an expression, a reference or a component, whose result alone can be checked."""
    return (isinstance(value, str) and value.startswith(CODE)) or (isinstance(value, dict) and "_target_" in value)


def fault_of(name: str, value: Any, kind: Kind) -> str | None:
    """What is wrong with the value of an id, if anything."""
    if kind.fits(value):
        return None
    hint = ""
    if kind is DEVICE:
        import torch  # here, as it takes seconds

        there = ["cpu", *(f"cuda:{place}" for place in range(torch.cuda.device_count()))]
        hint = f" ({', '.join(there)})"
    elif is_number(value) and PATH.what in kind.what:
        hint = f"; write a name of digits alone as ./{value}"
    elif is_number(value) and value > MOST:
        hint = f", and at most {MOST}"
    return f"{name} is {shown(value)}; it must be {kind.what}{hint}."


def _value(parser: ConfigParser, name: str) -> Any:
    """What an expression gives.

    Raises:
        InputError: if it gives nothing.
    """
    try:
        return parser.get_parsed_content(name)
    except (RuntimeError, ValueError, KeyError) as error:  # MONAI wraps what an expression raises in them
        why = repr(list(causes(error))[-1])
        raise InputError(f"{name} is {shown(parser[name])}, which gives no value: {why}") from error
