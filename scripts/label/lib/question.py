"""What a client may ask: known parameters of known kinds, and nothing that becomes part of a config or a path.

MONAI Label itself hands every parameter on: its ``device`` is evaluated by the config parser, its ``model_filename``
names any file, its ``image`` is any path of the server.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lib.colour import WRITERS
from monailabel.utils.others.generic import device_list

from bundle.common.errors import InputError

LEVELS = ("bone_intensity", "background_intensity")
OURS = (*LEVELS, "device", "result_extension")
# what MONAI Label, Slicer and OHIF send along
THEIRS = ("model", "image", "session", "label", "description", "logging", "save_label", "label_tag", "client_id")
THEIRS += ("result_dtype", "result_compress", "result_write_to_file", "label_info", "labels", "timeout", "max_workers")
THEIRS += ("images", "max_batch_size", "multi_gpu", "gpus", "_id", "_image_id")


def checked(request: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a request, as numbers and names of a list.

    Args:
        request: as the client sent it.
        defaults: of this server, for what the request leaves out: of ``LEVELS``.

    Returns:
        ``OURS``, each with a value; an intensity may be None.

    Raises:
        InputError: if a parameter is unknown or has a value that it cannot have.
    """
    for name in request:
        if name not in OURS + THEIRS:
            near = difflib.get_close_matches(name, OURS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(OURS)}."
            raise InputError(f"{name[:64]!r} is no parameter; {hint}")
    return {
        **{name: number(name, request.get(name, defaults[name])) for name in LEVELS},
        "device": _device(request.get("device")),
        "result_extension": _extension(request.get("result_extension")),
    }


def number(name: str, value: Any) -> float | None:
    """An intensity, as a request or the command line gives it; None if it does not.

    Raises:
        InputError: if it is no finite number.
    """
    if value in (None, ""):
        return None
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise InputError(f"{name} is {str(value)[:64]!r}; it must be a number, the mean grey value in the scan.")
    return found


def _device(value: Any) -> str:
    known: Sequence[str] = device_list()
    name = known[0] if value in (None, "", []) else value
    if not isinstance(name, str) or not (name in known or re.fullmatch(r"cpu|cuda(:\d+)?", name)):
        raise InputError(f"device is {str(value)[:64]!r}; it must be one of {', '.join(known)}.")
    return name


def _extension(value: Any) -> str:
    name = next(iter(WRITERS)) if value in (None, "", []) else value
    if name not in WRITERS:
        raise InputError(f"result_extension is {str(value)[:64]!r}; it must be one of {', '.join(WRITERS)}.")
    return name
