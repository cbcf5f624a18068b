"""Transforms and volumes that other programs load, read by ITK and SimpleITK, and against what ITK writes itself."""

import subprocess
import sys
from types import SimpleNamespace

import itk
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy.spatial.transform import Rotation

from bundle.images.volumes.geometry import Geometry
from bundle.preparation.registration import exchange
from tests.conftest import ROOT

TURNED = Rotation.from_euler("xyz", [31, -52, 117], degrees=True).as_matrix()
FLAT = Rotation.from_euler("x", 90, degrees=True).as_matrix()
NEARLY = Rotation.from_euler("xy", [90 - 1e-7, 40], degrees=True).as_matrix()
ROTATIONS = {"none": np.eye(3), "turned": TURNED, "upright": FLAT, "upside": FLAT.T, "nearly": NEARLY}


@pytest.mark.parametrize("rotation", ROTATIONS.values(), ids=ROTATIONS)
def test_a_rigid_transform_is_read_as_it_was(rotation, tmp_path):
    offset = np.array([1 / 3, -2e-7, 12345.678])
    exchange.write_rigid(tmp_path / "plane.tfm", rotation, offset)
    (read,) = itk.transformread(str(tmp_path / "plane.tfm"))
    assert type(read).__name__.startswith("itkEuler3DTransform")
    np.testing.assert_allclose(itk.array_from_matrix(read.GetMatrix()), rotation, atol=1e-9)
    np.testing.assert_allclose(list(read.GetOffset()), offset, rtol=0, atol=1e-12)
    other = sitk.ReadTransform(str(tmp_path / "plane.tfm"))
    point = np.array([3.0, -4.0, 5.0])
    np.testing.assert_allclose(other.TransformPoint(point), rotation @ point + offset, rtol=0, atol=1e-8)


def test_transforms_say_what_itk_would_write(tmp_path):
    offset = [0.1, -2.5, 3.0]
    own, linear = itk.Euler3DTransform[itk.D].New(), itk.AffineTransform[itk.D, 3].New()
    own.SetMatrix(itk.matrix_from_array(TURNED), 1e-6)
    whole = np.eye(3)
    whole[:2, :2] = [[1.02, 0.1], [-0.2, 0.97]]
    linear.SetMatrix(itk.matrix_from_array(whole))
    own.SetOffset(offset)
    linear.SetOffset([*offset[:2], 0.0])
    exchange.write_rigid(tmp_path / "rigid.tfm", TURNED, np.array(offset))
    exchange.write_affine(tmp_path / "affine.tfm", whole[:2, :2], np.array(offset[:2]))
    for transform, name in ((own, "rigid.tfm"), (linear, "affine.tfm")):
        itk.transformwrite([transform], str(tmp_path / "itk.tfm"))
        made, theirs = (entries(tmp_path / file) for file in (name, "itk.tfm"))
        assert made.keys() == theirs.keys()
        assert made["Transform"] == theirs["Transform"]
        for key in ("Parameters", "FixedParameters"):
            np.testing.assert_allclose(*(np.fromstring(each[key], sep=" ") for each in (made, theirs)), atol=1e-15)


def entries(path):
    lines = [line.partition(": ") for line in path.read_text().splitlines() if not line.startswith("#")]
    return {key: value for key, _, value in lines if key}


@pytest.fixture
def pose(monkeypatch):
    """A plane somewhere, in place of a registration's."""
    origin = np.array([1 / 3, -7.25, 2e-5])
    monkeypatch.setattr(exchange, "plane_in_world", lambda grid, geometry: (TURNED, origin))
    return SimpleNamespace(origin=origin, geometry=Geometry((5.0, 5.0, 5.0), (0.0, 0.0, 0.0), np.eye(3)))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_section_in_the_world_is_what_itk_would_write(channels, pose, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (channels, 6, 9), np.uint8)
    exchange.write_in_world(tmp_path / "made.nrrd", pixels, None, pose.geometry)
    last = pixels.transpose(1, 2, 0)[None] if channels > 1 else pixels
    theirs = itk.image_from_array(np.ascontiguousarray(last), is_vector=channels > 1)
    theirs.SetSpacing([0.005] * 3)
    theirs.SetOrigin(pose.origin.tolist())
    theirs.SetDirection(itk.matrix_from_array(TURNED))
    alike(tmp_path, theirs)


def test_a_warp_is_what_itk_would_write(tmp_path):
    shifts = np.random.default_rng(1).normal(size=(2, 5, 7)).astype(np.float32)
    exchange.write_warp(tmp_path / "made.nrrd", shifts, 2.5)
    field = np.stack([shifts[1], shifts[0], np.zeros_like(shifts[0])], axis=-1)[None]
    theirs = itk.image_from_array(np.ascontiguousarray(field), is_vector=True)
    theirs.SetSpacing([0.0025] * 3)
    alike(tmp_path, theirs)


def alike(folder, theirs):
    """What is in ``made.nrrd`` against an image that ITK writes, by ITK and by SimpleITK, and the headers' words."""
    itk.imwrite(theirs, str(folder / "itk.nrrd"), compression=True)
    paths = [folder / "made.nrrd", folder / "itk.nrrd"]
    made, wanted = (itk.imread(str(path)) for path in paths)
    assert type(made) is type(wanted)
    np.testing.assert_array_equal(itk.array_from_image(made), itk.array_from_image(wanted))
    np.testing.assert_allclose(list(made.GetOrigin()), list(wanted.GetOrigin()), rtol=0, atol=1e-12)
    np.testing.assert_allclose(list(made.GetSpacing()), list(wanted.GetSpacing()), rtol=1e-12)
    np.testing.assert_allclose(*(itk.array_from_matrix(each.GetDirection()) for each in (made, wanted)), atol=1e-12)
    made, wanted = (sitk.ReadImage(str(path)) for path in paths)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(made), sitk.GetArrayFromImage(wanted))
    assert made.GetPixelIDTypeAsString() == wanted.GetPixelIDTypeAsString()
    np.testing.assert_allclose(made.GetDirection(), wanted.GetDirection(), atol=1e-12)
    made, wanted = (words(path) for path in paths)
    assert made == wanted


def words(path):
    """A header's fields, the numbers of its geometry left out."""
    header = path.read_bytes().partition(b"\n\n")[0].decode()
    lines = [line.partition(": ") for line in header.splitlines()]
    return [(key, "" if key in ("space directions", "space origin") else value) for key, _, value in lines]


def test_the_same_again_gives_the_same_bytes(pose, tmp_path):
    pixels = np.full((3, 4, 5), 7, np.uint8)
    for name in ("a.nrrd", "b.nrrd"):
        exchange.write_in_world(tmp_path / name, pixels, None, pose.geometry)
    assert (tmp_path / "a.nrrd").read_bytes() == (tmp_path / "b.nrrd").read_bytes()


def test_registration_is_imported_without_itk():
    """And so are two slides, whose engine alone needs it."""
    lines = (
        "import sys; sys.modules['itk'] = None",
        "import bundle.preparation.registration.run, bundle.preparation.registration.two_slides.run",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
