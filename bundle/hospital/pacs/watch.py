"""Looks at a PACS again and again, and stains what has come and is of a kind that the rules name."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from bundle.common.atomic import write_json
from bundle.common.errors import InputError, full_disk
from bundle.hospital.pacs.faults import UnlikeError, UnreachableError
from bundle.hospital.pacs.job import BusyError, Desk, stain_series
from bundle.hospital.pacs.rules import Rule, first_match
from bundle.hospital.pacs.series import Series, find_series, instance_list
from bundle.images.dicom.words import plain

LONGEST_WAIT_S = 86400.0
DONE, FAILED = "done", "failed"


class StoppedError(Exception):
    """Somebody has asked for an end; what was done is kept."""


class Watch:
    """One PACS under watch.

    What is known of a series is in a file of its own, written whole: several watchers share a folder.

    Args:
        desk: where work is done.
        rules: which series, and how.
        bundle_root: the trained bundle.
        every_s: from the end of a look to the next.
        stable_s: how long the number of a series' objects must have stayed the same.
        days: how far back, by the date of the study; None for all.
        now: the time, s.
    """

    def __init__(
        self,
        desk: Desk,
        rules: list[Rule],
        bundle_root: Path,
        every_s: float,
        stable_s: float,
        days: int | None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.rules, self.bundle_root = rules, bundle_root
        self.every_s, self.stable_s, self.days, self.now = every_s, stable_s, days, now
        self.over = threading.Event()
        self.waiting = 0  # series of the look in hand whose number of objects is not yet known to be stable
        self.told = ""
        self.desk = replace(desk, heed_stop=self._heed)

    def run(self, once: bool = False) -> int:
        """Look until told to stop.

        Args:
            once: look once only, as from cron.

        Returns:
            How many series failed, where it was one look.

        Raises:
            InputError: if the PACS cannot be asked: at once for wrong credentials and the like.
        """
        with self._heeding_signals():
            try:
                while True:
                    failed = self._look(once)
                    if once:
                        return failed
                    if self.over.wait(self.every_s):
                        break
            except StoppedError:
                pass
        print("stopped; what was begun goes on at the next start", file=sys.stderr)
        return 0

    def _look(self, once: bool) -> int:
        """Look once, and do what there is to do."""
        since = {} if self.days is None else {"StudyDate": f"{date.today() - timedelta(self.days):%Y%m%d}-"}
        try:
            found = find_series(self.desk.pacs, self.desk.patience, since, {})
        except UnreachableError as error:
            if once:
                raise
            print(f"{error} Looking again in {self.every_s:g} s.", file=sys.stderr)
            return 0
        failed = matching = self.waiting = 0
        for series in found:
            self._heed()
            rule = first_match(self.rules, series)
            if rule is not None:
                matching += 1
                failed += not self._attend(series, rule, once)
        self._tell(len(found), matching)
        return failed

    def _tell(self, found: int, matching: int) -> None:
        """Say what a look saw, if it is not what the last one saw."""
        since = "" if self.days is None else f" of studies of the last {self.days} days (--days)"
        waiting = f", {self.waiting} to be looked at again after {self.stable_s:g} s (--stable)" if self.waiting else ""
        told = f"{found} series{since}, {matching} match a rule{waiting}"
        if told != self.told:
            print(told, file=sys.stderr)
        self.told = told

    def _attend(self, series: Series, rule: Rule, once: bool) -> bool:
        """Stain a series if it is its turn; whether nothing is wrong with it."""
        try:
            if series.count is None:
                count = len(instance_list(self.desk.pacs, self.desk.patience, series.study_uid, series.series_uid))
                series = replace(series, count=count)
                if not rule.matches(series):
                    return True
            known = self._recall(series)
            if known.get("count") != series.count:
                known = {"series": series.series_uid, "count": series.count, "since": self.now()}
                self._remember(series, known)
            if known.get("state") == DONE:
                return True
            if self.now() < known.get("next", 0):
                if once:
                    wait_s = known["next"] - self.now()
                    print(
                        f"series {series.series_uid} failed: {known.get('fault')} Not again for {wait_s:.0f} s.",
                        file=sys.stderr,
                    )
                return False
            if self.now() - known["since"] < self.stable_s:
                self.waiting += 1
                return True
            return self._stain(series, rule, known)
        except InputError as error:  # the answer to how many objects it has
            print(f"series {series.series_uid}: {error}", file=sys.stderr)
            return False

    def _stain(self, series: Series, rule: Rule, known: dict[str, Any]) -> bool:
        name = f"series {series.series_uid} ({plain(series.modality)}, {plain(series.description)}; {rule.name})"
        print(f"{name}: {series.count} objects, the same for {self.now() - known['since']:.0f} s", file=sys.stderr)
        wanted = rule.wanted(self.bundle_root)
        try:
            told = stain_series(self.desk, series, wanted)
        except UnlikeError as error:
            told = str(error)
        except BusyError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return True
        except (InputError, OSError) as error:
            if isinstance(error, OSError) and full_disk(error) is None:
                raise
            tries = known.get("tries", 0) + 1
            wait_s = min(LONGEST_WAIT_S, self.every_s * 2**tries) * random.uniform(0.75, 1)
            self._remember(
                series, {**known, "state": FAILED, "tries": tries, "next": self.now() + wait_s, "fault": str(error)}
            )
            print(f"{name}: failed: {error} Not again for {wait_s:.0f} s.", file=sys.stderr)
            return False
        self._remember(series, {**known, "state": DONE, "told": told})
        print(f"{name}: {told}", file=sys.stderr)
        return True

    def _path(self, series: Series) -> Path:
        key = hashlib.sha256(f"{self.desk.pacs.peer} {series.study_uid} {series.series_uid}".encode()).hexdigest()
        return self.desk.work / "watch" / f"{key[:32]}.json"

    def _recall(self, series: Series) -> dict[str, Any]:
        try:
            return json.loads(self._path(series).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def _remember(self, series: Series, known: dict[str, Any]) -> None:
        write_json(self._path(series), known)

    def _heed(self) -> None:
        if self.over.is_set():
            raise StoppedError

    @contextmanager
    def _heeding_signals(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT end the work after the object in hand."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        earlier = {each: signal.signal(each, lambda *_: self.over.set()) for each in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for each, handler in earlier.items():
                signal.signal(each, handler)
