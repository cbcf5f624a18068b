"""The run on a slide that a command has, made again by a worker of the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai.bundle import ConfigParser

from bundle.common.work.tasks import Recipe
from bundle.staining.stainer import Stainer
from bundle.staining.whole_slides.outcome import Outcome
from bundle.staining.whole_slides.run import SlideRun

if TYPE_CHECKING:
    from bundle.staining.whole_slides.job import Settings, Slide


@dataclass(frozen=True)
class Facts:
    """What a run is made of besides what its config says, plain JSON.

    Attributes:
        folder: ``output_dir``.
        about: what is made of what, kept in the stain.
        values: of the slide that pictures show from dark to bright; None for all that its type holds.
        origin: what the record says besides.
        stamp: size and time of the slide's file when the run began.
    """

    folder: str
    about: Mapping[str, Any]
    values: tuple[float, float] | None
    origin: Mapping[str, Any]
    stamp: tuple[int, ...]


def run_of(slide: Slide, settings: Settings, stainer: Stainer, facts: Facts, shown: bool) -> SlideRun:
    """A run on a slide.

    Args:
        slide: checked.
        settings: what is made.
        stainer: stains a block.
        facts: the rest.
        shown: whether this process shows how far all are.
    """
    spec, folder = slide.spec(facts.about), Path(facts.folder)
    outcome = Outcome(slide.source, spec, facts.values, settings, stainer.trust, folder, facts.origin)
    return SlideRun(slide.source, stainer, outcome, facts.stamp, shown)


def recipe_of(facts: Facts, config: Mapping[str, Any]) -> Recipe:
    """By which a worker makes it.

    Args:
        facts: of the run.
        config: that the rest is made of, overlays and command line included.
    """
    own = {**vars(facts), "folder": str(Path(facts.folder).absolute())}
    return Recipe(f"{__name__}:made_again", {"config": config, "facts": own})


def made_again(config: dict[str, Any], facts: Mapping[str, Any]) -> SlideRun:
    """What :func:`recipe_of` describes; it shows nothing."""
    parser = ConfigParser(config)
    parser.get_parsed_content("network")  # with its weights, which the stainer's has then
    slide, settings, stainer = (parser.get_parsed_content(name) for name in ("slide", "settings", "stainer"))
    low_high = facts["values"]
    values = None if low_high is None else (low_high[0], low_high[1])
    given = Facts(**{**facts, "values": values, "stamp": tuple(facts["stamp"])})
    return run_of(slide, settings, stainer, given, False)
