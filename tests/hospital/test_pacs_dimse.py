"""A series of a real Orthanc, stained and stored beside itself by DIMSE, and read back by every way there is."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass
from pydicom import dcmread

from bundle.common.verdicts import NEITHER
from bundle.hospital.pacs.client import connect
from bundle.hospital.pacs.faults import Patience, UnreachableError, persistently
from bundle.hospital.pacs.fetching import fetch_series
from bundle.hospital.pacs.job import stain_series
from bundle.hospital.pacs.series import get_series, instance_list
from bundle.images.dicom.source import open_folder
from tests.hospital.conftest import needs
from tests.hospital.orthanc import Orthanc, free_ports
from tests.hospital.pacs_parts import (
    QUICK,
    SERIES,
    SHAPE,
    STUDY,
    audit_of,
    certificate,
    colours,
    command,
    desk,
    files_in,
    levels,
    make_ct,
    only,
    pixels,
    wanted,
)
from tests.hospital.small_pacs import SmallPacs

pytestmark = pytest.mark.slow  # half a minute together
OURS = "STAINER"


@pytest.fixture
def scan(orthanc, tmp_path) -> Path:
    orthanc.upload(*make_ct(tmp_path / "ct"))
    return tmp_path / "ct"


@pytest.fixture
def port(orthanc) -> int:
    """Where Orthanc moves to."""
    (number,) = free_ports(1)
    known = json.dumps({"AET": OURS, "Host": "127.0.0.1", "Port": number}).encode()
    orthanc.request("/modalities/ours", known, "PUT")
    return number


def address_of(orthanc: Orthanc) -> str:
    return f"dicom://{orthanc.aet}@127.0.0.1:{orthanc.dicom_port}"


def test_what_was_stored_by_each_way_comes_back_by_each_way_to_the_bit(orthanc, scan, port, bundle, tmp_path):
    truth = colours(open_folder(scan).read(0, SHAPE[0]))
    for number, fetch in enumerate(("get", "move")):
        given = {"aet": OURS, "fetch": fetch, "receive_port": port}
        there = desk(address_of(orthanc), tmp_path / f"work{number}", **given)
        told = stain_series(there, get_series(there.pacs, QUICK, SERIES), wanted(bundle))
        assert ("there already" in told) == bool(number)  # what came by C-GET has the UIDs of what came by C-MOVE
        made = only(orthanc)
        uid = made["MainDicomTags"]["SeriesInstanceUID"]
        result = get_series(there.pacs, QUICK, uid)
        objects = list(instance_list(there.pacs, QUICK, result.study_uid, uid))
        back = tmp_path / f"back{number}"
        fetch_series(there.pacs, QUICK, result, objects, back, there.audit(wanted(bundle)))
        np.testing.assert_array_equal(pixels([dcmread(path) for path in back.iterdir()]), truth)
        if number == 0:
            session = create_session_from_user_pass(orthanc.user, orthanc.password)
            frames = DICOMwebClient(orthanc.web, session=session).retrieve_instance_frames(
                STUDY, uid, objects[0], [1, SHAPE[0]], media_types=("application/octet-stream",)
            )
            for frame, z in zip(frames, (-1, 0), strict=True):
                np.testing.assert_array_equal(np.frombuffer(frame, np.uint8).reshape(truth[z].shape), truth[z])
    (stored,) = files_in(orthanc, made, tmp_path / "result")
    assert stored.FrameOfReferenceUID == open_folder(scan).headers[0].one["FrameOfReferenceUID"]


def test_moved_and_got_files_are_the_same_scan(orthanc, scan, port, bundle, tmp_path):
    volumes = []
    for fetch in ("get", "move"):
        client = connect(address_of(orthanc), QUICK, OURS, fetch, port)
        series = get_series(client, QUICK, SERIES)
        audit = desk(address_of(orthanc), tmp_path).audit(wanted(bundle))
        fetch_series(client, QUICK, series, list(instance_list(client, QUICK, STUDY, SERIES)), tmp_path / fetch, audit)
        volumes.append(open_folder(tmp_path / fetch).read(0, SHAPE[0]))
    np.testing.assert_array_equal(*volumes)
    np.testing.assert_array_equal(volumes[0], open_folder(scan).read(0, SHAPE[0]))


def test_single_frames_go_over_one_association(orthanc, scan, port, bundle, tmp_path):
    there = desk(address_of(orthanc), tmp_path / "work", aet=OURS)
    told = stain_series(there, get_series(there.pacs, QUICK, SERIES), wanted(bundle, frames="single"))
    assert f"{SHAPE[0]} objects" in told
    results = files_in(orthanc, only(orthanc), tmp_path / "result")
    np.testing.assert_array_equal(pixels(results), colours(open_folder(scan).read(0, SHAPE[0])))
    again = stain_series(there, get_series(there.pacs, QUICK, SERIES), wanted(bundle, frames="single"))
    assert "there already" in again
    assert [action for action, _ in audit_of(tmp_path / "work")].count("fetched") == SHAPE[0]


def test_a_pacs_that_lists_no_sizes_is_asked_for_the_scan_and_then_known_to_be_done(bundle, tmp_path, monkeypatch):
    files = make_ct(tmp_path / "ct")
    plain_find = SmallPacs.find

    def find_little(self, event):
        for status, answer in plain_find(self, event):
            for keyword in ("Rows", "Columns"):
                if keyword in answer:
                    delattr(answer, keyword)
            yield status, answer

    monkeypatch.setattr(SmallPacs, "find", find_little)
    with SmallPacs(*files) as small:
        there = desk(small.address, tmp_path / "work")
        assert "stored" in stain_series(there, get_series(there.pacs, QUICK, SERIES), wanted(bundle))
        assert "there already" in stain_series(there, get_series(there.pacs, QUICK, SERIES), wanted(bundle))


@pytest.mark.parametrize("fault", ["called", "calling", "nobody", "silent", "destination", "port"])
def test_each_fault_of_an_association_is_one_line(orthanc, scan, port, bundle, tmp_path, capsys, monkeypatch, fault):
    (closed,) = free_ports(1)
    words = ["--series", SERIES, "--work", tmp_path / "work", *levels(bundle), "--attempts", "1", "--timeout", "1"]
    address, expected, said = address_of(orthanc), 75, ""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        if fault == "called":
            address, expected = f"dicom://WRONG@127.0.0.1:{orthanc.dicom_port}", 1
            said = "Called AE title not recognised"
        elif fault == "nobody":
            address, said = f"dicom://ORTHANC@127.0.0.1:{closed}", "refused"
        elif fault == "silent":
            address, said = f"dicom://ORTHANC@127.0.0.1:{silent.getsockname()[1]}", "did not answer as DICOM within 1 s"
        elif fault == "calling":
            words, said = [*words, "--aet", "NOBODY"], "have --aet NOBODY entered there"
        elif fault == "destination":
            words += ["--fetch", "move", "--receive_port", closed, "--aet", OURS]
            expected, said = 1, f"moving objects to {OURS} (C-MOVE)"
        else:
            words += ["--fetch", "move", "--receive_port", silent.getsockname()[1], "--aet", OURS]
            expected, said = 1, "choose another --receive_port"
        code, shown, err = command(capsys, monkeypatch, "stain", "--pacs", address, *words)
    assert code == expected, err
    assert said in err
    assert shown == ""
    assert err.strip().count("\n") == 0


def test_hostile_values_come_to_nothing(bundle, tmp_path, capsys, monkeypatch):
    evil = "../../../etc\x1b[2J\r\n$__import__('os').system('touch /tmp/pacs_was_here')" + "A" * 5000
    tags = {
        "SeriesDescription": evil,
        "PatientID": evil,
        "StudyDescription": "@bundle_root",
        "StudyID": "%run",
    }
    files = make_ct(tmp_path / "ct", **tags)
    with SmallPacs(*files) as small:
        code, shown, err = command(capsys, monkeypatch, "find", "--pacs", small.address)
        assert code == 0
        assert not set(shown + err) & {"\x1b", "\r"}
        assert max(map(len, shown.splitlines())) < 400
        words = ("stain", "--pacs", small.address, "--series", SERIES, "--work", tmp_path / "work", *levels(bundle))
        code, shown, err = command(capsys, monkeypatch, *words, "--keep", "true")
        assert code == 0, err
        names = [path.name for path in (tmp_path / "work").rglob("*")]
        assert not any("etc" in name or "A" * 9 in name for name in names)
        assert not Path("/tmp/pacs_was_here").exists()
        for each in small.held.values():
            if str(each.SOPInstanceUID).endswith(".97"):
                each.SOPInstanceUID = "../../1.2"
        code, _, err = command(capsys, monkeypatch, *words)
        assert code == 1
        assert "a UID is 1 to 64 digits and dots" in err


def test_a_series_that_is_no_uid_is_refused_before_anybody_is_asked(bundle, capsys, monkeypatch):
    code, _, err = command(
        capsys, monkeypatch, "stain", "--pacs", "dicom://A@127.0.0.1:1", "--series", "1.2/../3", *levels(bundle)
    )
    assert code == 1
    assert "a UID is" in err


def test_tls_takes_the_certificate_it_was_told_to_and_no_other(bundle, tmp_path, capsys, monkeypatch):
    own, foreign = certificate(tmp_path, "own"), certificate(tmp_path, "foreign")
    with SmallPacs(*make_ct(tmp_path / "ct"), certificate=str(own)) as small:
        words = ("--series", SERIES, "--work", tmp_path / "work", *levels(bundle), "--pacs", small.address)
        code, shown, err = command(capsys, monkeypatch, "stain", *words, "--ca_file", own.with_suffix(".crt"))
        assert code == 0, err
        assert err.endswith(f"{NEITHER}\n")  # and nothing of the certificate
        code, _, err = command(capsys, monkeypatch, "stain", *words, "--ca_file", foreign.with_suffix(".crt"))
        assert code == 1
        assert "not trusted" in err
        code, _, err = command(capsys, monkeypatch, "stain", *words, "--fetch", "move")
        assert code == 1
        assert "without TLS" in err


def test_a_pacs_that_stops_taking_in_the_middle_of_an_object_is_told_in_time(tmp_path):
    needs("dcmtk")
    (large,) = make_ct(tmp_path / "ct", slices=1, Rows=4096, Columns=4096, PixelData=bytes(2 * 4096**2))
    (port,) = free_ports(1)
    words = ["storescp", "--ignore", "--aetitle", "STOPS", str(port)]
    receiver = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        client = connect(f"dicom://STOPS@127.0.0.1:{port}", Patience(40, 1.5, 0.1))
        persistently(lambda: client.store([large], lambda *_: None), Patience(40, 1.5, 0.1))
        stored = []

        def stop(*_):
            stored.append(1)
            receiver.send_signal(signal.SIGSTOP)

        began = time.monotonic()
        with pytest.raises(UnreachableError, match=r"took nothing for 1.5 s"):
            client.store([large, large], stop)
        assert stored == [1]
        assert time.monotonic() - began < 30
    finally:
        receiver.kill()
        receiver.wait()
