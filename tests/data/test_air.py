"""Air in training patches: found by its grey value, told what it looks like, and put beside the sample."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from bundle.common.errors import InputError
from bundle.data.air import RandAird, RandPatchAird, all_of, brightest_air, is_air
from bundle.data.load import load_datalist
from bundle.data.patches import load_pair
from bundle.data.transforms import RandMaskedPatchd
from bundle.images.slides import write_slide
from tests.conftest import make_dataset

GLASS, KEYS = (240, 238, 236), ("source", "target", "mask")
LEVELS = {"source": {"name": "µCT", "channels": 1, "range": [0, 65535], "bone_intensity": 30000}}
LEVELS["source"]["background_intensity"] = 10000


@pytest.fixture
def data(tmp_path: Path):
    """Bone in the mask, soft tissue left of it, air and glass elsewhere."""
    folder = make_dataset(tmp_path / "data", pairs=2, size=(96, 96), **LEVELS)
    rng = np.random.default_rng(0)
    for number in range(3):
        grey = np.full((1, 96, 96), 10000.0)
        grey[:, 40:80, 40:80], grey[:, 40:80, 10:40] = 30000, 13500
        grey += rng.normal(0, 900, grey.shape)
        stain = np.broadcast_to(np.array(GLASS, np.uint8)[:, None, None], (3, 96, 96)).copy()
        stain[:, 40:80, 10:80] = 120
        stain[:, 41, 11] = number  # no two show the same
        mask = np.zeros((1, 96, 96), np.uint8)
        mask[:, 38:82, 38:82] = 255
        write_slide(folder / f"source/{number:02d}.png", grey.astype(np.uint16))
        write_slide(folder / f"target/{number:02d}.png", stain)
        write_slide(folder / f"mask/{number:02d}.png", mask)
    return load_datalist(str(folder))


def patch(data):
    images = load_pair(data.training[0])
    return {key: torch.from_numpy(images[key].astype("float32")) for key in KEYS}


def test_air_becomes_glass_and_counts(data):
    before = patch(data)
    after = RandAird(KEYS, data, weight=0.25, beside=0, alone=0)(before)
    assert torch.equal(after["source"], before["source"])
    inside = before["mask"][0] > 0
    assert torch.equal(after["target"][:, inside], before["target"][:, inside])
    assert (after["mask"][0, inside] == 1).all()
    assert (after["mask"][0, 5:30, 5:90] == 0.25).all()  # air, far from all else
    assert (after["mask"][0, 48:72, 15:34] == 0).all()  # soft tissue outside the mask stays out
    for channel, value in enumerate(GLASS):
        assert (after["target"][channel, 5:30, 5:90] == value).all()


def test_what_is_outside_the_mask_becomes_air_of_a_scan(data):
    before = patch(data)
    before["mask"][0, 0] = before["mask"][0, :, 0] = before["mask"][0, -1] = before["mask"][0, :, -1] = 1
    transform = RandAird(KEYS, data, weight=0.25, beside=1, alone=0).set_random_state(3)
    after = transform(before)
    inside = before["mask"][0] > 0
    soft = after["source"][0, 45:75, 12:30]
    assert soft.mean() == pytest.approx(10000, abs=250)
    assert soft.std() == pytest.approx(900, rel=0.3)  # with a scan's noise
    assert (after["mask"][0, ~inside] == 0.25).all()
    assert (after["target"][0, ~inside] == GLASS[0]).all()
    core = (slice(None), slice(44, 76), slice(44, 76))
    torch.testing.assert_close(after["source"][core], before["source"][core], rtol=0, atol=1)
    again = RandAird(KEYS, data, weight=0.25, beside=1, alone=0).set_random_state(3)(before)
    assert all(torch.equal(again[key], after[key]) for key in KEYS)


def test_a_sample_moves_away_from_an_edge_beyond_which_it_ends(data):
    before = patch(data)
    before["mask"][0, 40:80, -20:] = 1  # it goes on at the right
    before["target"][:2] = torch.stack(torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij"))
    ways = []
    for seed in range(60):
        after = RandAird(KEYS, data, weight=0.25, beside=1, alone=0).set_random_state(seed)(before)
        places = (after["mask"][0] == 1).nonzero().T
        came_from = after["target"][:2, places[0], places[1]].long()
        way = (places - came_from).unique(dim=1)
        assert way.shape == (2, 1)  # all of it by as much
        ways.append(tuple(way[:, 0].tolist()))
        deep = ((came_from > 43) & (came_from < 76)).all(0)  # not in the feathered border
        now, then = (image["source"][0, at[0], at[1]] for image, at in ((after, places), (before, came_from)))
        torch.testing.assert_close(now[deep], then[deep], rtol=0, atol=1)
    rows, columns = zip(*ways, strict=True)
    assert all(row == 0 or column == 0 for row, column in ways)
    assert -48 <= min(rows) < -20
    assert 20 < max(rows) <= 48
    assert min(columns) == 0  # never towards where it ends from where it goes on
    assert 20 < max(columns) <= 48


def test_a_patch_of_nothing_but_air(data):
    before = patch(data)
    after = RandAird(KEYS, data, weight=0.5, beside=0, alone=1).set_random_state(1)(before)
    assert (after["mask"] == 0.5).all()
    assert all((after["target"][channel] == value).all() for channel, value in enumerate(GLASS))
    assert after["source"].mean() == pytest.approx(10000, abs=250)
    assert not torch.equal(after["source"][:, :32], after["source"][:, 32:64])  # no square repeated


def test_air_put_beside_has_the_spectrum_of_the_scans(data):
    transform = RandAird(KEYS, data).set_random_state(2)
    correlated = gaussian_filter(np.random.default_rng(0).standard_normal((1, 64, 64)), (0, 1, 1)) * 3000 + 10000
    transform.blocks = [correlated.astype(np.float32)]
    made = np.stack([transform._texture(128).numpy()[0] for _ in range(8)])

    def beside(image):
        image = image - image.mean()
        return (image[..., 1:] * image[..., :-1]).mean() / (image**2).mean()

    assert made.std() == pytest.approx(correlated.std(), rel=0.1)
    assert beside(made) == pytest.approx(beside(correlated), abs=0.05)


def test_nothing_is_assumed_where_no_air_is_known(tmp_path):
    data = load_datalist(str(make_dataset(tmp_path / "data")))
    assert brightest_air(data) is None
    before = {key: torch.ones(1, 8, 8) for key in KEYS}
    after = RandAird(KEYS, data)(before)
    assert all(torch.equal(after[key], before[key]) for key in KEYS)


def test_is_air_looks_through_noise():
    noisy = np.random.default_rng(1).normal(10000, 2500, (1, 128, 128))
    assert is_air(noisy, 11200).mean() > 0.99
    assert is_air(noisy + 3500, 11200).mean() < 0.01


def test_the_largest_square_of_air():
    source = np.arange(80 * 80, dtype=np.float32).reshape(1, 80, 80)
    air = np.zeros((80, 80), bool)
    air[10:46, 20:56] = True
    block = all_of(source, air)
    assert block.shape == (1, 32, 32)
    assert block.min() >= source[0, 10, 20]
    assert all_of(source, np.zeros((80, 80), bool)) is None


@pytest.mark.parametrize("argument", [{"weight": -0.1}, {"beside": 1.5}, {"weight": True}, {"alone": 2}])
def test_shares_that_make_no_sense(argument, data):
    with pytest.raises(InputError, match="must be from 0 to 1"):
        RandAird(KEYS, data, **argument)


def test_a_patch_with_air_is_the_patch_and_then_air(data):
    images = {**load_pair(data.training[0]), "zoom": 1.0}
    images["inside"] = np.flatnonzero(images["mask"])
    both = RandPatchAird(KEYS, 64, data, weight=0.25, beside=1, alone=0).set_random_state(4)(images)
    state = np.random.RandomState(4)
    patch = RandMaskedPatchd(KEYS, 64).set_random_state(state=state)(images)
    after = RandAird(KEYS, data, weight=0.25, beside=1, alone=0).set_random_state(state=state)(patch)
    assert all(torch.equal(both[key], after[key]) for key in KEYS)
