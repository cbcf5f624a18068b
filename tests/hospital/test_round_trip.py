"""A CT series goes into a PACS, is stained by MONAI Deploy, and the stain comes out again, by every way there is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import itk
import numpy as np
import pydicom
import pytest
import SimpleITK
import tifffile
from dicomweb_client import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass
from highdicom.image import imread

from bundle.hospital.objects.ct import write_series
from bundle.images.dicom.source import open_folder
from bundle.images.volumes.volume import open_volume
from bundle.preparation.phantom.block import make_block
from bundle.preparation.phantom.dataset import write_volume
from bundle.preparation.phantom.tomography import draw_scan, scan_block
from tests.hospital.conftest import needs
from tests.hospital.dciodvfy import complaints
from tests.hospital.deploy_parts import level_words, make_bundle, plain_inference, run_app
from tests.hospital.orthanc import AET, Orthanc, free_ports

pytestmark = pytest.mark.slow
OURS = "ROUNDTRIP"
COLOUR = "1.2.840.10008.5.1.4.1.1.7.4"  # Multi-frame True Color Secondary Capture Image Storage


@pytest.fixture(scope="module")
def bundle(trained, tmp_path_factory) -> Path:
    needs("Orthanc", "dcmtk", "dciodvfy", "deploy")
    return make_bundle(trained, tmp_path_factory.mktemp("round_trip") / "bundle")


def phantom(folder: Path, shared: Path) -> Path:
    rng = np.random.default_rng(0)
    block = make_block(rng, "Mg", size=112, screw_mm=0.2)
    path = folder / "phantom.nii.gz"
    write_volume(path, scan_block(block, draw_scan(rng), rng)[50:58, 40:80, 30:74], 5.0)
    return path


def bone(folder: Path, shared: Path) -> Path:
    voxels = tifffile.imread(shared / "data" / "trabecular_bone" / "volume.tif")[90:97, 60:100, 50:94]
    path = folder / "bone.nii.gz"
    write_volume(path, voxels.astype(np.uint16) * 257, 19.5)
    return path


def dcmtk(program: str) -> Path:
    """A program of dcmtk: pynetdicom has others of the same names, first on the PATH of an activated environment."""
    return Path(str(shutil.which("dcmdump"))).with_name(program)


def run(*words: object) -> None:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def pixels(paths: list[Path]) -> np.ndarray:
    (path,) = paths
    return pydicom.dcmread(path).pixel_array


@pytest.mark.parametrize("make", [phantom, bone])
def test_a_stain_comes_back_from_the_pacs_as_plain_inference_made_it(make, bundle, shared, orthanc, tmp_path):
    scan = make(tmp_path, shared)
    given = tmp_path / "given"
    write_series(given, open_volume(scan))
    with_moves = Orthanc(tmp_path / "orthanc", modalities={OURS: (port := free_ports(1)[0])})
    with with_moves as server:
        called = ["-aet", OURS, "-aec", AET, "127.0.0.1", server.dicom_port]
        run(dcmtk("storescu"), *called, "--scan-directories", given)
        (series,) = server.get("/series")
        source_uid = server.get(f"/series/{series}")["MainDicomTags"]["SeriesInstanceUID"]

        fetched = tmp_path / "fetched"
        fetched.mkdir()
        key = ["-k", "QueryRetrieveLevel=SERIES", "-k", f"SeriesInstanceUID={source_uid}"]
        run(dcmtk("getscu"), "-S", "-od", fetched, *called, *key)
        made = tmp_path / "made"
        done = run_app("-i", fetched, "-o", made, "-m", bundle, *level_words())
        assert done.returncode == 0, done.stderr
        expected = plain_inference(bundle, given, tmp_path / "plain")
        assert np.array_equal(pixels(list(made.iterdir())), expected)
        assert expected.std() > 1

        (path,) = made.iterdir()
        check_object(path, fetched, expected)
        web = client(server)
        web.store_instances([pydicom.dcmread(path)])
        run(dcmtk("storescu"), *called, "-xe", path)  # a second time, the other way: the same object
        assert len(server.get("/instances")) == len(list(given.iterdir())) + 1
        stained = pydicom.dcmread(path, stop_before_pixels=True)
        ids = stained.StudyInstanceUID, stained.SeriesInstanceUID, stained.SOPInstanceUID
        assert ids[0] == server.get(f"/series/{series}/study")["MainDicomTags"]["StudyInstanceUID"]

        key = ["-k", "QueryRetrieveLevel=SERIES", "-k", f"SeriesInstanceUID={ids[1]}"]
        got, moved = tmp_path / "got", tmp_path / "moved"
        got.mkdir()
        moved.mkdir()
        run(dcmtk("getscu"), "-S", "-od", got, *called, *key)
        run(dcmtk("movescu"), "-S", "-aem", OURS, "+P", port, "-od", moved, *called, *key)
        assert np.array_equal(pixels(list(got.iterdir())), expected)
        assert np.array_equal(pixels(list(moved.iterdir())), expected)
        whole = web.retrieve_instance(*ids)
        assert np.array_equal(whole.pixel_array, expected)
        frames = web.retrieve_instance_frames(*ids, [1, len(expected)], media_types=("application/octet-stream",))
        for frame, number in zip(frames, (0, -1), strict=True):
            assert np.array_equal(np.frombuffer(frame, np.uint8).reshape(expected.shape[1:]), expected[number])


def client(server: Orthanc) -> DICOMwebClient:
    session = create_session_from_user_pass(server.user, server.password)
    return DICOMwebClient(server.web, session=session)


def check_object(path: Path, source_folder: Path, expected: np.ndarray) -> None:
    """The object is sound, lies where its source lies, and others read it so."""
    source, made = open_folder(source_folder), pydicom.dcmread(path)
    assert complaints(path) == ["MultiframeTrueColorSCImage"]
    assert made.SOPClassUID == COLOUR
    assert made.FrameOfReferenceUID == source.instances[0].FrameOfReferenceUID
    shared_groups = made.SharedFunctionalGroupsSequence[0]
    orientation = shared_groups.PlaneOrientationSequence[0].ImageOrientationPatient
    measures = shared_groups.PixelMeasuresSequence[0]
    assert list(orientation) == list(source.instances[0].ImageOrientationPatient)
    assert list(measures.PixelSpacing) == list(source.instances[0].PixelSpacing)
    positions = [
        list(each.PlanePositionSequence[0].ImagePositionPatient) for each in made.PerFrameFunctionalGroupsSequence
    ]
    assert positions == [list(each.ImagePositionPatient) for each in source.instances]
    referred = {each.ReferencedSOPInstanceUID for each in made.SourceImageSequence}
    assert referred == set(source.instance_uids)
    assert made.SyntheticData == "YES"
    assert np.array_equal(imread(path).get_frames(apply_icc_profile=False), expected)
    assert np.array_equal(itk.array_from_image(itk.imread(str(path))), expected)
    read = SimpleITK.ReadImage(str(path))
    assert np.array_equal(SimpleITK.GetArrayFromImage(read), expected)
    assert np.allclose(read.GetSpacing(), source.spacing_mm[::-1])
    assert np.allclose(read.GetOrigin(), source.origin_mm)
