"""The formats that a stained whole slide is given out in."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bundle.images.stained.spec import OLDEST
from bundle.images.stained_slides.pyramid import Pyramid
from bundle.images.stained_slides.sharded import write_sharded
from bundle.images.stained_slides.spec import SlideSpec


@dataclass(frozen=True)
class Packing:
    """How pixels are compressed, and whose they are.

    Attributes:
        compression: ``jpeg`` or ``lossless``; what is no picture in 8 bits is always packed without loss.
        quality: of JPEG, 1 to 100.
        source: the slide that was stained: a format that has patients takes them from it, if it has any.
        ngff: version of an OME-Zarr, ``0.4``, or ``0.5`` with shards; other formats have none.
    """

    compression: str = "jpeg"
    quality: int = 90
    source: Path | None = None
    ngff: str = OLDEST


class SlideFormat(ABC):
    """A format of stained slides.

    Attributes:
        name: as ``output_format`` gives it.
        suffix: of the file or folder that it makes.
        title: for pages.
    """

    name: str
    suffix: str
    title: str

    def check(self, spec: SlideSpec, packing: Packing) -> None:  # noqa: B027  most hold any
        """Raise an :class:`bundle.common.errors.InputError` if the format cannot hold a slide."""

    @abstractmethod
    def write(self, path: Path, pyramid: Pyramid, packing: Packing, report: Callable[[], None]) -> None:
        """Write a finished pyramid to where nothing is; the same bytes whenever it is written.

        Args:
            path: the file or folder; what stands there is a rest of an earlier try, to be replaced.
            pyramid: all levels of it are there.
            packing: how pixels are compressed.
            report: called after each tile of a level.
        """


FORMATS: dict[str, SlideFormat] = {}  # by name


def register(one: SlideFormat) -> None:
    """Make a format known.

    Raises:
        ValueError: if another has its name.
    """
    if one.name in FORMATS:
        raise ValueError(f"there is a format {one.name} already")
    FORMATS[one.name] = one


class OmeZarr(SlideFormat):
    """The pyramid as it is, with its metadata; packed without loss."""

    name, suffix, title = "ome-zarr", ".ome.zarr", "OME-Zarr"

    def write(self, path: Path, pyramid: Pyramid, packing: Packing, report: Callable[[], None]) -> None:
        """Move it, and an earlier try may have done so; or put its tiles into shards."""
        if packing.ngff != OLDEST:
            write_sharded(path, pyramid, report)
        elif pyramid.folder.exists():
            pyramid.finish()
            os.rename(pyramid.folder, path)


register(OmeZarr())
