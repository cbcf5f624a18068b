"""What the record of a stain says of where not to believe it, and what is made of that beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.common.checks import sha256_of
from bundle.common.run_folder import read_record
from bundle.common.trained_bundle import LIKENESS
from bundle.common.verdicts import DOUBTFUL, NEITHER, NO_ERROR_MAP, UNLIKE, in_words, mostly_unlike
from bundle.hospital.objects.made import Made
from bundle.hospital.objects.parametric import Numbers, write_map
from bundle.hospital.objects.segments import write_segments
from bundle.images.dicom.source import Source
from bundle.images.stained.number_map import open_map
from bundle.images.stained.stored import file_name
from bundle.staining.job import RECORD, map_of

ERROR_MAP = "models/error_map.pt"
CUBE = 4  # voxels a side, of what the error map has a number of: CELL of bundle.networks.cells, which loads PyTorch
MOST, SHOWN = 255.0, 64.0  # levels
LEVEL = "{level}", "level of 255"  # UCUM has no unit for it; what is in braces is text to it


@dataclass(frozen=True)
class Doubts:
    """About one stain.

    Attributes:
        folder: of the stained volume and its record.
        likeness: of its slices across z, see :func:`bundle.common.verdicts.summary`; None where it is not known.
        error: of its error map: result, bound and level; None where there is none.
    """

    folder: Path
    likeness: Mapping[str, Any] | None
    error: Mapping[str, Any] | None

    @property
    def words(self) -> str:
        """How like the training data the scan is, in one line; empty where that is not known."""
        return "" if self.likeness is None else in_words(self.likeness)

    @property
    def unlike(self) -> bool:
        """Whether the scan is unlike the training data."""
        return self.likeness is not None and mostly_unlike(self.likeness)

    @property
    def missing(self) -> str:
        """What is not known, in one line; empty if nothing is missing."""
        if self.error is not None:
            return ""
        return NEITHER if self.likeness is None else NO_ERROR_MAP

    def write_error(self, folder: Path, source: Source, made: Made, kind: str) -> None:
        """Write the error map as Parametric Map, if there is one.

        Args:
            folder: where to.
            source: the scan.
            made: the model.
            kind: of :func:`map_kind`.
        """
        if self.error is None:
            return
        error = open_map(map_of(self.folder / file_name("ome-zarr")))
        words = f"Expected error, levels of 255; x {self.error['bound']:.4g} holds for {self.error['level']:.0%}"
        numbers = Numbers(kind, "expected error", words, LEVEL, MOST, SHOWN, CUBE)
        everywhere = slice(None)
        write_map(
            folder,
            source,
            lambda start, stop: error.read((slice(start, stop), everywhere, everywhere))[..., 0],
            made,
            numbers,
        )

    def write_segments(self, folder: Path, source: Source, made: Made, kind: str) -> None:
        """Write the slices that are doubtful, and those that are unlike the training data, if there are any.

        Args:
            folder: where to.
            source: the scan.
            made: the model.
            kind: of :func:`segments_kind`.
        """
        if self.likeness is not None:
            write_segments(folder, source, made, kind, {word: self.likeness[word] for word in (DOUBTFUL, UNLIKE)})


def read_doubts(folder: Path) -> Doubts:
    """What the record of a stained volume says.

    Args:
        folder: of the volume.
    """
    path = folder / RECORD
    record = read_record(path) if path.is_file() else {}
    return Doubts(folder, record.get("likeness", {}).get("z"), record.get("expected_error"))


def map_kind(bundle_root: Path) -> str | None:
    """Kind of a model's error maps, for UIDs: another for another calibration; None if it makes none."""
    digest = sha256_of(bundle_root / ERROR_MAP)
    return None if digest is None else f"expected error {digest}"


def segments_kind(bundle_root: Path) -> str:
    """Likewise, of what it marks as doubtful."""
    return f"doubtful {sha256_of(bundle_root / LIKENESS)}"
