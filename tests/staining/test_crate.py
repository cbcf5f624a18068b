"""The origin of a result, read back by RO-Crate's own library."""

import json
import re

import pytest

from bundle.common.errors import InputError
from bundle.common.html import RESEARCH
from bundle.staining.crate import CRATE, write_crate
from tests.helpers.slide_staining import HE, KI67, make_bundle, stain_slide, tissue, write_slide
from tests.helpers.volumes import stain

rocrate = pytest.importorskip("rocrate.rocrate")
TOLD = {
    "stain": "Ki-67 <b> β\udcff",
    "source": '{"@id": "./"}',
    "input": ["/home/someone/a/60kV.nii.gz", "/home/someone/b/90kV.nii.gz"],
    "bundle_root": "/home/someone/models/ki67",
    "started": "2026-11-30T14:00:00+0100",
    "code": "c0ffee+",
    "fingerprint": {"scan": "aa bb", "model": "cc"},
}


def read(folder):
    """A crate, its entities by name; every reference leads to one of them, or out of the crate."""
    crate = rocrate.ROCrate(folder)
    graph = json.loads((folder / CRATE).read_text(encoding="utf-8"))["@graph"]
    known = {each["@id"] for each in graph}
    assert len(known) == len(graph)
    for each in graph:
        for name, values in each.items():
            for value in values if isinstance(values, list) else [values]:
                if isinstance(value, dict):
                    outside = value["@id"].startswith("https://w3id.org/ro/crate/")
                    assert (list(value) == ["@id"] and value["@id"] in known) or outside, (name, value)
                    assert outside or crate.dereference(value["@id"]) is not None
    for part in crate.root_dataset["hasPart"]:
        assert (folder / part.id).exists()
        assert part.type in ("File", "Dataset")
    return crate


def checksums(entity):
    found = entity["identifier"]
    return [each["value"] for each in (found if isinstance(found, list) else [found])]


def test_it_says_what_the_record_says(tmp_path):
    (tmp_path / "volume.json").write_text("{}")
    (tmp_path / "stained.ome.zarr").mkdir()
    parts = {"stained.ome.zarr": "the stain", "stained.nii": "not there", "volume.json": "as told", CRATE: "itself"}
    write_crate(tmp_path / "volume.json", TOLD, parts)
    before = (tmp_path / CRATE).read_bytes()
    write_crate(tmp_path / "volume.json", TOLD, parts)
    assert (tmp_path / CRATE).read_bytes() == before
    assert b"someone" not in before
    crate = read(tmp_path)
    root, action = crate.root_dataset, crate.dereference("#staining")
    assert [part.id for part in root["hasPart"]] == ["stained.ome.zarr/", "volume.json"]
    assert RESEARCH in root["description"]
    assert "Synthetic" in root["description"]
    assert root["mentions"] is action
    assert root["datePublished"] == action["startTime"] == "2026-11-30T14:00:00+01:00"
    assert action.get("endTime") is None
    assert action.type == "CreateAction"
    given, model = action["object"]
    assert given["name"] == "60kV.nii.gz, 90kV.nii.gz"
    assert checksums(given) == ["aa", "bb"]
    assert checksums(model) == ["cc"]
    assert model["name"] == '{"@id": "./"} to Ki-67 <b> β\udcff (ki67)'
    assert action["instrument"].type == "SoftwareApplication"
    assert action["instrument"]["softwareVersion"].endswith("commit c0ffee+")
    assert [part.id for part in action["result"]] == [part.id for part in root["hasPart"]]


def test_an_address_stays_whole_and_an_end_is_told(tmp_path):
    told = {**TOLD, "input": "s3://bucket/scan.ome.zarr", "ended": "2026-11-30T15:00:00+0000", "code": None}
    write_crate(tmp_path / "volume.json", told, {})
    action = read_plain(tmp_path)["#staining"]
    assert action["endTime"] == "2026-11-30T15:00:00+00:00"
    assert read_plain(tmp_path)["#input"]["name"] == "s3://bucket/scan.ome.zarr"
    assert "commit" not in read_plain(tmp_path)["#software"].get("softwareVersion", "")


def test_little_is_known(tmp_path):
    """A record of an early version: what it does not say is left out."""
    write_crate(tmp_path / "volume.json", {"input": "a.nii"}, {})
    root = read_plain(tmp_path)["./"]
    assert "datePublished" not in root
    assert "identifier" not in read_plain(tmp_path)["#model"]


def read_plain(folder):
    return {each["@id"]: each for each in json.loads((folder / CRATE).read_text(encoding="utf-8"))["@graph"]}


def test_a_stained_volume_has_one(bundle, scan, tmp_path):
    stain(bundle, scan, tmp_path, window=None)
    record = json.loads((tmp_path / "volume.json").read_text())
    crate = read(tmp_path)
    ids = {part.id for part in crate.root_dataset["hasPart"]}
    assert ids >= {"stained.ome.zarr/", "volume.json", "report.html", "views.png", "rendering.png"}
    given, model = crate.dereference("#staining")["object"]
    assert given["name"] == "scan.nii.gz"
    assert checksums(given) == [record["fingerprint"]["scan"]]
    assert checksums(model) == [record["fingerprint"]["model"]]
    assert CRATE in (tmp_path / "report.html").read_text()
    action = crate.dereference("#staining")
    assert action["startTime"] <= action["endTime"]
    before = (tmp_path / CRATE).read_bytes()
    (tmp_path / CRATE).unlink()  # as one of an earlier version lacks it
    stain(bundle, scan, tmp_path, window=None)
    assert (tmp_path / CRATE).read_bytes() == before


def test_a_stained_slide_has_one(tmp_path, small_blocks):
    model = make_bundle(tmp_path / "bundle", HE, KI67)
    slide = write_slide(tmp_path / "a.tif", tissue())
    stain_slide(model, slide, tmp_path / "out", viewer=True)
    crate = read(tmp_path / "out")
    ids = [part.id for part in crate.root_dataset["hasPart"]]
    assert ids == ["stained.ome.zarr/", "report.html", "tiles/", "slide.json"]
    given, _ = crate.dereference("#staining")["object"]
    record = json.loads((tmp_path / "out" / "slide.json").read_text())
    assert (given["name"], checksums(given)) == ("a.tif", [record["fingerprint"]["slide"]])


def test_another_s_crate_is_not_replaced(bundle, scan, tmp_path):
    (tmp_path / CRATE).write_text("mine")
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / CRATE} is there, but no volume.json")):
        stain(bundle, scan, tmp_path, window=None)
    assert (tmp_path / CRATE).read_text() == "mine"
