"""The first columns of every table tell mush and noise from a stain, which SSIM and PSNR do not.

``tests/files`` holds parts of phantom pairs and a small network that nine minutes of training made; its ``make.py``
names the commands. What is ranked below it: a network of the same config after seven steps, the real section through a
Gaussian of 3 px, the mean colour, and the colour table, which is as sharp as the source and as noisy.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from bundle.data.load import load_datalist
from bundle.evaluation.similarity import Lpips
from bundle.evaluation.tables import merit
from bundle.images.slides import to_8bit
from scripts.bench.measures import blurred, scores, table, without_network
from tests.conftest import ROOT

DATA = Path(__file__).parents[1] / "files"
BELOW = ("seven steps", "blurred section, 3 px", "mean colour", "colour table")


def parsed(output: Path) -> ConfigParser:
    """The training of ``tests/files/make.py`` on what was cut from its data, for seven steps of three patches."""
    parser = ConfigParser()
    files = ("train.json", "methods/one_way.json", "profiles/demo.json")
    parser.read_config([str(ROOT / "configs" / file) for file in files])
    ids = {"dataset_dir": str(DATA / "phantom"), "output_dir": str(output), "device": "cpu", "width": 8}
    ids |= {"epochs": 1, "batch_size": 3, "patches_per_pair": 7, "picture_every": 9}
    parser.update(ids)
    return parser


def stained(network, source: np.ndarray) -> np.ndarray:
    """A slide (1, H, W) of 16 bits in one pass, by hand: to [−1, 1], three channels, and to 8 bits."""
    network.eval()
    scaled = torch.from_numpy(source.astype(np.float32) / 65535 * 2 - 1).repeat(3, 1, 1)
    with torch.no_grad():
        return to_8bit((network(scaled[None])[0].numpy() + 1) / 2, 0, 1)


@pytest.fixture(scope="module")
def stains(tmp_path_factory) -> dict:
    parser = parsed(tmp_path_factory.mktemp("seven"))
    torch.manual_seed(0)
    trainer = parser.get_parsed_content("train#trainer")
    trainer.run()
    assert trainer.state.iteration == 7
    networks = {"trained": parsed(DATA).get_parsed_content("g_xy"), "seven steps": trainer.networks.g_xy}
    weights = torch.load(DATA / "one_way.pt", weights_only=True)
    networks["trained"].load_state_dict({name: value.float() for name, value in weights.items()})
    made = {name: lambda source, real, of=network: stained(of, source) for name, network in networks.items()}
    return {**made, **without_network(load_datalist(str(DATA / "phantom")))}


def measured(stains: dict, lpips: Lpips | None = None) -> dict:
    return scores(load_datalist(str(DATA / "phantom")), stains, lpips, 128)


@pytest.fixture(scope="module")
def found(stains) -> dict:
    return measured(stains)


def in_place(row: dict) -> float:
    """Both measures that need no weights, multiplied: the detail, or its inverse, and the share of it in its place."""
    return min(row["detail"], 1 / max(row["detail"], 1e-9)) * row["gradient_correlation"]


def test_lpips_ranks_a_trained_network_above_all_of_them(stains, shared):
    found = measured(stains, Lpips(shared / "weights" / "squeezenet1_1_features.pth"))
    print(table(found))
    for name in BELOW:
        assert found["trained"]["lpips"] < found[name]["lpips"] - 0.1
    assert table(found).startswith("| image | LPIPS ↓ | detail (1 = as real) | gradient correlation ↑ |")


def test_without_weights_detail_and_gradient_correlation_do_so_together(found):
    for name in BELOW:
        assert in_place(found[name]) < 0.7 * in_place(found["trained"])
    assert in_place(found["trained"]) < in_place(found["real section"]) == pytest.approx(1)


def test_each_of_the_two_alone_is_deceived_by_one_of_them(found):
    trained = found["trained"]
    better = {
        measure: {name for name in BELOW if merit(measure, found[name][measure]) > merit(measure, trained[measure])}
        for measure in ("detail", "gradient_correlation")
    }
    # noise is as much detail as cells are, and what is left of a blurred section lies where it should
    assert better["detail"] <= {"colour table"}
    assert better["gradient_correlation"] == {"blurred section, 3 px"}


def test_truth_loses_mush_and_noise_but_new_bones_colour_survives_blur(found):
    for name in ("seven steps", "mean colour", "colour table"):
        assert found[name]["new_bone_recall"] < 0.05 < found["trained"]["new_bone_recall"]
    for name in BELOW:
        assert found[name]["lacunae_above_chance"] < 0.1 < found["real section"]["lacunae_above_chance"]
    assert found["blurred section, 3 px"]["new_bone_recall"] > found["trained"]["new_bone_recall"]


def test_ssim_and_psnr_rank_the_blurred_section_above_the_network(found):
    for measure in ("ssim", "psnr"):
        assert found["blurred section, 3 px"][measure] > found["trained"][measure]


def test_a_little_blur_or_a_small_shift_costs_little(stains):
    found = measured({"a pixel of blur": blurred(1), "real section": stains["real section"]})
    assert 0.5 < in_place(found["a pixel of blur"]) < 0.8
