"""A scan and a slide as files, their truth, and registrations from a guess that is near."""

import json
from functools import cache
from types import SimpleNamespace

import itk
import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from skimage.measure import block_reduce

from bundle.images.slides import write_slide
from bundle.preparation.phantom.block import RIGID
from bundle.preparation.phantom.dataset import write_volume
from bundle.preparation.phantom.laboratory import make_specimen
from bundle.preparation.registration import plane as planes
from bundle.preparation.registration.many import made_again
from bundle.preparation.registration.run import RESULT, register
from bundle.preparation.registration.search import Effort
from tests.conftest import ROOT

SIZE, UM, PIXEL_UM = 112, 8.0, 4.0
# the size is given, for formats round it each in their way, and that moves the optimum by some tenths of a voxel
NEAR = {"guess_deg": 8, "guess_um": 80, "scan_voxel_um": UM}
LITTLE = Effort(2000, (16, 6, 3), 1)  # enough from so near


@pytest.fixture(scope="module", autouse=True)
def little_effort():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planes, "GUESSED", LITTLE)
        patch.setattr(planes, "TRIES", (1,))
        yield


@pytest.fixture(scope="module")
def case(tmp_path_factory, little_effort):
    """A scan and a slide as files, their truth, a guess that is off, and the registration from it."""
    return registered(tmp_path_factory.getbasetemp() / "register")


@cache
def registered(folder):
    """That, made once for all modules."""
    folder.mkdir()
    specimen = make_specimen(1, "Mg", 1, "toluidine", SIZE, UM, 0.4)
    slide = specimen.slide
    write_volume(folder / "scan.nii.gz", specimen.scan, UM)
    write_slide(folder / "slide.png", slide.pixels, PIXEL_UM)
    last = SIZE - 1
    corners = [slide.plane.points(np.array(r), np.array(c)) for r, c in ((0, 0), (0, last), (last, 0))]
    off = np.array([[4, -3, 5], [7, -6, 9], [-1, -1, 6]])
    guess = (np.array(corners) + off).tolist()
    where = np.argwhere(np.isin(slide.labels, RIGID))
    where = where[np.random.default_rng(0).permutation(len(where))[:60]]
    voxels = slide.plane.points(*slide.places[:, where[:, 0], where[:, 1]]).T
    write_table(folder / "voxels.csv", "z,y,x", voxels)
    write_table(folder / "pixels.csv", "row,column", where)
    found = SimpleNamespace(folder=folder, specimen=specimen, slide=slide, guess=guess, scan=specimen.scan)
    found.volume, found.section, found.pair = (str(folder / name) for name in ("scan.nii.gz", "slide.png", "pair"))
    found.marks = {
        "volume_landmarks": str(folder / "voxels.csv"),
        "section_landmarks": str(folder / "pixels.csv"),
    }
    found.said = register(found.volume, found.section, found.pair, guess=guess, refine=True, **NEAR, **found.marks)
    found.facts = facts_of(found.pair)
    return found


def write_table(path, heading, rows):
    path.write_text("\n".join([heading, *(",".join(f"{value:.4f}" for value in row) for row in rows)]) + "\n")


def facts_of(folder):
    return json.loads((ROOT / str(folder) / RESULT).read_text())


def again(case, folder, **changes):
    """The same registration with some arguments changed, into another folder."""
    arguments = {"volume": case.volume, "section": case.section, "guess": case.guess, **NEAR, **changes}
    register(output=str(folder), **arguments)
    return facts_of(folder)


def tfm(folder, name):
    """A transform as ITK reads it, as a matrix and an offset of x, y, z in mm."""
    (transform,) = itk.transformread(str(folder / name))
    offset = np.array(transform.TransformPoint([0.0, 0, 0]))
    return np.column_stack([np.array(transform.TransformPoint(axis)) - offset for axis in np.eye(3).tolist()]), offset


def on_the_grid(image, transform, shape, um):
    """ITK's linear resampling of an image through a transform onto a pair's grid."""
    resampled = itk.resample_image_filter(
        image,
        transform=transform,
        size=[shape[1], shape[0], 1],
        output_spacing=[um / 1000] * 3,
        output_origin=[0.0] * 3,
        interpolator=itk.LinearInterpolateImageFunction.New(image),
    )
    return itk.array_from_image(resampled)[0]


def plane_error(case, facts):
    """Mean distance of the section's corners from the plane that was cut, voxels."""
    plane, true = facts["plane"], case.slide.plane
    down, right, centre = (np.array(plane[key]) * plane["voxel_um"] / UM for key in ("down", "right", "centre"))
    corners = [centre + SIZE / 2 * (a * down + b * right) for a in (-1, 1) for b in (-1, 1)]
    return np.abs((corners - true.centre) @ true.normal).mean()


def places_of(shape, um, finer=2):
    """x, y, 0 in mm of a pair's pixels, ``finer`` to a side."""
    rows, columns = ((np.arange(size * finer) + 0.5) / finer - 0.5 for size in shape)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    return np.stack([x, y, np.zeros_like(x)], axis=-1) * um / 1000


def through(folder, pixels, shape, shifts=None, um=PIXEL_UM):
    """The slide on the pair's grid: displacements, then section.tfm, then scipy, averaged over 2 × 2."""
    matrix, offset = tfm(folder, "section.tfm")
    points = places_of(shape, UM)
    if shifts is not None:
        where = np.moveaxis(points[..., 1::-1], -1, 0) * 1000 / UM
        parts = [map_coordinates(shifts[..., n], where, order=1, mode="nearest") for n in range(3)]
        points = points + np.stack(parts, axis=-1)
    slide = (points @ matrix.T + offset)[..., 1::-1] * 1000 / um
    where = np.moveaxis(slide, -1, 0)
    seen = [map_coordinates(channel.astype(float), where, order=1, mode="nearest") for channel in pixels]
    return block_reduce(np.stack(seen), (1, 2, 2), np.mean)


@pytest.fixture(scope="module")
def affine(case):
    """The same without local shifts taken out."""
    folder = case.folder / "affine"
    return facts_of(folder) if folder.exists() else again(case, folder)


def apart(facts, corners):
    """Mean distance of a section's corners from others in the world, voxels."""
    return np.linalg.norm(np.array(facts["plane"]["corners_world"]) - corners, axis=1).mean() * 1000 / UM


def pixels_of(case):
    return np.loadtxt(case.folder / "pixels.csv", delimiter=",", skiprows=1)


def made_quickly(**given):
    """What a worker makes of a table, with little effort too."""
    planes.GUESSED, planes.TRIES = LITTLE, (1,)
    return made_again(**given)
