"""Numbers per voxel as a Parametric Map: dicom3tools passes it, highdicom and pydicom read it back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from bundle.common.errors import InputError
from bundle.hospital.objects.parametric import Numbers, write_map
from bundle.images.dicom.source import ordered
from tests.hospital.dciodvfy import complaints
from tests.hospital.series import MADE, PIXEL_MM, SHAPE, STEP_MM, ct_series

MAP = np.random.default_rng(7).random(SHAPE, dtype=np.float32)
SOURCE = ordered(ct_series())
NUMBERS = Numbers("a kind", "disagreement", "Disagreement of axes", ("1", "no units"), most=1, shown=1)
ERROR = Numbers("another", "expected error", "Expected error, levels of 255", ("{level}", "level of 255"), 255, 64, 4)


def slab(start: int, stop: int) -> np.ndarray:
    """Slices of the map."""
    return MAP[start:stop]


def test_the_object_is_what_its_class_asks_for(tmp_path: Path) -> None:
    (path,) = write_map(tmp_path, SOURCE, slab, MADE, NUMBERS)
    assert complaints(path) == ["ParametricMap"]


def test_highdicom_reads_the_same_map_in_the_same_place(tmp_path: Path) -> None:
    (path,) = write_map(tmp_path, SOURCE, slab, MADE, NUMBERS)
    read = highdicom.imread(path)
    volume = read.get_volume(apply_real_world_transform=True)
    array = volume.array if volume.affine[:3, 0] @ SOURCE.direction[:, 2] > 0 else volume.array[::-1]
    np.testing.assert_array_equal(array, MAP)
    np.testing.assert_allclose(volume.spacing, [STEP_MM, *PIXEL_MM], rtol=1e-9)
    assert read.FrameOfReferenceUID == SOURCE.instances[0].FrameOfReferenceUID


def test_past_the_limit_there_are_several_objects(tmp_path: Path) -> None:
    paths = write_map(tmp_path, SOURCE, slab, MADE, NUMBERS, limit_bytes=SHAPE[1] * SHAPE[2] * 4 * 4)
    read = [pydicom.dcmread(path) for path in paths]
    assert [each.NumberOfFrames for each in read] == [3, 3]
    np.testing.assert_array_equal(np.concatenate([each.pixel_array for each in read]), MAP)
    assert complaints(paths[1]) == ["ParametricMap"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": "../trust"}, "^label is '../trust'; it must be 1 to 16 letters"),
        ({"label": ""}, "^label is"),
        ({"words": "µ"}, "^words are 'µ'; they must be 1 to 64 characters of ASCII"),
        ({"shown": 2}, "^numbers are from 0 to 1, shown to 2; both"),
        ({"most": float("inf")}, "^numbers are from 0 to inf"),
    ],
)
def test_what_no_tag_takes_is_refused(tmp_path: Path, change: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        write_map(tmp_path, SOURCE, slab, MADE, replace(NUMBERS, **change))
    assert list(tmp_path.iterdir()) == []


def test_a_map_of_another_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="float64, the series' grid asks for 6×14×10 float32"):
        write_map(tmp_path, SOURCE, lambda start, stop: MAP[start:stop].astype(float), MADE, NUMBERS)


@pytest.mark.parametrize("falling", [False, True])
def test_cubes_lie_where_their_voxels_do_and_what_is_not_known_is_said(tmp_path: Path, falling: bool) -> None:
    slices = ct_series()
    for each in slices if falling else []:
        each.InstanceNumber = -each.InstanceNumber
    cubes = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    cubes[0, 1, 2], cubes[1, 0, 0] = np.nan, 300
    (path,) = write_map(tmp_path, ordered(slices), lambda start, stop: cubes[start:stop], MADE, ERROR)
    assert complaints(path) == ["ParametricMap"]
    read, written = highdicom.imread(path), pydicom.dcmread(path)
    assert np.isnan([written.FloatPixelPaddingValue, written.FloatPixelPaddingRangeLimit]).all()
    np.testing.assert_array_equal(written.pixel_array[:: -1 if falling else 1], np.minimum(cubes, 255))
    mapping = read.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.MeasurementUnitsCodeSequence[0].CodeMeaning == "level of 255"
    volume = read.get_volume(apply_real_world_transform=True)
    np.testing.assert_allclose(volume.spacing, [4 * STEP_MM, *(4 * size for size in PIXEL_MM)], rtol=1e-9)
    # the cube (1, 2, 1) holds voxels 4 to 7, 8 to 11 and 4 to 7; its centre is theirs, by the scan's own affine
    scan = SOURCE.direction @ (np.array([5.5, 9.5, 5.5]) * (*PIXEL_MM[::-1], STEP_MM)) + SOURCE.origin_mm
    (place,) = np.argwhere(volume.array == cubes[1, 2, 1])
    np.testing.assert_allclose((volume.affine @ [*place, 1])[:3], scan, atol=1e-9)
