"""How like the training data a volume is, for MONAI Deploy and MONAI Label."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bundle.common.errors import InputError
from bundle.common.trained_bundle import LIKENESS
from bundle.networks.likeness import Likeness, learn
from bundle.networks.volume_likeness import volume_likeness


def noise(slices: int, level: float = 0.0, seed: int = 0) -> Tensor:
    """(3, slices, 32, 32), grey, in [−1, 1]."""
    grey = torch.rand(1, slices, 32, 32, generator=torch.Generator().manual_seed(seed)) / 2 - 0.25
    return (grey + level).expand(3, -1, -1, -1)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    learn(list(noise(5).unbind(1)), range(5)).save(tmp_path / LIKENESS)
    return tmp_path


def test_each_slice_is_judged_as_by_itself(bundle: Path) -> None:
    volume = torch.cat([noise(2, seed=1), noise(3, level=0.7, seed=2)], 1)
    judged, likeness = volume_likeness(bundle, volume), Likeness.load(bundle / LIKENESS)
    words = [likeness.judge(volume[:, place]).word for place in range(5)]
    assert words == ["like the training data"] * 2 + ["unlike"] * 3
    assert judged.unlike
    assert judged.told is not None
    assert judged.told["unlike"] == [[2, 4]]
    assert judged.words.startswith("of 5 slices, 2 like the training data, 0 doubtful, 3 unlike (2 to 4);")


def test_what_is_mostly_unlike_is_refused_where_that_is_asked_for(bundle: Path) -> None:
    assert not volume_likeness(bundle, noise(3, seed=1), refuse_unlike=True).unlike
    with pytest.raises(InputError, match=r"^the scan is unlike the training data: of 3 .* refuse_unlike is true\.$"):
        volume_likeness(bundle, noise(3, level=0.7), refuse_unlike=True)


def test_what_is_smoothed_first_is_not_judged(bundle: Path) -> None:
    (bundle / "configs").mkdir()
    (bundle / "configs" / "series.json").write_text('{"sigma": 1.0}')
    judged = volume_likeness(bundle, noise(3))
    assert judged.told is None
    assert judged.words.startswith("not judged: this model smooths a scan first (sigma 1.0)")
    with pytest.raises(InputError, match=r"refuse_unlike is true, but the scan is not judged: .*; stain by"):
        volume_likeness(bundle, noise(3), refuse_unlike=True)


def test_without_the_file_nothing_is_said_and_of_few_sources_nothing_is_refused(bundle: Path, tmp_path: Path) -> None:
    learn(list(noise(2).unbind(1)), range(2)).save(bundle / LIKENESS)
    assert "not known" in volume_likeness(bundle, noise(3)).words
    with pytest.raises(InputError, match="was trained on fewer than 3 sources, so nothing can be called unlike"):
        volume_likeness(bundle, noise(3), refuse_unlike=True)
    (bundle / LIKENESS).unlink()
    judged = volume_likeness(bundle, noise(3))
    assert (judged.told, judged.words, judged.unlike) == (None, "", False)
