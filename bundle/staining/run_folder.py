"""One volume being stained in one folder: what is read, and what lies where until it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bundle.common.atomic import read_array
from bundle.common.places import is_remote
from bundle.common.work.tasks import Marks
from bundle.images.stained import stored
from bundle.images.stained.spec import StainSpec
from bundle.images.stained.stored import DEPTH
from bundle.images.volumes.volume import Volume
from bundle.staining.error_layer import ErrorLayer
from bundle.staining.hull import Hull
from bundle.staining.job import RECORD, WORK, Settings
from bundle.staining.progress import slabs_of
from bundle.staining.slices import ErrorStore, SliceStore
from bundle.staining.source import Bricks, Slabs, SmoothedScan
from bundle.staining.stainer import Stainer
from bundle.staining.stripes import BoxStore


@dataclass(frozen=True)
class RunFolder:
    """What a run on a volume reads, and where it keeps what.

    Attributes:
        channels: of the scan.
        settings: what is made.
        stainer: stains a slice.
        levels: grey values of bone and background in the scan, where it has a sample hull.
        folder: ``output_dir``.
        about: what is made of what, kept in the stained volume; plain JSON, the same whenever it is made.
        record: the same and more, kept beside it.
        shown: whether this process shows how far all are.
        reference_slice: whose statistics all is stained with, where that is not looked for.
        report: called after each slice.
    """

    channels: Sequence[Volume]
    settings: Settings
    stainer: Stainer
    levels: tuple[float, float] | None
    folder: Path
    about: Mapping[str, Any]
    record: Mapping[str, Any]
    shown: bool = True
    reference_slice: int | None = None
    report: Callable[[], None] = lambda: None

    @property
    def volume(self) -> Volume:
        """The first channel, where one must do."""
        return self.channels[0]

    @property
    def work(self) -> Path:
        """What is done so far."""
        return self.folder / WORK

    @property
    def result(self) -> str:
        """The name of the stained volume."""
        return stored.file_name(self.settings.output_format)

    @property
    def made(self) -> Path:
        """The stained volume while it is made: in an object store, where nothing is renamed, at its place."""
        return (self.folder if is_remote(self.folder) else self.work) / self.result

    @cached_property
    def spec(self) -> StainSpec:
        """What is written."""
        channels = 4 if self.settings.alpha else 3
        ngff = str(self.settings.ngff)
        return StainSpec(self.volume.shape, channels, self.volume.geometry, dict(self.about), ngff)

    @cached_property
    def store(self) -> SliceStore:
        """Where stained slices are until they are joined."""
        return SliceStore(self.work / "slices", self.volume.shape)

    @cached_property
    def layer(self) -> ErrorLayer:
        """What is left besides the stain."""
        store = ErrorStore(self.work / "errors", self.volume.shape)
        return ErrorLayer(self.stainer.trust, self.spec, self.made, self.settings.axes, store)

    @cached_property
    def boxes(self) -> BoxStore:
        """What of scan, stains and hull their stripes are measured by; kept when a slab is in memory."""
        return BoxStore(self.work / "boxes")

    @cached_property
    def direct(self) -> bool:
        """Whether slices come from the scan itself; across other axes than z they come from a smoothed copy."""
        return self.settings.axes == "z"

    @property
    def sources(self) -> Sequence[Slabs]:
        """What slices are stained of, by channel."""
        return self.smoothed if self.direct else self.bricks

    @cached_property
    def smoothed(self) -> list[SmoothedScan]:
        """The channels after the Gaussian."""
        return [SmoothedScan(channel, self.settings.sigma) for channel in self.channels]

    @cached_property
    def bricks(self) -> list[Bricks]:
        """Their copies on disk."""
        places = range(len(self.channels))
        return [Bricks(self.work / f"smoothed{place or ''}.zarr", self.volume.shape) for place in places]

    @cached_property
    def hull(self) -> Hull | None:
        """Where the sample is; None for everywhere."""
        return Hull(read_array(self.work / "hull.npy")) if self.settings.hull else None

    @property
    def measured(self) -> list[str]:
        """What stripes are measured of: the stain across each axis, and what is made of several."""
        axes = self.settings.axes
        return [f"stained across {axis}" for axis in axes] + ([self.settings.fusion] if len(axes) > 1 else [])

    @cached_property
    def slabs(self) -> dict[str, tuple[str, int, int]]:
        """What each staining task stains."""
        return slabs_of(self.volume.shape, self.settings.axes, DEPTH)

    @cached_property
    def along_z(self) -> dict[str, tuple[str, int, int]]:
        """What is smoothed and joined together."""
        return slabs_of(self.volume.shape, "z", DEPTH)

    @cached_property
    def marks(self) -> Marks:
        """What is done."""
        return Marks(self.work / "steps", (self.folder / RECORD).exists)
