"""What a run on a slide leaves in its folder: the stain, the error to expect of it, a page and a record."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bundle.common.atomic import write_json
from bundle.common.checks import listed
from bundle.common.errors import InputError
from bundle.common.run_folder import read_record
from bundle.common.verdicts import UNLIKE, Verdict, in_words, summary
from bundle.images.channel_slides import Scan
from bundle.images.stained_slides.known import FORMATS, SlideFormat
from bundle.images.stained_slides.pyramid import TILE, Pyramid
from bundle.images.stained_slides.spec import SlideSpec
from bundle.networks.cells import CELL, cells_of
from bundle.staining.crate import now, write_crate
from bundle.staining.error_layer import LABEL, SHOWN
from bundle.staining.job import BEGUN, ERROR_MAP, WORK
from bundle.staining.progress import bar
from bundle.staining.trust import Trust
from bundle.staining.whole_slides.page import PAGE, TILES, write_page
from bundle.staining.whole_slides.pictures import source_pictures
from bundle.staining.whole_slides.source import SlideSource

if TYPE_CHECKING:
    from bundle.staining.whole_slides.job import Settings

RECORD = "slide.json"  # of a finished run
COUNTED = ("seconds", "reading_seconds", "windows", "windows_skipped", "tissue_px")


@dataclass(frozen=True)
class Outcome:
    """Of one slide.

    Attributes:
        source: the slide.
        spec: of the stain.
        shown: values of the slide that its pictures show from dark to bright; None for all that its type holds.
        settings: what is made.
        trust: what the model knows of where to believe it.
        folder: ``output_dir``.
        origin: what the record says besides, plain JSON.
    """

    source: SlideSource
    spec: SlideSpec
    shown: tuple[float, float] | None
    settings: Settings
    trust: Trust
    folder: Path
    origin: Mapping[str, Any]

    @property
    def work(self) -> Path:
        """What is done so far."""
        return self.folder / WORK

    @property
    def made(self) -> Path:
        """What is ready to be moved to the folder."""
        return self.work / "made"

    @cached_property
    def stain(self) -> Pyramid:
        """The stain, while it is being made."""
        return Pyramid(self.work / "stain.zarr", self.spec)

    @cached_property
    def error(self) -> Pyramid | None:
        """What error is expected, in cells of 4×4 px; None where the model has no error map."""
        if self.trust.calibration is None:
            return None
        spec = replace(
            self.spec,
            name=ERROR_MAP,
            shape=(cells_of(self.spec.shape[0]), cells_of(self.spec.shape[1])),
            kind=np.dtype("<f4"),
            pixel_um=self.spec.pixel_um * CELL,
            channel_names=(LABEL,),
            rgb=False,
            background=(float("nan"),),
            shown=(0.0, float(np.ceil(SHOWN * self.trust.calibration.mean))),
            about={**self.spec.about, "expected_error": self.trust.bound},
        )
        return Pyramid(self.work / "error.zarr", spec)

    @property
    def pyramids(self) -> dict[str, Pyramid]:
        """Those that are made, by what they are."""
        return {"stain": self.stain, **({} if self.error is None else {"error": self.error})}

    @cached_property
    def results(self) -> dict[str, tuple[str, SlideFormat]]:
        """Name and format of each; a format that holds no expected error leaves it to OME-TIFF."""
        own = FORMATS[self.settings.output_format]
        results = {"stain": (f"stained{own.suffix}", own)}
        if self.error is not None:
            try:
                own.check(self.error.spec, self.settings.packing(self.source.path))
            except InputError:
                own = FORMATS["ome-tiff"]
            results["error"] = (f"{ERROR_MAP}{own.suffix}", own)
        return results

    def see_free(self) -> None:
        """See that a run which has not begun will replace nothing that is not its own.

        Raises:
            InputError: if a file or folder has the name of one that it makes.
        """
        if (self.work / BEGUN).exists():
            return
        names = [*(name for name, _ in self.results.values()), *((PAGE, TILES) if self.settings.viewer else ())]
        there = [name for name in names if (self.folder / name).exists() or (self.folder / name).is_symlink()]
        if there:
            raise InputError(
                f"output_dir {self.folder} holds {listed(there)}, but no {RECORD} that says what that is; choose "
                "another --output_dir."
            )

    def write(self, shown: bool) -> None:
        """Write finished pyramids in their formats.

        Args:
            shown: whether this process shows how far it is.
        """
        self.made.mkdir(exist_ok=True)
        for what, (name, own) in self.results.items():
            pyramid = self.pyramids[what]
            with bar(f"writing {name}", "tile", shown) as report:
                own.write(self.made / name, pyramid, self.settings.packing(self.source.path), counted(report, pyramid))

    def show(self, scan: Scan, blocks: Sequence[Mapping[str, Any]], once: Mapping[str, Any], shown: bool) -> None:
        """Make the page.

        Args:
            scan: the slide, open, on the grid of the stain.
            blocks: what is remembered of each.
            once: what is remembered besides.
            shown: whether this process shows how far it is.
        """
        ready = {what: self.made / name for what, (name, _) in self.results.items()}
        pyramids = {  # an OME-Zarr is the pyramid itself
            what: replace(pyramid, folder=ready[what])
            if ready[what].is_dir() and not pyramid.folder.exists()
            else pyramid
            for what, pyramid in self.pyramids.items()
        }
        with bar("pictures", "tile", shown) as report:
            pictures = source_pictures(self.source.facts, scan, self.shown)
            write_page(self.made, self.record(blocks, once), pictures, pyramids["stain"], pyramids.get("error"), report)

    def finish(self, blocks: Sequence[Mapping[str, Any]], once: Mapping[str, Any]) -> None:
        """Move what is made to the folder, and say there what it is.

        Raises:
            InputError: if any of it is not there.
        """
        names = [name for name, _ in self.results.values()] + ([PAGE, TILES] if self.settings.viewer else [])
        for name in names:
            if not any((place / name).exists() for place in (self.made, self.folder)):
                raise InputError(f"{self.made / name} is missing; remove {self.work} and stain anew.")
        for path in sorted(self.made.glob("*")):  # some of them an earlier try may have moved
            if not path.name.startswith("."):  # else a rest of one that was killed
                os.rename(path, self.folder / path.name)
        record = {**self.record(blocks, once), "ended": now()}
        titles = {"stain": "the stained slide", "error": "the error to expect of the stain"}
        parts = {name: f"{titles[what]}, {own.title}" for what, (name, own) in self.results.items()}
        write_crate(self.folder / RECORD, record, {**parts, PAGE: "both slides on a page", TILES: "what it shows"})
        write_json(self.folder / RECORD, record)

    def record(self, blocks: Sequence[Mapping[str, Any]], once: Mapping[str, Any]) -> dict[str, Any]:
        """What is known of the stain, plain JSON."""
        spent = {name: round(sum(block.get(name, 0) for block in blocks), 2) for name in COUNTED}
        results = {what: name for what, (name, _) in self.results.items()}
        record = {**self.spec.about, **self.origin, "result": results["stain"], "spent": spent, **once}
        judged = [(block["place"], verdict) for block in blocks if (verdict := self.verdict(block)) is not None]
        if judged:
            unlike = [place for place, verdict in judged if verdict.word == UNLIKE]
            record["likeness"] = {"blocks": summary(verdict for _, verdict in judged)["slices"], "unlike": unlike}
        if "error" in results:
            record["expected_error"] = {"result": results["error"], **self.trust.bound}
        return record

    def verdict(self, block: Mapping[str, Any]) -> Verdict | None:
        """How like the training a block is, of what is remembered of it."""
        known = self.trust.likeness is not None and "distance" in block
        return self.trust.likeness.verdict(block["distance"]) if known else None  # type: ignore[union-attr]

    def is_unlike(self, block: Mapping[str, Any]) -> bool:
        """Whether it is unlike the training, so that no error can be expected of it."""
        verdict = self.verdict(block)
        return verdict is not None and verdict.word == UNLIKE


def counted(report: Callable[[int, int], None], pyramid: Pyramid) -> Callable[[], None]:
    """What is called after each tile of a pyramid, of what takes the tiles done and those in all."""
    total = sum(-(-height // TILE) * -(-width // TILE) for height, width in pyramid.spec.levels)
    done = itertools.count(1)
    return lambda: report(next(done), total)


def tell(folder: Path) -> None:
    """Say what was made, and where it is.

    Args:
        folder: of a finished run.
    """
    record = read_record(folder / RECORD)
    spent = record["spent"]
    skipped = f"; {spent['windows_skipped']:.0f} more held no tissue" if spent["windows_skipped"] else ""
    print(f"{spent['windows']:.0f} windows in {spent['seconds']:.0f} s of computing, summed over processes{skipped}")
    if "likeness" in record:
        print(in_words({"slices": record["likeness"]["blocks"], "unlike": [], "doubtful": []}, "blocks"))
    for name in (record["result"], record.get("expected_error", {}).get("result"), PAGE):
        if name and (folder / name).exists():
            print(folder / name)
