"""What tests of bundle.hospital.pacs have in common: a small scan, a small bundle, a stand-in for the stainer."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from bundle.common.command_line import commands
from bundle.common.errors import InputError
from bundle.hospital.pacs import commands as pacs_commands
from bundle.hospital.pacs.client import connect
from bundle.hospital.pacs.faults import Patience
from bundle.hospital.pacs.job import Desk
from bundle.hospital.pacs.staining import Wanted
from bundle.images.dicom.source import open_folder
from bundle.images.stained import stored
from bundle.images.stained.spec import StainSpec
from bundle.images.stained.stored import DEPTH
from bundle.images.volumes.geometry import Geometry
from bundle.networks import ResnetGenerator
from tests.conftest import ROOT
from tests.hospital.orthanc import Orthanc

SHAPE = (8, 40, 48)
ROOT_UID = "1.2.826.0.1.3680043.10.543"
STUDY, SERIES, FRAME = (f"{ROOT_UID}.{number}" for number in (1, 2, 3))
QUICK = Patience(attempts=3, timeout_s=10, first_pause_s=0.05)
SECRETS = {"VIRTUAL_STAINING_PACS_USER": Orthanc.user, "VIRTUAL_STAINING_PACS_PASSWORD": Orthanc.password}


def make_ct(folder: Path, series: str = SERIES, slices: int = SHAPE[0], **tags: object) -> list[Path]:
    """Write a CT series with an oblique grid, its files and numbers in another order than its slices."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    row, column = np.array([0.8, 0.6, 0.0]), np.array([-0.6, 0.8, 0.0])
    paths = []
    for z in range(slices):
        each = Dataset()
        each.file_meta = FileMetaDataset()
        each.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        each.file_meta.MediaStorageSOPClassUID = each.SOPClassUID = CTImageStorage
        each.file_meta.MediaStorageSOPInstanceUID = each.SOPInstanceUID = f"{series}.{97 * (z + 1) % 101}"
        each.StudyInstanceUID, each.SeriesInstanceUID, each.FrameOfReferenceUID = STUDY, series, FRAME
        each.PatientID, each.PatientName, each.PatientBirthDate, each.PatientSex = "rat 7", "Doe^Jane", "", ""
        each.StudyID, each.StudyDate, each.StudyTime, each.AccessionNumber = "1", "20260102", "101112", ""
        each.Modality, each.SeriesDescription, each.StudyDescription = "CT", "bone 5 um", "implants"
        each.SeriesNumber, each.InstanceNumber, each.ImageType = 1, slices - z, ["ORIGINAL", "PRIMARY", "AXIAL"]
        each.ReferringPhysicianName, each.Manufacturer, each.PatientPosition = "", "phantom", "HFS"
        each.ImagePositionPatient = [1.5, -2.25, 0.005 * z]
        each.ImageOrientationPatient = [*row, *column]
        each.PixelSpacing, each.SliceThickness = [0.005, 0.005], 0.005
        each.Rows, each.Columns = SHAPE[1:]
        each.SamplesPerPixel, each.PhotometricInterpretation, each.PixelRepresentation = 1, "MONOCHROME2", 0
        each.BitsAllocated, each.BitsStored, each.HighBit = 16, 16, 15
        each.RescaleSlope, each.RescaleIntercept, each.RescaleType = 1, 0, "US"
        each.PixelData = rng.integers(8000, 40000, SHAPE[1:], np.uint16).tobytes()
        for keyword, value in tags.items():
            setattr(each, keyword, value)
        paths.append(folder / f"{(z * 5) % slices:03d}.dcm")
        each.save_as(paths[-1], enforce_file_format=True)
    return paths


def make_bundle(folder: Path) -> Path:
    """A bundle as a training leaves it, of a network that has learnt nothing."""
    for name in ("inference.json", "series.json", "volume.json", "metadata.json", "logging.conf"):
        (folder / "configs").mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "configs" / name, folder / "configs" / name)
    path = folder / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["network_def"] |= {"width": 4, "blocks": 1}
    path.write_text(json.dumps(config | {"window": 32, "step": 16}))
    torch.manual_seed(0)
    network = ResnetGenerator(**{key: value for key, value in config["network_def"].items() if key != "_target_"})
    (folder / "models").mkdir()
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return folder


