"""A series of a real Orthanc, stained and stored beside itself by DICOMweb."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bundle.common.errors import InputError
from bundle.common.verdicts import NEITHER
from bundle.hospital.pacs.address import Web as Address
from bundle.hospital.pacs.address import read_address
from bundle.hospital.pacs.job import stain_series
from bundle.hospital.pacs.series import get_series
from bundle.hospital.pacs.web import Web
from bundle.images.dicom.source import open_folder
from bundle.images.stained.stored import open_stain
from tests.conftest import ROOT
from tests.hospital.orthanc import Orthanc
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
from tests.hospital.poor_web import Fault, PoorWeb

pytestmark = pytest.mark.usefixtures("credentials")


@pytest.fixture
def scan(orthanc, tmp_path) -> Path:
    orthanc.upload(*make_ct(tmp_path / "ct"))
    return tmp_path / "ct"


def test_it_lists_what_matches_and_no_name_of_a_patient(orthanc, scan, tmp_path, capsys, monkeypatch):
    other = {"Modality": "MR", "PatientID": "0042", "StudyInstanceUID": STUDY + ".9"}
    orthanc.upload(*make_ct(tmp_path / "mr", SERIES + ".9", slices=2, **other))
    code, shown, _ = command(capsys, monkeypatch, "find", "--pacs", orthanc.web, "--modality", "CT")
    assert code == 0
    assert [SERIES in shown, "bone 5 um" in shown, ".9 " in shown, "Doe" in shown] == [True, True, False, False]
    assert command(capsys, monkeypatch, "find", "--pacs", orthanc.web, "--patient", "0042")[1].count(SERIES) == 1
    assert "no series matches" in command(capsys, monkeypatch, "find", "--pacs", orthanc.web, "--patient", "42")[1]


def test_the_result_is_in_the_study_of_the_scan_voxel_by_voxel(orthanc, scan, bundle, tmp_path, capsys, monkeypatch):
    words = ("stain", "--pacs", orthanc.web, "--series", SERIES, "--work", tmp_path / "work", *levels(bundle))
    code, shown, err = command(capsys, monkeypatch, *words)
    assert (code, err) == (0, f"series {SERIES}: {NEITHER}\n")
    made = only(orthanc)
    assert orthanc.get(f"/studies/{made['ParentStudy']}")["MainDicomTags"]["StudyInstanceUID"] == STUDY
    (result,) = files_in(orthanc, made, tmp_path / "result")
    source = open_folder(scan)
    np.testing.assert_array_equal(pixels([result]), colours(source.read(0, SHAPE[0])))
    frames = [each.PlanePositionSequence[0].ImagePositionPatient for each in result.PerFrameFunctionalGroupsSequence]
    np.testing.assert_allclose(frames, [[1.5, -2.25, 0.005 * z] for z in reversed(range(SHAPE[0]))], atol=1e-9)
    shared = result.SharedFunctionalGroupsSequence[0]
    assert list(shared.PlaneOrientationSequence[0].ImageOrientationPatient) == [0.8, 0.6, 0, -0.6, 0.8, 0]
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == [0.005, 0.005]
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["audit.jsonl"]
    actions = [action for action, _ in audit_of(tmp_path / "work")]
    assert actions == ["fetched"] * SHAPE[0] + ["stored"]
    audit = (tmp_path / "work" / "audit.jsonl").read_text()
    assert json.loads(audit.splitlines()[-1])["sha256"] is not None
    assert "Doe" not in audit
    assert Orthanc.password not in audit + shown


def test_a_second_run_finds_the_result_without_fetching_the_scan(orthanc, scan, bundle, tmp_path, capsys, monkeypatch):
    words = ("stain", "--pacs", orthanc.web, "--series", SERIES, "--work", tmp_path / "work", *levels(bundle))
    command(capsys, monkeypatch, *words)
    before = audit_of(tmp_path / "work")
    code, shown, _ = command(capsys, monkeypatch, *words)
    assert code == 0
    assert "there already" in shown
    assert audit_of(tmp_path / "work")[len(before) :] == [("skipped", None)]
    only(orthanc)
    command(capsys, monkeypatch, *words[:-1], "9000")  # other settings make another series
    assert len(orthanc.get("/series")) == 3


def test_single_frames_lie_where_the_slices_lie(orthanc, scan, bundle, tmp_path):
    there = desk(orthanc.web, tmp_path / "work")
    stain_series(there, get_series(there.pacs, QUICK, SERIES), wanted(bundle, frames="single"))
    results = files_in(orthanc, only(orthanc), tmp_path / "result")
    source = open_folder(scan)
    np.testing.assert_array_equal(pixels(results), colours(source.read(0, SHAPE[0])))
    for one, other in zip(results, source.instances[::-1], strict=True):
        assert one.InstanceNumber == other.InstanceNumber
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID"):
            assert one[keyword].value == other[keyword].value


def test_rules_say_the_intensities_of_a_series(orthanc, scan, bundle, tmp_path, capsys, monkeypatch):
    rules = tmp_path / "rules.json"
    rule = {"match": {"StudyDescription": "implant?"}, "bone_intensity": 30000, "background_intensity": 10000}
    rules.write_text(json.dumps([{**rule, "match": {"Modality": "MR"}, "bone_intensity": 1}, rule]))
    words = ("stain", "--pacs", orthanc.web, "--series", SERIES, "--work", tmp_path / "work", "--bundle", bundle)
    assert command(capsys, monkeypatch, *words, "--rules", rules)[0] == 0
    code, shown, _ = command(capsys, monkeypatch, *words, *levels(bundle)[2:])
    assert "there already" in shown
    code, _, err = command(capsys, monkeypatch, *words)
    assert code == 1
    assert "--bone_intensity" in err


def test_a_result_is_not_stained_again(orthanc, scan, bundle, tmp_path, capsys, monkeypatch):
    words = ["stain", "--pacs", orthanc.web, "--series", SERIES, "--work", tmp_path / "work", *levels(bundle)]
    command(capsys, monkeypatch, *words)
    words[4] = only(orthanc)["MainDicomTags"]["SeriesInstanceUID"]
    code, _, err = command(capsys, monkeypatch, *words)
    assert code == 1
    assert "synthetic stain itself" in err
    orthanc.upload(*make_ct(tmp_path / "more", SERIES + ".7", slices=3, SyntheticData="YES"))
    words[4] = SERIES + ".7"
    assert "marked as synthetic data" in command(capsys, monkeypatch, *words)[2]


def test_https_takes_the_certificate_it_was_told_to_and_no_other(orthanc, scan, tmp_path, capsys, monkeypatch):
    own, foreign = certificate(tmp_path, "own"), certificate(tmp_path, "foreign")
    with PoorWeb(orthanc.http, str(own)) as front:
        find = ("find", "--pacs", front.web, "--attempts", "2")
        code, shown, _ = command(capsys, monkeypatch, *find, "--ca_file", own.with_suffix(".crt"))
        assert code == 0
        assert SERIES in shown
        for others in ((), ("--ca_file", foreign.with_suffix(".crt"))):
            code, _, err = command(capsys, monkeypatch, *find, *others)
            assert code == 1
            assert "not trusted" in err
            assert err.strip().count("\n") == 0


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://pacs.example/dicom-web", "clear text"),
        ("https://me:hunter2@pacs.example/dicom-web", "credentials in its address"),
        ("ftp://pacs.example", "it is https://"),
        ("dicom://pacs.example:104", "CALLED_AET@"),
        ("dicom://LONGER_THAN_SIXTEEN@pacs.example:104", "16 characters"),
        ("https://pacs.example/dicom-web?token=hunter2", "no ?"),
    ],
)
def test_an_address_that_would_give_secrets_away_is_refused(address, said):
    with pytest.raises(InputError) as refusal:
        read_address(address, {"VIRTUAL_STAINING_PACS_TOKEN": "t0ken"})
    assert said in str(refusal.value)
    assert "t0ken" not in str(refusal.value)


def test_credentials_are_not_sent_on_by_a_redirection(orthanc, tmp_path):
    with PoorWeb(orthanc.http) as there, PoorWeb(orthanc.http) as elsewhere:
        there.faults = [Fault("GET", "/studies", status=302, location=elsewhere.web)]
        client = Web(Address(there.web, "Bearer secret"), QUICK, None, None)
        with pytest.raises(InputError, match="sends us on"):
            client.studies({})
        assert elsewhere.seen == []


def test_what_a_hostile_service_lists_reaches_no_address_and_no_file(orthanc, bundle, tmp_path, capsys, monkeypatch):
    evil = "../../../etc/passwd\x1b[2J"
    study = {"0020000D": {"vr": "UI", "Value": [evil]}}
    known = {"0020000D": {"vr": "UI", "Value": [STUDY]}, "0020000E": {"vr": "UI", "Value": [SERIES]}}
    with PoorWeb(orthanc.http) as poor:
        poor.faults = [Fault("GET", "/studies", status=200, body=json.dumps([study]).encode())]
        assert command(capsys, monkeypatch, "find", "--pacs", poor.web)[:2] == (0, "no series matches\n")
        instance = {"00080018": {"vr": "UI", "Value": [evil]}}
        poor.faults = [
            Fault("GET", "/instances", status=200, body=json.dumps([instance]).encode()),
            Fault("GET", "/series", status=200, body=json.dumps([known]).encode()),
        ]
        words = ("stain", "--pacs", poor.web, "--series", SERIES, "--work", tmp_path / "work", *levels(bundle))
        code, _, err = command(capsys, monkeypatch, *words)
        assert code == 1
        assert "a UID is 1 to 64 digits and dots" in err
        assert "\x1b" not in err
        assert not any("etc" in path for _, path in poor.seen)


@pytest.mark.slow
def test_the_engine_stains_what_orthanc_sends_as_it_stains_the_files(orthanc, scan, bundle, tmp_path):
    """The whole way with the real stainer, from a shell, killed while it stains and started again."""
    common = ["--bone_intensity", "30000", "--background_intensity", "10000"]
    words = [sys.executable, "-m", "scripts.pacs", "stain", "--pacs", orthanc.web, "--series", SERIES]
    words += [*common, "--bundle", str(bundle), "--work", str(tmp_path / "work")]
    first = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not list((tmp_path / "work").glob("*/stained/.work")) and time.monotonic() < end:
        time.sleep(0.02)
    stainers = [path for path in Path("/proc").glob("[0-9]*/stat") if path.read_text().split()[3] == str(first.pid)]
    assert len(stainers) == 1
    first.kill()
    assert first.wait() == -signal.SIGKILL
    while stainers[0].exists() and time.monotonic() < end:  # no stainer goes on that nobody knows of
        time.sleep(0.02)
    assert not stainers[0].exists()
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert "\nstored series 2.25." in f"\n{ended.stdout}"
    assert [action for action, _ in audit_of(tmp_path / "work")] == ["fetched"] * SHAPE[0] + ["stored"]
    configs = str([str(bundle / "configs" / name) for name in ("inference.json", "volume.json")])
    direct = [sys.executable, "-m", "monai.bundle", "run", "inference", "--config_file", configs, *common]
    direct += ["--bundle_root", str(bundle), "--input", str(scan), "--output_dir", str(tmp_path / "direct")]
    subprocess.run(direct, cwd=ROOT, check=True, capture_output=True, timeout=300)
    straight = open_stain(tmp_path / "direct" / "stained.ome.zarr").read((slice(None),) * 3)
    results = files_in(orthanc, only(orthanc), tmp_path / "result")
    np.testing.assert_array_equal(pixels(results), straight)
    assert results[0].SyntheticData == "YES"
    words[words.index("30000")] = "10000"  # what the stainer or its check does not take is one line of ours
    failed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert failed.returncode == 1
    assert failed.stderr.strip().startswith("error: bone_intensity and background_intensity are both")
