"""The run on a volume that a command has, made again by a worker of the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai.bundle import ConfigParser

from bundle.common.places import place
from bundle.common.work.tasks import Recipe
from bundle.staining.run import Run


def recipe_of(run: Run, config: Mapping[str, Any]) -> Recipe:
    """By which a worker makes it.

    Args:
        run: of this process.
        config: that it was made of, overlays and command line included.
    """
    own = {name: getattr(run, name) for name in ("levels", "about", "record", "reference_slice")}
    return Recipe(f"{__name__}:made_again", {"config": config, "folder": str(run.folder.absolute()), **own})


def made_again(
    config: dict[str, Any],
    folder: str,
    levels: Sequence[float] | None,
    about: Mapping[str, Any],
    record: Mapping[str, Any],
    reference_slice: int | None,
) -> Run:
    """What :func:`recipe_of` describes; it shows nothing."""
    parser = ConfigParser(config)
    parser.get_parsed_content("network")  # with its weights, which the stainer's has then
    volume, settings, stainer = (parser.get_parsed_content(name) for name in ("scan", "settings", "stainer"))
    known = None if levels is None else (levels[0], levels[1])
    return Run(volume, settings, stainer, known, place(folder), about, record, False, reference_slice)
