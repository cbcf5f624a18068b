"""What a run on a volume is: its settings, and the fingerprint by which it is never taken for another."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bundle.common.atomic import write_json
from bundle.common.errors import InputError
from bundle.common.folder_lock import held
from bundle.common.network_faults import network_fault
from bundle.common.places import is_remote
from bundle.common.run_folder import read_record
from bundle.common.trained_bundle import share_between, value_faults
from bundle.data.datalist import Modality
from bundle.data.load import image_faults
from bundle.images.averaging import blocks
from bundle.images.finite import FILL
from bundle.images.stained.ngff import as_begun, ngff_faults
from bundle.images.stained.spec import OLDEST
from bundle.images.stained.stored import FORMATS, file_name
from bundle.images.volumes.fill import Fill, find_fill, some_places
from bundle.images.volumes.geometry import SAME
from bundle.images.volumes.planes import Collector
from bundle.images.volumes.volume import Volume
from bundle.staining.crate import CRATE, TIME, now

if TYPE_CHECKING:
    import torch

RECORD = "volume.json"  # of a finished run
WORK = ".work"  # what an unfinished run has done so far
ERROR_MAP = "expected_error"
BEGUN = "begun.json"  # in it: the fingerprint, and when the first try began
FULL = (errno.ENOSPC, errno.EDQUOT)
SHOWN = 5  # faults of one kind that are listed
LEAST_PX = 8  # that the network takes


def map_of(stain: Path) -> Path:
    """Where the expected error of a stained volume lies: in one that is a folder, beside any other."""
    return stain / ERROR_MAP if stain.name.endswith(".zarr") else stain.with_name(f"{ERROR_MAP}.ome.zarr")


@dataclass(frozen=True)
class Settings:
    """Ids of ``volume.json`` that say what is made.

    Attributes:
        axes: across which slices are stained: ``z``, or several of ``z``, ``y``, ``x``.
        fusion: how several become one: ``mean``, or ``median`` of three.
        sigma: of the 3D Gaussian before, voxels.
        output_format: of the stained volume, one of :data:`bundle.images.stained.stored.FORMATS`.
        alpha: add a fourth channel, the inverted mean of RGB (§2.11).
        hull: set what is outside the sample to ``background_rgb``, and skip windows that lie there.
        ngff: version of an OME-Zarr, ``0.4`` or ``0.5``, as text or as the number that a command line makes of it.
    """

    axes: str
    fusion: str
    sigma: float
    output_format: str
    alpha: bool
    hull: bool
    ngff: str | float = OLDEST

    def __post_init__(self) -> None:
        object.__setattr__(self, "ngff", str(self.ngff))

    def described(self) -> dict[str, Any]:
        """What of a run's fingerprint they are."""
        return as_begun(vars(self))

    def faults(self) -> list[str]:
        """What of them is wrong, a line each; but for the format, each alone is checked when a run starts."""
        faults = []
        if self.output_format not in FORMATS:
            faults.append(f"output_format is {self.output_format!r}; it must be one of {', '.join(sorted(FORMATS))}.")
        else:
            faults += ngff_faults(str(self.ngff), self.output_format)
        if self.fusion == "median" and len(self.axes) != 3:
            faults.append(f"fusion is 'median' but axes is {self.axes!r}; a median needs all three: --axes zyx.")
        return faults


def scan_faults(volume: Volume, settings: Settings) -> list[str]:
    """What of a scan's shape does not go with the settings, a line each."""
    faults = []
    sizes = dict(zip("zyx", volume.shape, strict=True))
    spacing_um = dict(zip("zyx", volume.geometry.spacing_um, strict=True))
    for axis in settings.axes:
        across = [name for name in "zyx" if name != axis]
        if min(sizes[name] for name in across) < LEAST_PX:
            found = "×".join(str(sizes[name]) for name in across)
            faults.append(f"{volume.path}: slices across {axis} are {found} px; the network needs at least 8×8.")
        one, other = (spacing_um[name] for name in across)
        if max(one, other) > min(one, other) * (1 + SAME):
            faults.append(
                f"{volume.path}: slices across {axis} have pixels of {one:g}×{other:g} µm; the network needs square "
                "ones, so resample the scan, or stain other axes."
            )
    return faults


