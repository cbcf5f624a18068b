"""Where not to believe a stain, stored beside it: its expected error, and slices unlike the training data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bundle.common.atomic import write_json
from bundle.common.errors import InputError
from bundle.common.trained_bundle import LIKENESS
from bundle.common.verdicts import NEITHER, NO_ERROR_MAP, Verdict, in_words, summary
from bundle.hospital.objects.colour import TRUE_COLOUR
from bundle.hospital.objects.parametric import PARAMETRIC_MAP
from bundle.hospital.pacs.doubts import CUBE, ERROR_MAP, read_doubts
from bundle.hospital.pacs.faults import UnlikeError
from bundle.hospital.pacs.job import stain_series
from bundle.hospital.pacs.rules import read_rules
from bundle.hospital.pacs.series import get_series
from bundle.hospital.pacs.staining import Wanted, stain_folder
from bundle.hospital.pacs.watch import Watch
from bundle.images.dicom.source import open_folder
from bundle.images.stained import number_map
from bundle.images.stained.number_map import MapSpec
from bundle.images.stained.spec import StainSpec
from bundle.images.volumes.geometry import Geometry
from bundle.networks.cells import CELL
from bundle.networks.error_head import ErrorHead
from bundle.networks.error_map import Calibration, ErrorMap
from bundle.networks.likeness import learn
from bundle.staining.job import RECORD
from bundle.staining.model import load_model
from tests.hospital.dciodvfy import KNOWN, complaints
from tests.hospital.orthanc import Orthanc
from tests.hospital.pacs_parts import (
    QUICK,
    SERIES,
    SHAPE,
    audit_of,
    command,
    desk,
    fake_stain,
    files_in,
    levels,
    make_bundle,
    make_ct,
    wanted,
)

pytestmark = pytest.mark.usefixtures("credentials")
LIKE, DOUBTFUL, UNLIKE = Verdict(1.0), Verdict(2.0), Verdict(3.0)
SOME = [LIKE, LIKE, DOUBTFUL, UNLIKE, UNLIKE, LIKE, LIKE, LIKE]
MOST = [UNLIKE] * 5 + [LIKE] * 3
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
KINDS = {PARAMETRIC_MAP: "map", SEGMENTATION: "segments", TRUE_COLOUR: "stain"}
OWN = (KNOWN, "<99VSTAIN>", "<Laterality>")  # the scan says of no part of a body
Stainer = Callable[[Wanted, Path, Path, Callable[[], None]], Path]


@pytest.fixture
def scan(orthanc, tmp_path) -> Path:
    orthanc.upload(*make_ct(tmp_path / "ct"))
    return tmp_path / "ct"


@pytest.fixture
def judging(tmp_path) -> Path:
    """A bundle with both files, made of noise."""
    bundle = make_bundle(tmp_path / "judging")
    generator = torch.Generator().manual_seed(0)
    sources = [torch.rand(1, 40, 48, generator=generator) - 0.5 for _ in range(3)]
    learn(sources, [0, 1, 2]).save(bundle / LIKENESS)
    features = load_model(bundle).network.features
    ErrorMap(ErrorHead(features), Calibration(1.5, 0.9, 3, 100, 0.8, 0.9, 10)).save(bundle / ERROR_MAP)
    return bundle


def cubes() -> np.ndarray:
    """An expected error that anybody can work out; a cube of it is not known."""
    error = np.arange(2 * 10 * 12, dtype=np.float32).reshape(2, 10, 12) / 4
    error[1, 2, 3] = np.nan
    return error


def judged(verdicts: list[Verdict]) -> Stainer:
    """The stand-in for the engine, with a record and an error map."""

    def stain(asked: Wanted, source: Path, output: Path, heed_stop: Callable[[], None]) -> Path:
        path, scan = fake_stain(asked, source, output, heed_stop), open_folder(source)
        spec = StainSpec(scan.shape, 3, Geometry(scan.spacing_mm, scan.origin_mm, scan.direction), {})
        numbers = MapSpec(spec, CELL, "expected_error", "error", (0.0, 40.0))
        number_map.create(path / "expected_error", numbers)
        number_map.write_slab(path / "expected_error", numbers, 0, cubes())
        number_map.finish(path / "expected_error", numbers)
        error = {"result": f"{path.name}/expected_error", "bound": 1.996, "level": 0.9}
        write_json(output / RECORD, {"likeness": {"z": summary(verdicts)}, "expected_error": error})
        return path

    return stain


def made(orthanc: Orthanc, folder: Path) -> dict[str, list]:
    """What lies beside the scan: the objects of each series, by what they are."""
    found = {}
    for number, each in enumerate(orthanc.get("/series?expand")):
        if each["MainDicomTags"]["SeriesInstanceUID"] != SERIES:
            files = files_in(orthanc, each, folder / str(number))
            found[KINDS[files[0].SOPClassUID]] = files
    return found


def at_work(orthanc: Orthanc, bundle: Path, work: Path, verdicts: list[Verdict], **changes: object) -> str:
    there = desk(orthanc.web, work, stain=judged(verdicts))
    return stain_series(there, get_series(there.pacs, QUICK, SERIES, None), wanted(bundle, **changes))


def test_cubes_are_the_cells_of_the_error_map():
    assert CUBE == CELL


def test_the_error_map_and_the_doubtful_slices_are_stored_beside_the_stain(orthanc, scan, judging, tmp_path, capsys):
    told = at_work(orthanc, judging, tmp_path / "work", SOME)
    words = in_words(summary(SOME))
    assert f"series {SERIES}: {words}\n" == capsys.readouterr().err
    found = made(orthanc, tmp_path)
    (stain,), (error,), (segments,) = found["stain"], found["map"], found["segments"]
    assert error.SeriesInstanceUID in told
    assert segments.SeriesInstanceUID in told
    assert stain.ImageComments == f"SYNTHETIC virtual stain - research only. {words}"
    assert stain.SeriesDescription == "SYNTHETIC virtual stain - research only"

    np.testing.assert_array_equal(error.pixel_array[::-1], cubes())  # as the scan's numbers fall
    assert error.ContentDescription == "Expected error, levels of 255; x 1.996 holds for 90%"
    assert segments.NumberOfFrames == 3
    by_segment = {1: set(), 2: set()}
    for frame in segments.PerFrameFunctionalGroupsSequence:
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        by_segment[number].add(round(float(frame.PlanePositionSequence[0].ImagePositionPatient[2]) / 0.005))
    assert by_segment == {1: {2}, 2: {3, 4}}
    for each in (error, segments):
        assert each.SyntheticData == "YES"
        assert each.FrameOfReferenceUID == stain.FrameOfReferenceUID
        assert each.ReferencedSeriesSequence[0].SeriesInstanceUID == SERIES
    for path in tmp_path.glob("*/*.dcm"):
        if path.parent.name.isdecimal():
            assert len(complaints(path, OWN)) == 1, complaints(path, OWN)
    lines = [json.loads(line) for line in (tmp_path / "work" / "audit.jsonl").read_text().splitlines()]
    assert [line["status"] for line in lines if line["action"] == "judged"] == [words]
    stored = [line["series"] for line in lines if line["action"] == "stored"]
    assert stored == [segments.SeriesInstanceUID, error.SeriesInstanceUID, stain.SeriesInstanceUID]

    before = orthanc.get("/statistics")
    assert "already" in at_work(orthanc, judging, tmp_path / "work", SOME)
    assert orthanc.get("/statistics") == before


def test_a_stain_of_before_gets_its_error_map_and_of_like_slices_nothing_is_marked(orthanc, scan, judging, tmp_path):
    (judging / ERROR_MAP).rename(tmp_path / "error_map.pt")
    there = desk(orthanc.web, tmp_path / "work")
    stain_series(there, get_series(there.pacs, QUICK, SERIES, None), wanted(judging))
    assert set(made(orthanc, tmp_path)) == {"stain"}
    (tmp_path / "error_map.pt").rename(judging / ERROR_MAP)
    at_work(orthanc, judging, tmp_path / "work", [LIKE] * SHAPE[0])
    assert set(made(orthanc, tmp_path)) == {"stain", "map"}
    assert [action for action, _ in audit_of(tmp_path / "work")].count("stored") == 2


def test_another_calibration_makes_another_map(orthanc, scan, judging, tmp_path):
    at_work(orthanc, judging, tmp_path / "work", SOME)
    head = ErrorMap.load(judging / ERROR_MAP).head
    ErrorMap(head, Calibration(2.5, 0.9, 3, 100, 0.8, 0.9, 10)).save(judging / ERROR_MAP)
    at_work(orthanc, judging, tmp_path / "work", SOME)
    kinds = [files_in(orthanc, each, tmp_path / "all")[0].SOPClassUID for each in orthanc.get("/series?expand")]
    assert kinds.count(PARAMETRIC_MAP) == 2
    assert len(kinds) == 5


def test_a_scan_that_is_unlike_says_so_in_every_list(orthanc, scan, judging, tmp_path):
    at_work(orthanc, judging, tmp_path / "work", MOST)
    (stain,) = made(orthanc, tmp_path)["stain"]
    assert stain.SeriesDescription == "SYNTHETIC stain of a scan UNLIKE its training - research only"
    assert "5 unlike (0 to 4); the stain of what is unlike may be wrong" in stain.ImageComments


def test_a_scan_that_is_unlike_is_refused_where_that_is_asked_for(orthanc, scan, judging, tmp_path):
    with pytest.raises(UnlikeError, match=rf"^series {SERIES} is refused: [^\n]* refuse_unlike is true\.$"):
        at_work(orthanc, judging, tmp_path / "work", MOST, refuse_unlike=True)
    assert made(orthanc, tmp_path) == {}
    assert [path.name for path in (tmp_path / "work").rglob("*.dcm")] == []
    assert audit_of(tmp_path / "work")[-1] == ("refused", None)
    at_work(orthanc, judging, tmp_path / "work", SOME, refuse_unlike=True)
    assert set(made(orthanc, tmp_path)) == {"stain", "map", "segments"}


def test_a_watcher_refuses_by_a_rule_once(orthanc, scan, judging, tmp_path, capsys):
    rules = tmp_path / "rules.json"
    rule = {"match": {"Modality": "CT"}, "bone_intensity": 30000, "background_intensity": 10000}
    rules.write_text(json.dumps([rule | {"refuse_unlike": True}]))
    there = desk(orthanc.web, tmp_path / "work", stain=judged(MOST))
    watch = Watch(there, read_rules(rules), judging, 10, 0, None, now=lambda: 1000.0)
    assert [watch.run(once=True) for _ in range(3)] == [0, 0, 0]
    assert capsys.readouterr().err.count("is refused: it is unlike the training data") == 1
    assert made(orthanc, tmp_path) == {}
    rules.write_text(json.dumps([rule | {"refuse_unlike": "yes"}]))
    with pytest.raises(InputError, match=r"rule 1: refuse_unlike is 'yes'; it must be true or false\.$"):
        read_rules(rules)


def test_what_cannot_be_judged_is_not_refused_but_said(orthanc, scan, bundle, tmp_path, capsys, monkeypatch):
    words = ("stain", "--pacs", orthanc.web, "--series", SERIES, "--work", tmp_path / "work", *levels(bundle))
    code, _, err = command(capsys, monkeypatch, *words, "--refuse_unlike", "true")
    assert code == 1
    assert err == (
        f"\nerror: refuse_unlike is true, but {bundle} has no models/likeness.npz, so nothing can be called unlike; "
        "leave it out."
    )
    assert "refuse_unlike is 'maybe'" in command(capsys, monkeypatch, *words, "--refuse_unlike", "maybe")[2]
    assert command(capsys, monkeypatch, *words)[::2] == (0, f"series {SERIES}: {NEITHER}\n")


@pytest.mark.parametrize(
    ("record", "missing"),
    [({}, NEITHER), ({"likeness": {"z": summary(SOME)}}, NO_ERROR_MAP), ({"expected_error": {"bound": 2.0}}, "")],
)
def test_what_a_record_does_not_have_is_one_line(tmp_path, record, missing):
    write_json(tmp_path / RECORD, record)
    assert read_doubts(tmp_path).missing == missing


@pytest.mark.slow
def test_the_bundles_own_engine_says_all_of_it_and_refuses(judging, tmp_path):
    make_ct(tmp_path / "ct")
    asked = wanted(judging, speed="stock")
    stain_folder(asked, tmp_path / "ct", tmp_path / "out", lambda: None)
    doubts = read_doubts(tmp_path / "out")
    assert doubts.missing == ""
    assert doubts.error["bound"] == 1.5
    assert sum(doubts.likeness["slices"].values()) == SHAPE[0]
    learn([torch.full((1, 40, 48), level) for level in (0.9, 0.91, 0.92)], [0, 1, 2]).save(judging / LIKENESS)
    with pytest.raises(
        UnlikeError, match=r"unlike the training data: of \d+ of its \d+ [^\n]* refuse_unlike is true\.$"
    ):
        stain_folder(wanted(judging, refuse_unlike=True), tmp_path / "ct", tmp_path / "refused", lambda: None)
