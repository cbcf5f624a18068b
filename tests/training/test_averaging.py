"""The mean of a generator's weights: by hand, through a checkpoint, and as what a run publishes."""

import pytest
import torch
from torch import nn

from bundle.common.errors import InputError
from bundle.common.run_folder import LATEST
from bundle.training.publish import load_generators
from bundle.training.weight_average import averaged, deployable
from tests.conftest import make_dataset
from tests.helpers.training import make_trainer, stop_at


def test_the_mean_by_hand():
    network = nn.Linear(1, 1, bias=False).double()
    mean = averaged(network, 0.5)
    expected = None
    for step, value in enumerate((1.0, 2.0, 4.0, 8.0)):
        network.weight.data.fill_(value)
        mean.update_parameters(network)
        kept = min(0.5, (1 + step) / (10 + step))
        expected = value if expected is None else kept * expected + (1 - kept) * value
    assert mean.module.weight.item() == pytest.approx(expected)
    assert network.weight.item() == 8.0


@pytest.mark.parametrize("decay", [-0.1, 1, True, "0.9"])
def test_decays_that_make_no_sense(decay):
    with pytest.raises(InputError, match="average is"):
        averaged(nn.Linear(1, 1), decay)


def test_the_mean_is_published_where_there_is_one():
    weights, mean = {"a": torch.zeros(1)}, {"n_averaged": torch.tensor(3), "module.a": torch.ones(1)}
    assert deployable({"g_xy": weights, "d_y": weights}) == {"g_xy": weights}
    assert deployable({"g_xy": weights, "average_g_xy": mean, "d_y": weights}) == {"g_xy": {"a": torch.ones(1)}}


def test_a_run_publishes_the_mean_of_what_it_went_through_and_resumes_to_the_same(tmp_path):
    dataset, ids = make_dataset(tmp_path / "data"), {"train#trainer#average": 0.9}
    whole = make_trainer(dataset, tmp_path / "whole", **ids)
    whole.run()
    means = load_generators(tmp_path / "whole", "latest")
    last = torch.load(tmp_path / "whole" / LATEST, weights_only=True)["parts"]["g_xy"]
    assert set(means["g_xy"]) == set(last)
    assert any(not torch.equal(means["g_xy"][key], last[key]) for key in last)

    first = make_trainer(dataset, tmp_path / "parts", **ids)
    stop_at(first, 3)
    first.run()
    make_trainer(dataset, tmp_path / "parts", resume=True, **ids).run()
    resumed = load_generators(tmp_path / "parts", "latest")
    for name, weights in means.items():
        for key, value in weights.items():
            assert torch.equal(value, resumed[name][key]), (name, key)
