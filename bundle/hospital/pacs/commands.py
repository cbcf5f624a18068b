"""What ``python -m scripts.pacs`` runs: find, stain and watch."""

from __future__ import annotations

import functools
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from fire.decorators import SetParseFns

from bundle.common.atomic import check_writable
from bundle.common.command_line import as_bool
from bundle.common.errors import InputError
from bundle.common.trained_bundle import SPEEDS
from bundle.common.values import is_number
from bundle.hospital.pacs.client import AET, connect
from bundle.hospital.pacs.faults import AGAIN, Patience, exit_codes
from bundle.hospital.pacs.job import Desk, stain_series
from bundle.hospital.pacs.rules import first_match, read_rules
from bundle.hospital.pacs.series import checked_uid, find_series, get_series
from bundle.hospital.pacs.staining import FRAMES, Wanted
from bundle.hospital.pacs.watch import Watch
from bundle.images.dicom.words import plain

WORK = "output/pacs"
TEXTS = ("pacs", "patient", "study", "series", "modality", "aet")  # that fire must not take for numbers


def _command(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command whose faults end with our exit codes, and to which a UID is text."""

    @functools.wraps(function)
    def run(*given: Any, **options: Any) -> Any:
        # pydicom repeats values of tags in its warnings, as they are
        warnings.simplefilter("ignore")
        with exit_codes(), _stopping():
            return function(*given, **options)

    return SetParseFns(**dict.fromkeys(TEXTS, str))(run)


@contextmanager
def _stopping() -> Iterator[None]:
    """Say at SIGINT and SIGTERM what becomes of the work, and end with the code that a shell gives them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: Any) -> None:
        print("\nstopped; what is fetched and stained is kept, and the same command goes on", file=sys.stderr)
        sys.exit(128 + number)

    earlier = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in earlier.items():
            signal.signal(each, handler)


@_command
def find(
    pacs: str,
    patient: str | None = None,
    study: str | None = None,
    modality: str | None = None,
    aet: str = AET,
    ca_file: str | None = None,
    client_cert: str | None = None,
    timeout: float = 30.0,
    attempts: int = 5,
) -> str:
    """List the series of a PACS.

    Args:
        pacs: https://host/dicom-web, dicom://CALLED_AET@host:port or dicom+tls://CALLED_AET@host:port.
        patient: Patient ID.
        study: Study Instance UID.
        modality: such as CT.
        aet: our own AE title (DIMSE).
        ca_file: certificates that are trusted (TLS), PEM; those of the system if not given.
        client_cert: our own certificate with its key (TLS), PEM.
        timeout: seconds that the PACS may be silent.
        attempts: in a row without progress before giving up.
    """
    patience = Patience(attempts, timeout)
    client = connect(pacs, patience, aet=aet, ca_file=ca_file, client_cert=client_cert)
    studies = {"PatientID": patient, "StudyInstanceUID": checked_uid("study", study) if study else None}
    found = find_series(
        client,
        patience,
        {keyword: value for keyword, value in studies.items() if value},
        {"Modality": modality} if modality else {},
    )
    head = ("series", "modality", "objects", "description", "body part", "study date", "patient")
    rows = [
        (
            each.series_uid,
            each.modality,
            str(each.count),
            each.description,
            each.body_part,
            each.study_date,
            each.patient_id,
        )
        for each in found
    ]
    table = [head, *[tuple(map(plain, row)) for row in rows]]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join(lines) if found else "no series matches"


