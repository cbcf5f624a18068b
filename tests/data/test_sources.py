"""Mean and deviation of the training sources, against numpy on the files."""

import numpy as np
import pytest

from bundle.common.errors import InputError
from bundle.data.load import load_datalist
from bundle.data.sources import statistics
from bundle.images.slides import read_mask, read_slide, write_slide
from tests.conftest import make_dataset


@pytest.mark.parametrize("inverted", [False, True])
def test_statistics_are_numpys_inside_the_masks(tmp_path, inverted):
    data = load_datalist(str(make_dataset(tmp_path / "data", pairs=3)))
    values = np.concatenate(
        [read_slide(pair.source).pixels[:, read_mask(pair.mask)].ravel() / 65535 * 2 - 1 for pair in data.training]
    )
    mean, deviation = statistics(data, inverted)
    assert mean == pytest.approx(-values.mean() if inverted else values.mean(), abs=1e-4)
    assert deviation == pytest.approx(values.std(), abs=1e-4)


def test_sources_of_one_value_are_refused(tmp_path):
    folder = make_dataset(tmp_path / "data", pairs=1)
    for number, path in enumerate(sorted((folder / "source").iterdir())):
        pixels = np.full((1, 64, 72), 700, np.uint16)
        pixels[:, 0, number] = 65535  # outside the mask
        write_slide(path, pixels)
    with pytest.raises(InputError, match="all training sources are of one grey value"):
        statistics(load_datalist(str(folder)))
