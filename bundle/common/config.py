"""What a config needs to know of itself: the ids it defines, and their values."""

from __future__ import annotations

import difflib
import inspect
import json
import logging
import warnings
from typing import Any

import torch
from monai.bundle import ConfigParser

from bundle.common.errors import InputError, plain_errors
from bundle.common.ids import TABLES, settle
from bundle.common.notice import explain
from bundle.common.openmp import wait_asleep
from bundle.common.processes import first_to_fail, is_main

# Ids that nothing in a config refers to, because MONAI or a program that runs bundles asks for them.
ENTRY_POINTS = {
    *("bundle_root", "device", "dataset_dir", "initialize", "run", "finalize", "imports"),
    *("training", "train", "evaluation", "inference", "evaluator", "dataset", "network_def"),
    *("preprocessing", "inferer", "postprocessing", "handlers", "model", "displayable_configs"),
    *("g_xy", "g_yx", "d_x", "d_y", "decay_epochs"),  # a method may have no use for one
    *("output_dir", "save_execute_config", "_meta_"),
}


def current_parser() -> ConfigParser:
    """The parser of the config that is being evaluated.

    MONAI hands a component its arguments and nothing else, so the parser is found on the call stack.

    Raises:
        RuntimeError: when called from anywhere but a config.
    """
    frame = inspect.currentframe()
    while frame is not None:
        parser = frame.f_locals.get("self")
        if isinstance(parser, ConfigParser):
            return parser
        frame = frame.f_back
    raise RuntimeError("no config is being evaluated; call this from a config's run or initialize.")


def start() -> None:
    """First step of every run: refuse mistyped ids and wrong values, print faults as single lines from here on.

    And threads that wait for each other shall sleep, see :func:`bundle.common.openmp.wait_asleep`.

    Raises:
        InputError: if the config or the command line sets an id that nothing uses, or to what it may not be.
    """
    plain_errors(first_to_fail)
    if is_main():
        explain("above")
    wait_asleep()
    no_codec_notes()
    parser = current_parser()
    unknown = unknown_ids(parser.get())
    if unknown:
        raise InputError("\n".join(unknown))
    settle(parser)


def no_codec_notes() -> None:
    """Let MONAI say nothing of a GPU's codec for DICOM that is not installed: no scan here needs it."""
    warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)


def unknown_ids(config: dict[str, Any]) -> list[str]:
    """Top-level ids that no part of a config refers to, which MONAI would ignore in silence.

    Args:
        config: a parsed config, overlays and command line included.

    Returns:
        A line for each, with the nearest id that is used.
    """
    text = {key: json.dumps(value, default=str) for key, value in config.items()}
    used = {key for key in config if key in ENTRY_POINTS or _is_referred_to(key, text)}
    lines = []
    for key in sorted(set(config) - used):
        nearest = difflib.get_close_matches(key, sorted(used), n=1, cutoff=0.5)
        nearest = nearest or [name for name in sorted(used) if name.startswith(f"{key}_")]
        hint = f"did you mean {nearest[0]!r}?" if nearest else "see docs/configuration.md for the ids there are."
        if not nearest and any(key in table for table in TABLES.values()):
            hint = (
                "others of ours have it. If this is a trained bundle of an earlier version, its training command with "
                "--resume changed writes it anew."
            )
        lines.append(f"{key!r} is not an id of this config; {hint}")
    return lines


def _is_referred_to(key: str, text: dict[str, str]) -> bool:
    pattern = [f"{mark}{key}{end}" for mark in "@%" for end in ('"', " ", "#", ":", ".", ")", "]", ",", "[", "\\", "+")]
    return any(mark in value for other, value in text.items() if other != key for mark in pattern)


def resolved(identifier: str) -> Any:
    """An item of the current config as plain JSON, every reference in it replaced by its value.

    Args:
        identifier: for example ``g_xy``.

    Returns:
        Dictionaries, lists, strings, numbers; components are described, not made.
    """
    parser = current_parser()
    return _plain(parser, identifier, parser.get(identifier))


def _plain(parser: ConfigParser, identifier: str, item: Any) -> Any:
    if isinstance(item, dict):
        return {key: _plain(parser, f"{identifier}#{key}", value) for key, value in item.items()}
    if isinstance(item, list):
        return [_plain(parser, f"{identifier}#{place}", value) for place, value in enumerate(item)]
    if isinstance(item, str) and item[:1] in "@$":
        value = parser.get_parsed_content(identifier)
        return str(value) if isinstance(value, torch.device) else value
    return item


def merged_config() -> dict[str, Any]:
    """The current config with its overlays and command line, as it can be saved and run again."""
    return {key: value for key, value in current_parser().get().items() if key != "_meta_"}
