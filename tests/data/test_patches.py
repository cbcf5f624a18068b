"""Patches are the same whoever cuts them, and wherever a run goes on."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data.meta_obj import get_track_meta
from monai.transforms import Compose, OneOf, RandFlipd, RandGaussianNoised

from bundle.common.errors import InputError
from bundle.data.load import load_datalist
from bundle.data.loader import PatchLoader, enough_workers
from bundle.data.patches import PatchDataset, PatchSampler
from bundle.data.transforms import RandContrastBrightnessd, RandMaskedPatchd, RandPatchZoom
from tests.conftest import ROOT, make_dataset

KEYS = ("source", "target", "mask")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return load_datalist(str(make_dataset(tmp_path_factory.mktemp("patches"))))


@pytest.fixture(scope="module")
def patches(data):
    """The patches of ``train.json``, every random transform on, ten an epoch."""
    parser = ConfigParser()
    parser.read_config(str(ROOT / "configs" / "train.json"))
    parser.update({"dataset_dir": str(data.folder), "patch_size": 32, "patches_per_pair": 5, "seed": 3})
    parser.update({"noise_std": 0.05, "smoothing_sigma": 1.0})
    return parser.get_parsed_content("train#dataset")


def epochs(patches, workers: int, start: int = 0, count: int = 2) -> list[dict]:
    """The batches of some epochs, the first of them from a patch on."""
    sampler = PatchSampler(patches, seed=3)
    loader = PatchLoader(patches, sampler, 4, workers)
    batches = []
    for epoch in range(count):
        sampler.epoch, sampler.start = epoch, start if epoch == 0 else 0
        batches += list(loader)
    loader.close()
    return batches


def same(first: list[dict], second: list[dict]) -> bool:
    assert len(first) == len(second)
    return all(torch.equal(a[key], b[key]) for a, b in zip(first, second, strict=True) for key in (*KEYS, "patch"))


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_of_two_epochs_are_the_same_whatever_the_number_of_processes(patches, workers):
    assert same(epochs(patches, 0), epochs(patches, workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_resumed_within_an_epoch_gets_the_batches_it_would_have_got(patches, workers):
    assert same(epochs(patches, 0)[2:], epochs(patches, workers, start=8))


def test_a_process_that_dies_ends_the_run_with_one_clear_line(patches):
    loader = PatchLoader(patches, PatchSampler(patches, seed=3), 1, 1)
    batches = iter(loader)
    next(batches)
    os.kill(loader._iterator._workers[0].pid, signal.SIGKILL)
    with pytest.raises(InputError, match=r"one died \(SIGKILL\).*--num_workers 0"):
        list(batches)


def test_too_little_shared_memory_ends_the_run_with_one_clear_line(patches, monkeypatch, capfd):
    def full(*given, **named):
        raise RuntimeError(
            "unable to allocate shared memory(shm) for file </torch_1_2_0>: No space left on device (28)"
        )

    monkeypatch.setattr(torch.UntypedStorage, "_new_shared", full)  # the processes are forks, so they have it too
    loader = PatchLoader(patches, PatchSampler(patches, seed=3), 1, 1)
    with pytest.raises(InputError) as raised:
        list(loader)
    loader.close()
    assert str(raised.value) == (
        "/dev/shm has no room for the batches of num_workers = 1 processes; make it larger (in Docker: --shm-size 1g), "
        "or go on with --resume true --num_workers 0."
    )
    assert capfd.readouterr() == ("", "")


def test_processes_live_through_the_signals_that_end_the_run_after_its_step(patches):
    loader = PatchLoader(patches, PatchSampler(patches, seed=3), 1, 1)
    batches = iter(loader)
    next(batches)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(loader._iterator._workers[0].pid, number)
    assert len(list(batches)) == len(patches) - 1
    loader.close()


@pytest.mark.parametrize("number", [-1, 1.5, True, "two"])
def test_impossible_numbers_of_processes_are_refused(patches, number):
    with pytest.raises(InputError, match="num_workers is .*; it must be a whole number"):
        PatchLoader(patches, PatchSampler(patches, seed=3), 1, number)


def test_processes_are_for_gpus_and_leave_the_run_a_core():
    assert [enough_workers("cuda", cores) for cores in (1, 2, 8)] == [0, 1, 2]
    assert enough_workers("cpu", 8) == 0


def test_an_epoch_has_every_patch_once_and_the_next_has_others(patches):
    sampler = PatchSampler(patches, seed=3)
    first = list(sampler)
    sampler.epoch = 1
    assert sorted(first) == list(range(10))
    assert sorted(sampler) == list(range(10, 20))
    assert [index - 10 for index in sampler] != first


def test_a_patch_tells_its_index_and_the_index_its_files(data, patches):
    for index in (0, 4, 5, 9, 10, 19):
        pair = data.training[index // 5 % 2]
        assert patches[index]["patch"] == index
        assert patches.files(index) == [str(pair.source), str(pair.target), str(pair.mask)]


def test_a_patch_is_of_plain_tensors_and_leaves_monais_switch_as_it_was(patches):
    assert get_track_meta()
    assert all(type(patches[0][key]) is torch.Tensor for key in KEYS)
    assert get_track_meta()


def test_every_part_of_a_chain_draws_anew_for_each_patch_and_the_same_for_the_same(data):
    chain = Compose(
        [
            RandPatchZoom(),
            RandMaskedPatchd(KEYS, 32),
            Compose([RandFlipd(KEYS, prob=0.5), RandGaussianNoised("source", prob=0.5, std=9000.0)]),
            OneOf([RandContrastBrightnessd("source", 0.9, 0.9), RandGaussianNoised("target", prob=1.0, std=99.0)]),
        ]
    )
    patches = PatchDataset(data.training, chain, patches_per_pair=100, seed=0)
    first, again = ([patches[index] for index in range(40)] for _ in range(2))
    assert all(torch.equal(a[key], b[key]) for a, b in zip(first, again, strict=True) for key in KEYS)
    assert len({patch["source"].numpy().tobytes() for patch in first}) == 40


def test_draws_of_neighbouring_patches_are_independent(data):
    class Draw(RandPatchZoom):
        def __call__(self, images):
            return {"drawn": self.R.uniform(size=2)}

    patches = PatchDataset(data.training, Draw(), patches_per_pair=2000, seed=0)
    drawn = np.array([patches[index]["drawn"] for index in range(4000)])
    assert np.allclose(np.quantile(drawn, [0, 0.25, 0.5, 0.75, 1]), [0, 0.25, 0.5, 0.75, 1], atol=0.03)
    assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.05
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.05