@_command
def stain(
    pacs: str,
    series: str,
    bundle: str,
    bone_intensity: float | None = None,
    background_intensity: float | None = None,
    rules: str | None = None,
    study: str | None = None,
    speed: str | None = None,
    frames: str | None = None,
    refuse_unlike: bool | None = None,
    work: str = WORK,
    audit: str | None = None,
    keep: bool = False,
    aet: str = AET,
    fetch: str = "get",
    receive_port: int = 11113,
    ca_file: str | None = None,
    client_cert: str | None = None,
    timeout: float = 30.0,
    attempts: int = 5,
) -> str:
    """Stain one series of a PACS and store the result in the same study.

    Start the same command again to go on after a stop. A result that is there already is left alone.

    Args:
        pacs: https://host/dicom-web, dicom://CALLED_AET@host:port or dicom+tls://CALLED_AET@host:port.
        series: Series Instance UID.
        bundle: RUN/bundle of a training.
        bone_intensity: mean grey value of bone in this scan.
        background_intensity: likewise, of background.
        rules: a rules file that says the two, speed, frames and refuse_unlike, where they are not given here.
        study: Study Instance UID, for a PACS that finds no series without it.
        speed: exact, fast, preview or stock.
        frames: multi (one object) or single (one object a slice).
        refuse_unlike: refuse a scan that is unlike the training data; false if not given.
        work: folder of unfinished work.
        audit: file of the audit; WORK/audit.jsonl if not given.
        keep: leave the files in WORK when all is done.
        aet: our own AE title (DIMSE).
        fetch: get (C-GET) or move (C-MOVE, to --aet at --receive_port).
        receive_port: where a C-MOVE comes in.
        ca_file: certificates that are trusted (TLS), PEM; those of the system if not given.
        client_cert: our own certificate with its key (TLS), PEM.
        timeout: seconds that the PACS may be silent.
        attempts: in a row without progress before giving up.
    """
    patience = Patience(attempts, timeout)
    series_uid = checked_uid("series", series)
    study_uid = checked_uid("study", study) if study else None
    read = read_rules(rules) if rules else []
    refuse = None if refuse_unlike is None else as_bool("refuse_unlike", refuse_unlike)
    asked = Wanted(
        Path(str(bundle)),
        bone_intensity,
        background_intensity,
        speed or SPEEDS[0],
        frames or FRAMES[0],
        bool(refuse),
    )
    if not rules:
        asked.settings()
    client = connect(pacs, patience, aet, fetch, receive_port, ca_file, client_cert)
    desk = _desk(client, patience, work, audit, keep)
    found = get_series(client, patience, series_uid, study_uid)
    rule = first_match(read, found)
    if read and rule is None and None in (bone_intensity, background_intensity):
        raise InputError(
            f"no rule of {rules} matches series {series_uid}; pass --bone_intensity, --background_intensity."
        )
    given: dict[str, Any] = {
        "bone_intensity": bone_intensity,
        "background_intensity": background_intensity,
        "speed": speed,
        "frames": frames,
        "refuse_unlike": refuse,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    return stain_series(desk, found, replace(asked if rule is None else rule.wanted(Path(str(bundle))), **chosen))


@_command
def watch(
    pacs: str,
    bundle: str,
    rules: str,
    every: float = 60.0,
    stable: float = 60.0,
    days: int | str = 7,
    once: bool = False,
    work: str = WORK,
    audit: str | None = None,
    keep: bool = False,
    aet: str = AET,
    fetch: str = "get",
    receive_port: int = 11113,
    ca_file: str | None = None,
    client_cert: str | None = None,
    timeout: float = 30.0,
    attempts: int = 5,
) -> None:
    """Look at a PACS again and again, and stain each new series that a rule names.

    Args:
        pacs: https://host/dicom-web, dicom://CALLED_AET@host:port or dicom+tls://CALLED_AET@host:port.
        bundle: RUN/bundle of a training.
        rules: a rules file.
        every: seconds between two looks.
        stable: seconds for which the number of a series' objects must not have changed.
        days: how old a study may be, by its date; all for any.
        once: look once only, as from cron; the exit code says whether a series failed.
        work: folder of unfinished work, and of what is known of each series.
        audit: file of the audit; WORK/audit.jsonl if not given.
        keep: leave the files in WORK when all is done.
        aet: our own AE title (DIMSE).
        fetch: get (C-GET) or move (C-MOVE, to --aet at --receive_port).
        receive_port: where a C-MOVE comes in.
        ca_file: certificates that are trusted (TLS), PEM; those of the system if not given.
        client_cert: our own certificate with its key (TLS), PEM.
        timeout: seconds that the PACS may be silent.
        attempts: in a row without progress before giving up.
    """
    for name, value in (("every", every), ("stable", stable)):
        if not is_number(value) or value < 0:
            raise InputError(f"{name} is {value!r}; it must be a number of seconds.")
    if days != "all" and (type(days) is not int or days < 0):
        raise InputError(f"days is {days!r}; it must be a whole number, or all.")
    oldest = days if isinstance(days, int) else None
    patience = Patience(attempts, timeout)
    read = read_rules(rules)
    for rule in read:
        rule.wanted(Path(str(bundle))).settings()
    client = connect(pacs, patience, aet, fetch, receive_port, ca_file, client_cert)
    desk = _desk(client, patience, work, audit, keep)
    failed = Watch(desk, read, Path(str(bundle)), every, stable, oldest).run(as_bool("once", once))
    if failed:
        print(f"\nerror: {failed} series failed; why is said above. The next look may do better.", file=sys.stderr)
        sys.exit(AGAIN)


def _desk(client: Any, patience: Patience, work: str, audit: str | None, keep: bool) -> Desk:
    folder = Path(str(work))
    check_writable(folder)
    return Desk(client, patience, folder, Path(str(audit)) if audit else folder / "audit.jsonl", as_bool("keep", keep))
