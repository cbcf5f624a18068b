"""Staining as typed: what goes in, where to, by which trained bundle."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from fire.decorators import SetParseFns

from bundle.commands.inputs import KINDS, SLIDE, SLIDES, VOLUME, WHAT, kind_of
from bundle.commands.monai_run import Run, wanted_path
from bundle.common.errors import InputError

OVERLAYS = {SLIDES: None, VOLUME: "volume.json", SLIDE: "slide.json"}


@SetParseFns(**dict.fromkeys(("input", "output", "bundle", "kind"), str))  # else 01 is a number
def stain(
    input: str,  # noqa: A002  the option's name
    output: str,
    bundle: str,
    kind: str | None = None,
    show: bool = False,
    ids: Sequence[str] = (),
) -> None:
    """Stain an image, a folder of images, a volume or a whole slide.

    What goes in is told by its header: a 2D image; a volume (NIfTI, NRRD, MetaImage, HDF5, a TIFF stack, OME-Zarr,
    a folder with a DICOM series, a URL); a whole slide (a scanner's format, a TIFF with coarser levels). Stopped, the
    same command goes on.

    Args:
        input: what to stain; for a volume of several channels a list, "[dapi.tif, membrane.tif]".
        output: the folder of the results.
        bundle: the trained bundle, RUN/bundle.
        kind: what goes in, where that does not show: slides (2D images, each by itself), volume or slide (a whole
            slide, block by block). A folder of images needs it.
        show: print the line for python -m monai.bundle that does the same, and run nothing.
        ids: words of the config.
    """
    if kind not in (None, *KINDS):
        raise InputError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}.")
    root = wanted_path(bundle, "bundle")
    config = root / "configs" / "inference.json"
    if not config.is_file():
        inside = root / "bundle"
        hint = f"did you mean {inside}?" if (inside / "configs").is_dir() else "name RUN/bundle of a training."
        raise InputError(f"bundle {bundle} has no configs/inference.json; {hint}")
    given = listed(input)
    what = kind or kind_of(given, channels_of(config))
    name = OVERLAYS[what]
    if kind is None:
        print(f"{input} is {one_or_several(what)}; --kind says otherwise", file=sys.stderr)
    files = [config, *([root / "configs" / name] if name else [])]
    missing = [str(each) for each in files if not each.is_file()]
    if missing:
        raise InputError(f"{missing[0]} does not exist; this bundle is of an earlier version: train it again.")
    own = {"bundle_root": bundle, "input": given, "output_dir": output}
    Run("inference", list(map(str, files)), own, ids, tuple(own)).start(show)


def one_or_several(kind: str) -> str:
    """What a kind is, in words."""
    return "a 2D image" if kind == SLIDES else WHAT[kind]


def listed(text: str) -> str | list[str]:
    """A list of paths where one is written, quoted or not; else the path.

    Raises:
        InputError: if a list has no end.
    """
    if not text.startswith("[") or Path(text).exists():
        return text
    if not text.endswith("]"):
        raise InputError(f'input is {text}, a list that the shell has cut; put quotes around it: "[a.tif, b.tif]".')
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        found = text.strip("[]").split(",")
    if not isinstance(found, (list, tuple)):
        return text
    return [str(each).strip() for each in found]


def channels_of(config: Path) -> int:
    """How many channels a trained bundle takes; 1 if it does not say, as every µCT.

    Raises:
        InputError: if its config cannot be read.
    """
    try:
        channels = json.loads(config.read_text(encoding="utf-8"))["source"]["channels"]
    except (OSError, ValueError) as error:
        raise InputError(f"{config} cannot be read: {error}") from error
    except (LookupError, TypeError):
        return 1
    return channels if isinstance(channels, int) else 1
