"""Each fault of a PACS is one line and an exit code, nothing is half-stored, and a rerun completes what is missing."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from bundle.hospital.pacs import fetching
from bundle.hospital.pacs.faults import LaterError, Patience, RefusedError
from bundle.hospital.pacs.job import stain_series
from bundle.hospital.pacs.series import get_series
from bundle.images.dicom.source import open_folder
from tests.hospital.orthanc import free_ports
from tests.hospital.pacs_parts import (
    QUICK,
    SECRETS,
    SERIES,
    SHAPE,
    audit_of,
    colours,
    command,
    desk,
    fake_stain,
    files_in,
    levels,
    make_ct,
    only,
    pixels,
    wanted,
)
from tests.hospital.poor_web import Fault, PoorWeb
from tests.hospital.small_pacs import SmallPacs

pytestmark = pytest.mark.slow  # a minute together: each waits for something that does not come
FAILED = json.dumps({"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0xA900]}}]}}).encode()
NO_ROOM = FAILED.replace(b"43264", b"42752")
ALWAYS = 10**9


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("bundle.hospital.pacs.commands.Patience", lambda *given: Patience(*given, first_pause_s=0.02))


@pytest.fixture
def poor(orthanc, tmp_path):
    orthanc.upload(*make_ct(tmp_path / "ct"))
    with PoorWeb(orthanc.http) as front:
        yield front


def expect_whole(orthanc, tmp_path: Path) -> None:
    """One result, right to the last voxel, and nothing left behind in the work folder."""
    results = files_in(orthanc, only(orthanc), tmp_path / "result")
    np.testing.assert_array_equal(pixels(results), colours(open_folder(tmp_path / "ct").read(0, SHAPE[0])))
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["audit.jsonl"]


@pytest.mark.parametrize(
    ("fault", "code", "said", "gone"),
    [
        (Fault("GET", "/series", status=503, times=2), 0, "HTTP 503 while answering a query", ""),
        (Fault("GET", "/series", status=503), 75, "HTTP 503 while answering a query", ""),
        (Fault("GET", "/series", status=401), 1, "does not accept the credentials", ""),
        (Fault("GET", "/series", status=403), 1, "does not accept the credentials", ""),
        (Fault("GET", "/series", status=404), 1, "is pacs the address of its DICOMweb", ""),
        (Fault("GET", "/series", status=200, body=b"<html>"), 75, "no readable answer", ""),
        (Fault("GET", "/series", wait_s=1.5, times=ALWAYS), 75, "silent for 1 s", ""),
        (Fault("GET", "/instances/", cut_answer=2000, after=3, times=2), 0, "dropped, while sending object", ""),
        (Fault("GET", "/instances/", cut_answer=2000, after=3), 75, "3 of 8 objects are fetched", "nothing"),
        (Fault("POST", "/studies", status=409, body=FAILED), 1, "reason A900h). Of the result", "nothing"),
        (Fault("POST", "/studies", status=200, body=NO_ROOM), 75, "reason A700h). Of the result", "nothing"),
        (Fault("POST", "/studies", status=507), 75, "it is full", "nothing"),
        (Fault("POST", "/studies", status=413), 1, "HTTP 413", "nothing"),
        (Fault("POST", "/studies", cut_request=9000, times=1), 0, "dropped, while storing", ""),
        (Fault("POST", "/studies", cut_request=9000), 75, "dropped, while storing", "nothing"),
        (Fault("POST", "/studies", cut_answer=0, times=1), 0, "dropped, while storing", ""),
        (Fault("POST", "/studies", status=200, body=b"{}"), 75, "does not list 1 of 1", "nothing"),
    ],
)
def test_a_fault_by_web(orthanc, poor, bundle, tmp_path, capsys, monkeypatch, fault, code, said, gone):
    words = ("stain", "--pacs", poor.web, "--series", SERIES, "--work", tmp_path / "work", *levels(bundle))
    poor.faults = [fault]
    found, _, err = command(capsys, monkeypatch, *words, "--attempts", "3", "--timeout", "1")
    assert (found, said in err) == (code, True), err
    ending = err.strip().splitlines()[-1]
    assert ending.startswith("error: ") == bool(code)
    assert sum(line.startswith("error: ") for line in err.splitlines()) == bool(code)
    if code == 1:
        assert "Attempt" not in err
    if gone:
        assert len(orthanc.get("/series")) == 1
    if code == 0:
        assert "Attempt 2 of 3" in err
    poor.faults, poor.seen = [], []
    assert command(capsys, monkeypatch, *words)[0] == 0
    expect_whole(orthanc, tmp_path)
    fetched = [sop_uid for action, sop_uid in audit_of(tmp_path / "work") if action == "fetched"]
    assert len(fetched) == len(set(fetched)) == SHAPE[0]


def test_of_several_objects_it_says_how_many_are_stored_and_stores_the_others_later(
    orthanc, poor, bundle, tmp_path, capsys, monkeypatch
):
    stained = []
    there = desk(poor.web, tmp_path / "work", stain=lambda *given: stained.append(1) or fake_stain(*given))
    series = get_series(there.pacs, QUICK, SERIES)
    poor.faults = [Fault("POST", "/studies", after=3, status=409, body=FAILED)]
    with pytest.raises(
        RefusedError, match=r"3 of 8 objects are stored; once that is mended, the same command stores the rest"
    ) as refusal:
        stain_series(there, series, wanted(bundle, frames="single"))
    assert "\n" not in str(refusal.value)
    assert len(only(orthanc)["Instances"]) == 3
    assert [action for action, _ in audit_of(tmp_path / "work")][-2:] == ["stored", "refused"]
    poor.faults, poor.seen = [], []
    stain_series(there, series, wanted(bundle, frames="single"))
    assert [method for method, _ in poor.seen].count("POST") == 5
    assert stained == [1]
    expect_whole(orthanc, tmp_path)
    assert [action for action, _ in audit_of(tmp_path / "work")].count("stored") == SHAPE[0]


def test_nobody_there(bundle, tmp_path, capsys, monkeypatch):
    (closed,) = free_ports(1)
    address = f"http://127.0.0.1:{closed}/dicom-web"
    code, _, err = command(capsys, monkeypatch, "find", "--pacs", address, "--attempts", "2")
    assert code == 75
    assert "refused" in err
    assert "Attempt 2 of 2" in err


def test_a_series_that_is_still_coming_in_is_not_stained(orthanc, poor, bundle, tmp_path):
    there = desk(poor.web, tmp_path / "work")
    series = get_series(there.pacs, QUICK, SERIES)
    orthanc.upload(*make_ct(tmp_path / "more", slices=12))
    with pytest.raises(LaterError, match="has 8 objects, but lists 12"):
        stain_series(there, series, wanted(bundle))


def test_a_full_disk_of_ours(orthanc, poor, bundle, tmp_path, capsys, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    words = ("stain", "--pacs", poor.web, "--series", SERIES, "--work", tmp_path / "work", *levels(bundle))
    with monkeypatch.context() as patch:
        patch.setattr(fetching, "whole_file", full)
        code, _, err = command(capsys, patch, *words)
    assert code == 75
    assert "the disk is full" in err
    assert command(capsys, monkeypatch, *words)[0] == 0
    expect_whole(orthanc, tmp_path)


def test_a_file_that_a_power_cut_left_short_is_fetched_again(orthanc, poor, bundle, tmp_path):
    class Cut(Exception):  # noqa: N818  no fault of ours
        pass

    def no_power(*given):
        raise Cut

    there = desk(poor.web, tmp_path / "work", stain=no_power)
    series = get_series(there.pacs, QUICK, SERIES)
    with pytest.raises(Cut):
        stain_series(there, series, wanted(bundle))
    files = sorted((tmp_path / "work").glob("*/source/*.dcm"))
    files[0].write_bytes(files[0].read_bytes()[:-100])
    files[1].write_bytes(b"")
    (files[2].parent / ".0.partial.dcm").write_bytes(b"half")
    stain_series(desk(poor.web, tmp_path / "work"), series, wanted(bundle))
    expect_whole(orthanc, tmp_path)
    assert [action for action, _ in audit_of(tmp_path / "work")].count("fetched") == SHAPE[0] + 2


@pytest.mark.parametrize("stage", ["fetched", "stained", "stored"])
def test_killed_at_any_stage_the_same_command_completes_it(orthanc, poor, bundle, tmp_path, stage):
    """SIGKILL: after five objects have come, in the middle of staining, after three objects are stored."""

    def work(kill: bool) -> None:
        def die(*_):
            os.kill(os.getpid(), signal.SIGKILL)

        there = desk(poor.web, tmp_path / "work", stain=die if kill and stage == "stained" else fake_stain)
        series = get_series(there.pacs, QUICK, SERIES)
        if kill:
            fault = {"fetched": ("/instances/", "GET", 5), "stored": ("/studies", "POST", 3)}.get(stage)
            if fault:
                part, method, after = fault
                calls = []
                name = "get" if method == "GET" else "post"
                real = getattr(there.pacs.session, name)

                def count(*given, **options):
                    address = str(options.get("url") or given[0])
                    calls.append(address)
                    if sum(part in each for each in calls) > after:
                        die()
                    return real(*given, **options)

                setattr(there.pacs.session, name, count)
        stain_series(there, series, wanted(bundle, frames="single"))

    child = os.fork()
    if child == 0:
        work(kill=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    before = [action for action, _ in audit_of(tmp_path / "work")]
    assert before.count("fetched") == (5 if stage == "fetched" else SHAPE[0])
    assert before.count("stored") == (3 if stage == "stored" else 0)
    work(kill=False)
    expect_whole(orthanc, tmp_path)
    actions = [action for action, _ in audit_of(tmp_path / "work")]
    assert (actions.count("fetched"), actions.count("stored")) == (SHAPE[0], SHAPE[0])


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        ({"takes": 2, "status": 0xA700}, 75, "status A700h"),
        ({"takes": 2, "status": 0xC000}, 1, "status C000h"),
        ({"takes": 2, "status": 0x0124}, 1, "not authorised"),
        ({"takes": 2, "status": 0}, 75, "dropped the association"),
        ({"gives": 5}, 75, "5 of 8 objects are fetched"),
        ({"lists": False}, 75, "does not list 8 of 8"),
    ],
)
def test_a_fault_by_dimse(bundle, tmp_path, capsys, monkeypatch, fault, code, said):
    with SmallPacs(*make_ct(tmp_path / "ct")) as small:
        words = ("stain", "--pacs", small.address, "--series", SERIES, "--work", tmp_path / "work", *levels(bundle))
        words += ("--frames", "single", "--attempts", "2", "--timeout", "5")
        for name, value in fault.items():
            setattr(small, name, value)
        found, _, err = command(capsys, monkeypatch, *words)
        assert (found, said in err) == (code, True), err
        assert sum(line.startswith("error: ") for line in err.splitlines()) == 1
        if "takes" in fault:
            assert "2 of 8 objects are stored" in err
        small.takes = small.gives = ALWAYS
        small.lists = True
        assert command(capsys, monkeypatch, *words)[0] == 0
        results = [each for each in small.held.values() if each.SeriesInstanceUID != SERIES]
        results.sort(key=lambda each: int(each.InstanceNumber))
        np.testing.assert_array_equal(pixels(results), colours(open_folder(tmp_path / "ct").read(0, SHAPE[0])))
        if "takes" in fault:
            assert [action for action, _ in audit_of(tmp_path / "work")].count("stored") == SHAPE[0]
