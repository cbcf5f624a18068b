"""Numbers per voxel as a Parametric Map: dicom3tools passes it, highdicom and pydicom read it back."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from bundle.common.errors import InputError
from bundle.hospital.objects.parametric import write_map
from bundle.images.dicom.source import ordered
from tests.hospital.dciodvfy import complaints
from tests.hospital.series import MADE, PIXEL_MM, SHAPE, STEP_MM, ct_series

MAP = np.random.default_rng(7).random(SHAPE, dtype=np.float32)
SOURCE = ordered(ct_series())


def slab(start: int, stop: int) -> np.ndarray:
    """Slices of the map."""
    return MAP[start:stop]


def test_the_object_is_what_its_class_asks_for(tmp_path: Path) -> None:
    (path,) = write_map(tmp_path, SOURCE, slab, MADE, "disagreement", (0, 1))
    assert complaints(path) == ["ParametricMap"]


def test_highdicom_reads_the_same_map_in_the_same_place(tmp_path: Path) -> None:
    (path,) = write_map(tmp_path, SOURCE, slab, MADE, "disagreement", (0, 1))
    read = highdicom.imread(path)
    volume = read.get_volume(apply_real_world_transform=True)
    array = volume.array if volume.affine[:3, 0] @ SOURCE.direction[:, 2] > 0 else volume.array[::-1]
    np.testing.assert_array_equal(array, MAP)
    np.testing.assert_allclose(volume.spacing, [STEP_MM, *PIXEL_MM], rtol=1e-9)
    assert read.FrameOfReferenceUID == SOURCE.instances[0].FrameOfReferenceUID


def test_past_the_limit_there_are_several_objects(tmp_path: Path) -> None:
    paths = write_map(tmp_path, SOURCE, slab, MADE, "trust", (0, 1), limit_bytes=SHAPE[1] * SHAPE[2] * 4 * 4)
    read = [pydicom.dcmread(path) for path in paths]
    assert [each.NumberOfFrames for each in read] == [3, 3]
    np.testing.assert_array_equal(np.concatenate([each.pixel_array for each in read]), MAP)
    assert complaints(paths[1]) == ["ParametricMap"]


@pytest.mark.parametrize(
    ("label", "value_range", "said"),
    [("../trust", (0, 1), "label is"), ("", (0, 1), "label is"), ("trust", (1, 1), "value_range is")],
)
def test_a_label_or_a_range_that_cannot_be_is_refused(
    tmp_path: Path, label: str, value_range: tuple[float, float], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        write_map(tmp_path, SOURCE, slab, MADE, label, value_range)
    assert list(tmp_path.iterdir()) == []


def test_a_map_of_another_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="float64, the series' grid asks for 6×14×10 float32"):
        write_map(tmp_path, SOURCE, lambda start, stop: MAP[start:stop].astype(float), MADE, "trust", (0, 1))