def survey(
    volume: Volume,
    given: Modality,
    levels: tuple[float, float] | None = None,
    report: Callable[[int, int], None] | None = None,
    collectors: Sequence[Collector] = (),
) -> tuple[str, tuple[float, float], Fill | None, list[str]]:
    """Read a whole scan once: nothing that it holds stops a run hours later, and another scan is known for another.

    Args:
        volume: the scan, or a channel of it.
        given: the values that it may hold.
        levels: bone and background in it; None where the dataset declared none.
        report: called with the slices read and the slices in all.
        collectors: take in its slabs (D, Y, X) as they go by.

    Returns:
        SHA-256 of its voxels and geometry, its least and greatest value, what fills it up outside its circle, and a
        line if it is flat: if all its values lie outside ``levels``, say. Of several channels one may well be.

    Raises:
        InputError: naming the first slice that cannot be read, or the slices with values that may not be.
    """
    digest = hashlib.sha256(repr((volume.shape, volume.dtype.str)).encode())
    digest.update(repr((volume.geometry.spacing_um, volume.geometry.origin_mm)).encode())
    digest.update(np.asarray(volume.geometry.direction, np.float64).tobytes())
    faults: list[str] = []
    low, high, between = np.inf, -np.inf, 0.0
    places, seen = set(some_places(volume.shape[0])), []
    for start, stop in blocks(volume.shape[0], volume.shape[1] * volume.shape[2], volume.depth):
        slab = volume.read(start, stop)
        digest.update(slab.data)
        for number, pixels in enumerate(slab, start):
            faults += image_faults(f"{volume.path}, slice {number},", pixels[None], replace(given, channels=1))
            seen += [pixels.copy()] if number in places else []
        low, high = min(low, float(slab.min())), max(high, float(slab.max()))
        between += share_between(slab, levels) * len(slab) if levels else 0.0
        for collector in collectors:
            collector.add(start, slab)
        if report:
            report(stop, volume.shape[0])
    if faults:
        rest = [f"… and {len(faults) - SHOWN} more slices."] if len(faults) > SHOWN else []
        if volume.dtype.kind == "f" and any("NaN" in fault for fault in faults):
            rest.append(f"{FILL}.")
        if given.bone_intensity is not None:
            rest.append(
                "If these are the scan's own units, pass --bone_intensity and --background_intensity; "
                "python -m scripts.intensities finds them."
            )
        raise InputError("\n".join(faults[:SHOWN] + rest))
    span = given.high - given.low
    flat = value_faults(str(volume.path), low, high, between / volume.shape[0], levels, span)
    return digest.hexdigest(), (low, high), find_fill(np.stack(seen)), flat


def begin(
    output_dir: Path,
    fingerprint: Mapping[str, Any],
    scan: str,
    record: str = RECORD,
    made: str | None = None,
    started: str | None = None,
) -> bool:
    """Claim an output folder for what a fingerprint describes.

    Args:
        output_dir: the folder; made if it is not there.
        fingerprint: all that the result depends on, plain JSON.
        scan: the file of the scan or slide, for messages.
        record: name of the record of a finished run.
        made: name of the result; None for that of a volume.
        started: of :func:`first_start`, kept for those who go on; None for now.

    Returns:
        Whether the result is there already.

    Raises:
        InputError: if the folder holds something else: it names what differs.
    """
    finished, begun = output_dir / record, output_dir / WORK / BEGUN
    plain = json.loads(json.dumps(fingerprint))
    for path in (finished, begun):
        if not path.exists():
            continue
        content = read_record(path)
        there = content.get("fingerprint")
        if not isinstance(there, dict):
            raise InputError(f"{path} does not say what is there; remove it, or choose another --output_dir.")
        different = [name for name in {**there, **plain} if there.get(name) != plain.get(name)]
        if "speed" in different and "arithmetic" in different:
            different.remove("arithmetic")  # follows from it
        if different:
            one, other = (
                {"ngff": OLDEST, **there, "scan": content.get("input")},
                {"ngff": OLDEST, **plain, "scan": scan},
            )
            told = "; ".join(f"{name}: {_short(one.get(name))}, now {_short(other.get(name))}" for name in different)
            kind = "a stain" if path == finished else "an unfinished stain"
            raise InputError(
                f"output_dir {output_dir} holds {kind} made of other things ({told}); choose another --output_dir, "
                f"or remove it to begin anew."
            )
        return path == finished
    for name in (made or file_name(str(plain["output_format"])), CRATE):
        if (path := output_dir / name).exists():
            raise InputError(f"{path} is there, but no {record} that says what it is; choose another --output_dir.")
    write_json(begun, {"fingerprint": plain, "input": scan, "started": started or now()})
    return False