def colours(values: np.ndarray) -> np.ndarray:
    """A stain that anybody can work out: (…, 3), uint8."""
    values = values.astype(np.int64)
    return np.stack([values // 256, values % 256, 255 - values // 256], axis=-1).astype(np.uint8)


def fake_stain(wanted: Wanted, source: Path, output: Path, heed_stop: Callable[[], None]) -> Path:
    """What stands in for the engine where it is not what is tested."""
    scan, path = open_folder(source), output / "stained.ome.zarr"
    spec = StainSpec(scan.shape, 3, Geometry(scan.spacing_mm, scan.origin_mm, scan.direction), {})
    output.mkdir(parents=True, exist_ok=True)
    stored.create(path, "ome-zarr", spec)
    for start in range(0, scan.shape[0], DEPTH):
        stop = min(start + DEPTH, scan.shape[0])
        stored.write_slab(path, "ome-zarr", spec, start, colours(scan.read(start, stop)))
    stored.finish(path, "ome-zarr", spec)
    return path


def certificate(folder: Path, name: str) -> Path:
    """A certificate and its key for 127.0.0.1, which signs itself, in one PEM."""
    key, cert = folder / f"{name}.key", folder / f"{name}.crt"
    subject = ("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1")
    new = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key, "-out", cert)
    subprocess.run([*new, *subject], check=True, capture_output=True)
    both = folder / f"{name}.pem"
    both.write_bytes(key.read_bytes() + cert.read_bytes())
    return both


def wanted(bundle: Path, **changes: object) -> Wanted:
    """What is made in most tests."""
    return Wanted(**{"bundle_root": bundle, "bone_intensity": 30000.0, "background_intensity": 10000.0, **changes})


def desk(address: str, work: Path, **changes: object) -> Desk:
    """A desk with the stand-in; options of ``connect`` and of the desk."""
    own = {key: changes.pop(key) for key in ("stain", "heed_stop", "keep") if key in changes}
    patience = changes.pop("patience", QUICK)
    return Desk(
        connect(address, patience, **changes), patience, work, work / "audit.jsonl", **{"stain": fake_stain, **own}
    )


def audit_of(work: Path) -> list[tuple[str, str | None]]:
    """Action and SOP Instance UID of each line."""
    lines = [json.loads(line) for line in (work / "audit.jsonl").read_text().splitlines()]
    return [(line["action"], line["sop_uid"]) for line in lines]


def command(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str, str]:
    """``python -m scripts.pacs`` in this process, with the stand-in: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["pacs", *map(str, words)])
    monkeypatch.setattr(pacs_commands, "Desk", lambda *given: Desk(*given, stain=fake_stain))
    capsys.readouterr()
    known = {"find": pacs_commands.find, "stain": pacs_commands.stain, "watch": pacs_commands.watch}
    code, fault = 0, ""
    try:
        commands(known)
    except SystemExit as end:
        code = int(end.code or 0)
    except InputError as error:  # what plain_errors prints at the end of a process
        code, fault = 1, f"\nerror: {error}"
    shown = capsys.readouterr()
    return code, shown.out, shown.err + fault


def levels(bundle: Path) -> list[str]:
    """Options that each staining needs."""
    return ["--bundle", str(bundle), "--bone_intensity", "30000", "--background_intensity", "10000"]


def only(orthanc: Orthanc, source: str = SERIES) -> dict:
    """The series that has come beside the source, as Orthanc's own interface tells it."""
    found = [each for each in orthanc.get("/series?expand") if each["MainDicomTags"]["SeriesInstanceUID"] != source]
    assert len(found) == 1, found
    return found[0]


def files_in(orthanc: Orthanc, series: dict, folder: Path) -> list[Dataset]:
    """The files of a series of Orthanc, in the order of their numbers."""
    folder.mkdir(exist_ok=True)
    datasets = []
    for name in series["Instances"]:
        path = folder / f"{name}.dcm"
        path.write_bytes(orthanc.request(f"/instances/{name}/file"))
        datasets.append(dcmread(path))
    return sorted(datasets, key=lambda each: int(each.InstanceNumber))


def pixels(datasets: list[Dataset]) -> np.ndarray:
    """(Z, Y, X, 3) of a result, along the normal: ``make_ct`` counts its slices down, and the result follows it."""
    return np.concatenate([each.pixel_array.reshape(-1, *SHAPE[1:], 3) for each in datasets])[::-1]
