"""One series: found, fetched, stained, and stored beside itself; a rerun goes on, or finds that all is done."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydicom import dcmread

from bundle.common.atomic import whole_folder
from bundle.common.errors import InputError
from bundle.common.folder_lock import LOCK, held
from bundle.common.trained_bundle import fingerprint
from bundle.common.verdicts import REFUSED
from bundle.hospital.objects.colour import KINDS, WRITERS
from bundle.hospital.objects.made import Made, judged_by, made
from bundle.hospital.pacs.audit import Audit, size_and_sha256
from bundle.hospital.pacs.doubts import CUBE, Doubts, map_kind, read_doubts, segments_kind
from bundle.hospital.pacs.expected import Listed, as_listed, expected_uids, map_uids
from bundle.hospital.pacs.faults import (
    LaterError,
    PacsError,
    Patience,
    UnlikeError,
    UnreachableError,
    persistently,
    then_again,
)
from bundle.hospital.pacs.fetching import fetch_series
from bundle.hospital.pacs.rules import is_ours
from bundle.hospital.pacs.series import Answer, Pacs, Series, instance_list
from bundle.hospital.pacs.staining import Wanted, stain_folder
from bundle.images.dicom.source import Source, open_folder
from bundle.images.stained.stored import open_stain

Stainer = Callable[[Wanted, Path, Path, Callable[[], None]], Path]
# Of the objects that are made, a folder for each series, in the order in which they are stored: where the stain is,
# what is said of it is too
SEGMENTS, MAP, STAIN = PARTS = ("segments", "map", "stain")
BESIDE = {SEGMENTS: "slices not to be believed", MAP: "expected error"}


class BusyError(LaterError):
    """Another process is at work on the same."""


@dataclass(frozen=True)
class Desk:
    """Where work is done.

    Attributes:
        pacs: the client.
        patience: with it.
        work: folder of unfinished jobs.
        audit_path: of the audit.
        keep: leave a finished job's files there.
        stain: makes an OME-Zarr of a folder of a series.
        heed_stop: raises where the work is to end; called between objects, and while staining.
    """

    pacs: Pacs
    patience: Patience
    work: Path
    audit_path: Path
    keep: bool = False
    stain: Stainer = stain_folder
    heed_stop: Callable[[], None] = lambda: None

    def audit(self, wanted: Wanted) -> Audit:
        """The audit, ready to be written to."""
        audit = Audit(self.audit_path, self.pacs.peer, fingerprint(wanted.bundle_root))
        audit.check()
        return audit


def stain_series(desk: Desk, series: Series, wanted: Wanted) -> str:
    """Stain a series of a PACS and store the result in the same study.

    Args:
        desk: where and with whom.
        series: which.
        wanted: what is made.

    Returns:
        One line that says what was done.

    Raises:
        LaterError: if the same command may do better later.
        InputError: if something must be mended first.
    """
    made_by = made(wanted.bundle_root, wanted.settings())
    audit = desk.audit(wanted)
    if is_ours(series):
        raise PacsError(f"series {series.series_uid} is a synthetic stain itself; give the scan it was made from.")
    listed = instance_list(desk.pacs, desk.patience, series.study_uid, series.series_uid)
    if not listed or series.count not in (None, len(listed)):
        raise LaterError(
            f"{desk.pacs.peer} says that series {series.series_uid} has {series.count} objects, but lists "
            f"{len(listed)}; it may still be receiving it, and the same command looks again. If it stays so, its "
            "answers have a limit (LimitFindInstances of Orthanc): raise it."
        )
    job = Job(desk, series, wanted, made_by, audit)
    key = [
        desk.pacs.peer,
        series.study_uid,
        series.series_uid,
        sorted(listed),
        made_by.sha256,
        made_by.settings,
        wanted.frames,
    ]
    folder = desk.work / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
    busy = f"another process is at work on series {series.series_uid} in {folder}"
    with held(folder, busy, "wait for it.", BusyError, mode=0o700):  # it will hold images of a patient
        try:
            told = job.go(folder, listed)
            if not desk.keep:
                _clear(folder)
        finally:
            with contextlib.suppress(OSError):  # there is something to go on from
                (folder / "source").rmdir()
    return told


@dataclass(frozen=True)
class Job:
    """One series and what is made of it."""

    desk: Desk
    series: Series
    wanted: Wanted
    made_by: Made
    audit: Audit

    def result_uid(self, source: Source | Listed) -> str:
        """Series Instance UID of the result."""
        return self.made_by.series_uid(source, KINDS[self.wanted.frames])

    def go(self, folder: Path, listed: Mapping[str, Answer]) -> str:
        """Do what is not yet done."""
        desk, series = self.desk, self.series
        early = as_listed(series, listed)
        if early is not None and self._is_stored(early):
            return self._already(early)
        fetched, stained, written = (folder / name for name in ("source", "stained", "objects"))
        fetch_series(desk.pacs, desk.patience, series, list(listed), fetched, self.audit, desk.heed_stop)
        source = self._open(fetched)
        if any(str(each.get("SyntheticData", "")).upper() == "YES" for each in source.instances):
            raise PacsError(f"series {series.series_uid} is marked as synthetic data; give the scan it was made from.")
        if self._is_stored(source):
            return self._already(source)
        try:
            stain = None if written.is_dir() else desk.stain(self.wanted, fetched, stained, desk.heed_stop)
            doubts = self._judged(stained)
        except UnlikeError as error:
            for each in (fetched, stained, written):
                shutil.rmtree(each, ignore_errors=True)
            self.audit.line("refused", series.study_uid, series.series_uid, status=str(error))
            raise UnlikeError(f"series {series.series_uid} is refused: {error}") from error
        if stain is not None:
            self._write(source, stain, doubts, written)
        return self._store_all(written)

    def _judged(self, stained: Path) -> Doubts:
        """What is known of where not to believe a stain; it is said, and written down."""
        doubts, series = read_doubts(stained), self.series
        for words in filter(None, (doubts.words, doubts.missing)):
            print(f"series {series.series_uid}: {words}", file=sys.stderr)
        if doubts.unlike and self.wanted.refuse_unlike:
            raise UnlikeError(f"it is unlike the training data: {doubts.words}; {REFUSED}")
        if doubts.words:
            self.audit.line("judged", series.study_uid, series.series_uid, status=doubts.words)
        return doubts

    def _open(self, fetched: Path) -> Source:
        """Open what was fetched; of a series that cannot be stained no images stay here."""
        try:
            return open_folder(fetched, self.series.series_uid)
        except InputError as error:
            shutil.rmtree(fetched)
            self.audit.line(
                "refused", self.series.study_uid, self.series.series_uid, status="not a scan for this model"
            )
            raise InputError(f"series {self.series.series_uid} cannot be stained: {error}") from error

    def _write(self, source: Source, path: Path, doubts: Doubts, written: Path) -> None:
        stain = open_stain(path)
        if stain.shape != source.shape:
            raise InputError(
                f"{path} is {stain.shape}, but the series {source.shape}; remove its folder and run again."
            )

        def slab(start: int, stop: int) -> np.ndarray:
            return stain.read((slice(start, stop), slice(None), slice(None)))

        made_by, root = judged_by(self.made_by, doubts), self.wanted.bundle_root
        with whole_folder(written) as partial:
            for part in PARTS:
                (partial / part).mkdir()
            WRITERS[self.wanted.frames](partial / STAIN, source, slab, made_by)
            doubts.write_error(partial / MAP, source, made_by, map_kind(root) or "")
            doubts.write_segments(partial / SEGMENTS, source, made_by, segments_kind(root))

    def _store_all(self, written: Path) -> str:
        """Store each series that was made; what was stored, in one line."""
        series = {part: sorted((written / part).iterdir()) for part in PARTS}
        told = {part: self._store(_uids(paths[0])[0], paths) for part, paths in series.items() if paths}
        beside = [f"series {_uids(series[part][0])[0]} ({words})" for part, words in BESIDE.items() if part in told]
        return told[STAIN] + (f"; beside it {' and '.join(beside)}" if beside else "")

    def _store(self, result_uid: str, files: Sequence[Path]) -> str:
        """Store what the PACS does not yet list of a series, and see that it lists all of it then."""
        desk, series = self.desk, self.series
        paths = {_uids(path)[1]: path for path in files}
        there = set(self._list(result_uid))
        for sop_uid in (there & set(paths)) - self.audit.stored():
            # of the attempt that was stopped when the PACS had taken it, and before it was written down
            self._audit_file("stored", result_uid, sop_uid, paths[sop_uid], "found there after a stop")
        left = {path: sop_uid for sop_uid, path in paths.items() if sop_uid not in there}

        def told(path: Path, status: str) -> None:
            sop_uid = left.pop(path)
            self._audit_file("stored", result_uid, sop_uid, path, status)
            desk.heed_stop()

        def go_on() -> None:
            if left:
                desk.pacs.store(list(left), told)

        try:
            persistently(go_on, desk.patience, lambda: len(left))
        except InputError as error:
            action = "refused" if isinstance(error, PacsError) else "failed"
            path, sop_uid = next(iter(left.items()))
            self._audit_file(action, result_uid, sop_uid, path, str(error))
            done = len(paths) - len(left)
            state = f"{done} of {len(paths)} objects are stored" if done else "nothing of it is stored"
            raise type(error)(
                f"{error} Of the result, series {result_uid}, {state}; {then_again(error)} stores the rest."
            ) from error
        self._see(result_uid, set(paths))
        return f"stored series {result_uid}, {_objects(len(paths))}, in study {series.study_uid} of {desk.pacs.peer}"

    def _see(self, result_uid: str, sop_uids: set[str]) -> None:
        """Look until the PACS lists all objects, as it may take a moment to index them."""
        once = replace(self.desk.patience, attempts=1)

        def look() -> None:
            missing = len(sop_uids - set(instance_list(self.desk.pacs, once, self.series.study_uid, result_uid)))
            if missing:
                raise _NotListedError(
                    f"{self.desk.pacs.peer} took all objects of series {result_uid} but does not list {missing} of "
                    f"{len(sop_uids)}."
                )

        try:
            persistently(look, self.desk.patience)
        except _NotListedError as error:
            self.audit.line("failed", self.series.study_uid, result_uid, status=str(error))
            raise LaterError(f"{error} The same command looks again, and stores what is not there.") from error

    def _is_stored(self, source: Source | Listed) -> bool:
        """Whether the PACS has the whole result; what marks slices is stored before it, if there is any."""
        wanted = set(expected_uids(self.made_by, source, self.wanted.frames))
        if not wanted or not wanted <= set(self._list(self.result_uid(source))):
            return False
        kind = map_kind(self.wanted.bundle_root)
        return kind is None or set(map_uids(self.made_by, source, kind, CUBE)) <= set(
            self._list(self.made_by.series_uid(source, kind))
        )

    def _already(self, source: Source | Listed) -> str:
        uid = self.result_uid(source)
        self.audit.line("skipped", self.series.study_uid, uid, status="the whole series is there already")
        return f"series {uid} is there already, made of the same scan by the same model and settings; nothing was done"

    def _list(self, series_uid: str) -> Mapping[str, Answer]:
        return instance_list(self.desk.pacs, self.desk.patience, self.series.study_uid, series_uid)

    def _audit_file(self, action: str, series_uid: str, sop_uid: str, path: Path, status: str) -> None:
        self.audit.line(action, self.series.study_uid, series_uid, sop_uid, *size_and_sha256(path), status)


class _NotListedError(UnreachableError):
    """The PACS took objects that it does not list, or not yet."""


def _clear(folder: Path) -> None:
    """Remove what a finished job leaves, but not the lock by which it is ours."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != LOCK:
            path.unlink(missing_ok=True)


def _uids(path: Path) -> tuple[str, str]:
    """Series and SOP Instance UID of a file."""
    read = dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID", "SOPInstanceUID"])
    return str(read.SeriesInstanceUID), str(read.SOPInstanceUID)


def _objects(count: int) -> str:
    return "1 object" if count == 1 else f"{count} objects"