def first_start(output_dir: Path) -> str:
    """When the first try of an unfinished run began, as records have it; now, if there is none.

    Args:
        output_dir: the folder of the run.

    Raises:
        InputError: if what the first try left cannot be read.
    """
    begun = output_dir / WORK / BEGUN
    told = read_record(begun).get("started") if begun.exists() else None
    try:
        datetime.strptime(str(told), TIME)
    except ValueError:  # an earlier version wrote none
        return now()
    return str(told)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:12]}…"


def check_place(output_dir: Path, settings: Settings) -> None:
    """Raise an :class:`InputError` if a folder is such as a format cannot be written into."""
    if is_remote(output_dir) and not FORMATS[settings.output_format].remote:
        fit = " or ".join(name for name, each in sorted(FORMATS.items()) if each.remote)
        raise InputError(
            f"output_format is {settings.output_format!r}, which is written on a disk only, not to {output_dir}; "
            f"write {fit}, or name a folder on a disk and copy the file."
        )


def room_faults(output_dir: Path, needed: int) -> list[str]:
    """A line if a folder's disk has not the bytes that a run will certainly write."""
    if is_remote(output_dir):  # a bucket has no end that could be asked for
        return []
    free = shutil.disk_usage(output_dir).free
    if free >= needed:
        return []
    return [f"output_dir {output_dir} has {free / 1e9:.1f} GB free, but this needs {needed / 1e9:.1f} GB; make room."]


def own_device() -> torch.device:
    """The GPU of this process under ``torchrun``, the first one without; the CPU where there is none."""
    import torch  # here, as it takes seconds

    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


@contextmanager
def sole(folder: Path) -> Iterator[None]:
    """Keep a second command out of an output folder; the lock is gone with the process, and with :data:`WORK`.

    Raises:
        InputError: if another process is at work in it.
    """
    if is_remote(folder):  # which has no locks
        yield
        return
    busy = f"output_dir {folder} is in the hands of a run that is at work"
    way = (
        "wait for its end, or choose another --output_dir; to share its work, stop it and start it with --workers N or "
        "--cluster."
    )
    with held(folder / WORK, busy, way):
        yield


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn a full disk and Ctrl-C into one line each; what is done stays in any case."""
    again = "what is done is kept, and the same command goes on from there"
    try:
        yield
    except KeyboardInterrupt:
        print(f"\nstopped; {again}", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if is_remote(folder) and (fault := network_fault(error, str(folder))):
            raise fault from error
        if not isinstance(error, OSError) or error.errno not in FULL:
            raise
        raise InputError(f"the disk of output_dir {folder} is full ({error.strerror}); make room: {again}.") from error


def reference_in_words(reference: Mapping[str, Any]) -> str:
    """What a record holds of a reference, in one line."""
    top, left, height, width = reference["region"]
    where = f"slice {reference['slice']} across {reference['axis']}, {height}×{width} px at {top}, {left}"
    if "asked" in reference:
        where = f"{where}, as asked for"
    if "distance" not in reference:
        return where
    usual = "too few to say how far is far"
    if reference["usual"] is not None:
        usual = f"which usually lie {reference['usual']:.1f} apart"
    unlike = "; it is unlike all of them, and the stain may be wrong" if reference["unlike"] else ""
    return f"{where}: {reference['distance']:.1f} from the nearest section of the training, {usual}{unlike}"
