"""MONAI Label as a hospital runs it: its own server before Orthanc, asked over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import itk
import numpy as np
import pytest
import requests

from tests.hospital.label_parts import LEVELS, infer, make_model, plain, refused, same_grid, serving
from tests.hospital.orthanc import Orthanc
from tests.hospital.pacs_parts import SERIES, STUDY, files_in, make_ct, only, pixels
from tests.hospital.poor_web import Fault, PoorWeb

pytestmark = pytest.mark.slow

OTHER = f"{SERIES}.5"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a network that has learnt nothing."""
    return make_model(tmp_path_factory.mktemp("model") / "bundle")


@pytest.fixture(scope="module")
def poor(running_orthanc: Orthanc) -> Iterator[PoorWeb]:
    """What stands between the server and Orthanc, and passes all on unless it is told not to."""
    with PoorWeb(running_orthanc.web) as web:
        yield web


@pytest.fixture(scope="module")
def before_pacs(poor: PoorWeb, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server before Orthanc that stores its results there, and must be told the intensities each time."""
    with serving(model, poor.web, tmp_path_factory.mktemp("pacs"), Orthanc.password, stow="true") as address:
        yield address


def test_a_series_of_the_pacs_is_stained_as_by_plain_inference_and_stored_once(
    before_pacs: str, orthanc: Orthanc, model: Path, tmp_path: Path
) -> None:
    orthanc.upload(*make_ct(tmp_path / "ct"))
    expected = plain(model, tmp_path / "ct", tmp_path / "plain")
    colour = itk.array_from_image(expected)
    for suffix in (".nrrd", ".nii.gz"):  # of an oblique scan
        answer = infer(before_pacs, SERIES, **LEVELS, result_extension=suffix)
        assert answer.status_code == 200, answer.text
        path = tmp_path / f"stained{suffix}"
        path.write_bytes(answer.content)
        read = itk.imread(path)
        assert np.array_equal(itk.array_from_image(read), colour)
        assert same_grid(read, expected)
    stored = files_in(orthanc, only(orthanc), tmp_path / "stored")
    assert np.array_equal(pixels(stored), colour)
    assert {each.StudyInstanceUID for each in stored} == {STUDY}
    again = infer(before_pacs, SERIES, output="json", **LEVELS).json()
    assert again["stored"]["instances_sent"] == 0
    assert again["stored"]["series_instance_uid"] == stored[0].SeriesInstanceUID
    assert len(only(orthanc)["Instances"]) == len(stored)


def test_without_both_intensities_nothing_is_fetched_or_guessed(
    before_pacs: str, orthanc: Orthanc, tmp_path: Path
) -> None:
    orthanc.upload(*make_ct(tmp_path / "ct", series=OTHER))
    refused(
        infer(before_pacs, OTHER), 422, "bone_intensity and background_intensity of the scan not given", "give both"
    )
    refused(infer(before_pacs, OTHER, bone_intensity=30000), 422, "give both")
    refused(infer(before_pacs, OTHER, bone_intensity="$print(1)"), 422, "must be a number")
    assert len(orthanc.get("/series")) == 1


@pytest.mark.parametrize("image", ["1.2.3.4", "../../../etc", "none\n\x1b[31m"])
def test_a_series_that_is_not_there_is_said(image: str, before_pacs: str) -> None:
    refused(infer(before_pacs, image, **LEVELS), 404, "has no series")


def test_a_series_with_a_missing_slice_is_refused(before_pacs: str, orthanc: Orthanc, tmp_path: Path) -> None:
    files = make_ct(tmp_path / "ct", series=OTHER)
    orthanc.upload(*files[:3], *files[4:])
    refused(infer(before_pacs, OTHER, **LEVELS), 422, f"series {OTHER} lacks 1 slice between")
    orthanc.upload(files[3])
    assert infer(before_pacs, OTHER, **LEVELS).status_code == 200  # and what was fetched before is not used


def test_hostile_tags_do_no_harm(before_pacs: str, orthanc: Orthanc, tmp_path: Path) -> None:
    hostile = "../../../../tmp/label_was_here\r\n\x1b[31m$(reboot)" + "A" * 200
    tags = dict.fromkeys(("PatientID", "PatientName", "StudyID", "SeriesDescription", "StudyDescription"), hostile)
    orthanc.upload(*make_ct(tmp_path / "ct", series=OTHER, **tags))
    answer = infer(before_pacs, OTHER, **LEVELS)
    assert answer.status_code == 200, answer.text
    assert len(only(orthanc, OTHER)["Instances"]) == 1
    assert not list(Path("/tmp").glob("label_was_here*"))


def test_wrong_credentials_are_said_and_the_server_stays_up(
    running_orthanc: Orthanc, model: Path, tmp_path: Path
) -> None:
    with serving(model, running_orthanc.web, tmp_path / "work", "not the password") as server:
        refused(requests.get(f"{server}/info/", timeout=30), 502, "refuses these credentials (401)")
        refused(
            infer(server, SERIES, **LEVELS), 502, "refuses these credentials (401)", "MONAI_LABEL_DICOMWEB_PASSWORD"
        )
    assert "not the password" not in (tmp_path / "work" / "out.txt").read_text()


def test_a_pacs_that_is_down_is_said_and_asked_again_later(
    before_pacs: str, poor: PoorWeb, orthanc: Orthanc, tmp_path: Path
) -> None:
    orthanc.upload(*make_ct(tmp_path / "ct"))
    orthanc.stop()
    try:
        refused(infer(before_pacs, SERIES, **LEVELS), 502, f"the PACS at {poor.web} cannot be reached")
    finally:
        orthanc.start()
    assert infer(before_pacs, SERIES, output="json", **LEVELS).json()["stored"]["instances_sent"] == 1


# A700: out of resources
REFUSAL = b'{"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [42752]}}]}}'


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("GET", "/series/", cut_answer=5000), "cannot be reached, or broke off"),
        (Fault("POST", "/studies", status=409), "answered 409"),
        (
            Fault("POST", "/studies", status=200, body=REFUSAL),
            "does not take the stained series (failure reason 0xa700",
        ),
        (Fault("POST", "/studies", cut_request=5000), "cannot be reached, or broke off"),
    ],
    ids=["breaks off while it sends", "refuses", "refuses an object", "breaks off while it receives"],
)
def test_what_a_pacs_breaks_off_or_refuses_is_said_and_completed_later(
    fault: Fault, words: str, before_pacs: str, poor: PoorWeb, orthanc: Orthanc, tmp_path: Path
) -> None:
    series = f"{OTHER}.{len(poor.seen)}"  # not in the server's cache
    orthanc.upload(*make_ct(tmp_path / "ct", series=series))
    poor.faults = [fault]
    try:
        refused(infer(before_pacs, series, **LEVELS), 502, words)
    finally:
        poor.faults = []
    assert len(orthanc.get("/series")) == 1
    assert infer(before_pacs, series, output="json", **LEVELS).json()["stored"]["instances_sent"] == 1
    assert len(only(orthanc, series)["Instances"]) == 1
