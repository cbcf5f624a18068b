"""Unpaired datasets: what may be in their lists, and that each side is drawn on its own and reproducibly."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.utils import set_determinism

from bundle.common.errors import InputError
from bundle.data.datalist import Datalist, Modality
from bundle.data.load import load_datalist
from bundle.data.loader import PatchLoader
from bundle.data.patches import PatchSampler
from bundle.data.unpaired_patches import RandPatchesd, UnpairedDataset
from bundle.evaluation.paired import evaluate
from bundle.images.slides import read_slide, write_slide
from bundle.staining.model import load_model
from bundle.training.displays import LEGIBLE_PX, Polarity
from tests.conftest import ROOT, TINY, run_bundle

UNPAIRED = {**TINY, "blocks": 1, "epochs": 2, "patches_per_pair": 2}


def make_unpaired(folder: Path, sources: int = 3, targets: int = 5, channels: int = 2, **changes) -> Path:
    """Images whose every pixel says which image, row and column it is; targets are larger and of other channels."""
    rng = np.random.default_rng(0)
    lists: dict[str, list] = {"training": [], "testing": []}
    for side, count, depth, size in (("source", sources, 3, (40, 48)), ("target", targets, channels, (56, 44))):
        for number in range(count + 1):
            file = f"{side}/{number}.{'png' if depth in (1, 3) else 'tif'}"
            pixels = rng.integers(0, 200, (depth, *size), dtype=np.uint8)
            pixels[0, 0, 0] = number
            write_slide(folder / file, pixels)
            split = "training" if number < count else "testing"
            lists[split].append({side: file, "specimen": f"{split} {number}", "fold": number % 2})
    names = {"channel_names": ["DAPI", "membrane"]} if channels == 2 else {}
    listed = {
        "pixel_um": 0.5,
        "source": {"name": "IHC", "channels": 3, "range": [0, 255]},
        "target": {"name": "IF", "channels": channels, "range": [0, 255], **names},
        **lists,
        **changes,
    }
    (folder / "datalist.json").write_text(json.dumps(listed))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_unpaired(tmp_path_factory.mktemp("unpaired"))


def numbers(images):
    return [image.path.stem for image in images]


def test_sides_are_two_lists(folder):
    data = load_datalist(str(folder), paired=False)
    assert numbers(data.images("training", "source")) == ["0", "1", "2"]
    assert numbers(data.images("training", "target")) == ["0", "1", "2", "3", "4"]
    assert numbers(data.images("testing", "target")) == ["5"]
    assert data.target.channel_names == ("DAPI", "membrane")
    assert (data.training, data.testing) == ([], [])
    assert len(data.checksums) == 1 + 4 + 6
    assert data.counted("training") == "3 of IHC and 5 of IF"


def test_folds_divide_both_sides(folder):
    data = load_datalist(str(folder), fold=1, paired=False)
    assert numbers(data.images("training", "source")) == ["0", "2"]
    assert numbers(data.images("validation", "source")) == ["1"]
    assert numbers(data.images("validation", "target")) == ["1", "3"]


def test_an_entry_with_both_sides_counts_for_each(tmp_path):
    make_unpaired(tmp_path, channels=3)
    listed = json.loads((tmp_path / "datalist.json").read_text())
    listed["testing"] = [{"source": "source/3.png", "target": "target/5.png", "specimen": "testing"}]
    (tmp_path / "datalist.json").write_text(json.dumps(listed))
    data = load_datalist(str(tmp_path), paired=False)  # of other sizes: consecutive sections
    assert len(data.testing) == 1
    assert numbers(data.images("testing", "source")) == ["3"]
    assert numbers(data.images("testing", "target")) == ["5"]


def test_all_faults_of_an_unpaired_list(tmp_path):
    make_unpaired(tmp_path)
    listed = json.loads((tmp_path / "datalist.json").read_text())
    listed["training"] += [{"mask": "nothing.png"}, {"source": "target/0.tif"}, {"target": "gone.tif"}]
    listed["training"] += [{"source": "source/0.png", "mask": "mask.png"}]
    listed["training"][1]["specimen"] = "testing 3"
    write_slide(tmp_path / "mask.png", np.full((1, 8, 9), 255, np.uint8))
    (tmp_path / "datalist.json").write_text(json.dumps(listed))
    with pytest.raises(InputError) as error:
        load_datalist(str(tmp_path), patch_size=44, paired=False)
    said = str(error.value)
    for fault in (
        "training[8]: has no source and no target",
        "target/0.tif has 2 channels but IHC declares 3",
        "gone.tif does not exist",
        "source 0.png is 40×48 px but its mask is 8×9 px",
        "specimen 'testing 3' is in training and in testing",
        "0.png is 40×48 px, smaller than a patch of 44 px",
    ):
        assert fault in said
    assert "target 0.tif is 56×44" not in said


def test_channel_names_are_checked(tmp_path):
    target = {"name": "IF", "channels": 2, "range": [0, 255], "channel_names": ["DAPI", "DAPI"]}
    with pytest.raises(InputError, match="name each of the 2 channels, once"):
        load_datalist(str(make_unpaired(tmp_path, target=target)), paired=False)


def test_a_side_without_images_is_refused(tmp_path):
    make_unpaired(tmp_path)
    listed = json.loads((tmp_path / "datalist.json").read_text())
    listed["training"] = listed["training"][:3]
    (tmp_path / "datalist.json").write_text(json.dumps(listed))
    with pytest.raises(InputError, match="no image of the target is left in training"):
        load_datalist(str(tmp_path), paired=False)


def test_a_method_for_pairs_says_that_it_needs_them(folder):
    with pytest.raises(InputError, match="this method needs pairs"):
        load_datalist(str(folder))


def drawn(dataset, epoch):
    sampler = PatchSampler(dataset, seed=1)
    sampler.epoch = epoch
    return [dataset.places(index) for index in sampler]


def test_the_longer_list_is_walked_and_the_other_drawn_independently(folder):
    data = load_datalist(str(folder), paired=False)
    dataset = UnpairedDataset(data, lambda item: item, patches_per_pair=40, seed=1)
    assert len(dataset) == 5 * 40
    first = drawn(dataset, 0)
    assert sorted(place["target"] for place in first) == sorted(list(range(5)) * 40)
    table = np.zeros((3, 5))
    for place in first:
        table[place["source"], place["target"]] += 1
    # chi squared of 8 degrees of freedom: independent draws stay below 26 with probability 0.999
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    assert ((table - expected) ** 2 / expected).sum() < 26
    assert table.sum(1).min() > 40
    assert drawn(dataset, 0) == first
    assert drawn(dataset, 1) != first
    assert drawn(UnpairedDataset(data, lambda item: item, 40, seed=2), 0) != first


def test_patches_are_cut_apart_and_are_the_same_from_disk_and_by_any_process(folder):
    data = load_datalist(str(folder), paired=False)
    held, read = (
        UnpairedDataset(data, RandPatchesd(["source", "target"], 32), 4, seed=1, memory_gib=gib) for gib in (4.0, 0.0)
    )
    assert (len(held.held), len(read.held)) == (8, 0)
    for index in range(6):
        patch, again = held[index], read[index]
        assert all(torch.equal(patch[key], again[key]) for key in ("source", "target", "mask"))
        assert patch["mask"].min() == 1
        for side, place in held.places(index).items():
            image = read_slide(held.lists[side][place].path).pixels
            windows = np.lib.stride_tricks.sliding_window_view(image, (len(image), 32, 32))[0]
            assert (windows == patch[side].numpy()).all((-3, -2, -1)).sum() == 1
    batches = [next(iter(PatchLoader(held, PatchSampler(held, seed=1), 4, workers)))["target"] for workers in (0, 2)]
    assert torch.equal(*batches)


def test_centres_stay_in_the_masks(tmp_path):
    make_unpaired(tmp_path)
    mask = np.zeros((1, 40, 48), np.uint8)
    mask[0, 20, 24] = 1
    write_slide(tmp_path / "mask.png", mask)
    listed = json.loads((tmp_path / "datalist.json").read_text())
    for entry in listed["training"][:3]:
        entry["mask"] = "mask.png"
    (tmp_path / "datalist.json").write_text(json.dumps(listed))
    data = load_datalist(str(tmp_path), paired=False)
    dataset = UnpairedDataset(data, RandPatchesd(["source", "target"], 16), 4, seed=1)
    for index in range(8):
        place = dataset.places(index)["source"]
        image = read_slide(dataset.lists["source"][place].path).pixels
        assert np.array_equal(dataset[index]["source"].numpy(), image[:, 12:28, 16:32])
    assert any(str(tmp_path / "mask.png") == file for file in dataset.files(0))


@pytest.mark.parametrize("method", ["ki67", "restain"])
def test_networks_follow_the_dataset_and_those_set_by_hand_must_fit_it(method, tmp_path):
    data = make_unpaired(tmp_path, channels=2)
    for by_hand in ({}, {"g_xy#out_channels": 3, "d_y#in_channels": 3}):
        parser = ConfigParser()
        parser.read_config([str(ROOT / f"configs/{name}.json") for name in ("train", f"methods/{method}")])
        parser.update({"dataset_dir": str(data), "device": "cpu", **UNPAIRED, **by_hand})
        if not by_hand:
            assert parser.get_parsed_content("training#4") is None
            continue
        with pytest.raises(RuntimeError) as error:
            parser.get_parsed_content("training#4")
        said = str(error.value.__cause__)
        assert "g_xy takes 3 channels and makes 3, but the dataset needs 3 and 2" in said
        assert "d_y takes 3 channels, but the dataset needs 2" in said


def test_restain_trains_and_its_bundle_goes_both_ways(folder, tmp_path):
    configs = ["configs/train.json", "configs/methods/restain.json"]
    ids = {**UNPAIRED, "lambda_stain": 1}
    done = run_bundle("training", configs, dataset_dir=folder, output_dir=tmp_path / "run", **ids)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "training on 3 of IHC and 5 of IF" in done.stdout + done.stderr
    assert "stain 1" in (tmp_path / "run" / "report.html").read_text()
    bundle = tmp_path / "run" / "bundle"
    forward, reverse = load_model(bundle), load_model(bundle, direction="reverse")
    image = read_slide(folder / "source/3.png").pixels
    channels = forward(image)
    assert (channels.shape, channels.dtype) == ((2, 40, 48), np.uint8)
    assert reverse(channels).shape == (3, 40, 48)
    assert forward.target.channel_names == ("DAPI", "membrane")
    described = json.loads((bundle / "configs/metadata.json").read_text())["network_data_format"]
    assert described["outputs"]["pred"]["channel_def"] == {"0": "DAPI", "1": "membrane"}
    ids = {"bundle_root": bundle, "input": folder / "source/3.png", "output_dir": tmp_path / "out"}
    done = run_bundle("inference", bundle / "configs/inference.json", **ids)
    assert done.returncode == 0, done.stdout + done.stderr
    assert np.array_equal(read_slide(tmp_path / "out/3_stained.tif").pixels, channels)


def trained_ki67(data: Path, output: Path, **ids):
    """The generator's weights after a training in this process."""
    parser = ConfigParser()
    parser.read_config([str(ROOT / f"configs/{name}.json") for name in ("train", "methods/ki67")])
    parser.update({"dataset_dir": str(data), "output_dir": str(output), "device": "cpu", **UNPAIRED, **ids})
    set_determinism(0)
    trainer = parser.get_parsed_content("train#trainer")
    parser.get_parsed_content("train#keeper").restore(trainer)
    trainer.run()
    return trainer.networks.g_xy.state_dict()


def test_ki67_resumes_to_the_same_weights(tmp_path):
    data = make_unpaired(tmp_path / "data", channels=3)
    whole = trained_ki67(data, tmp_path / "whole", epochs=3)
    trained_ki67(data, tmp_path / "parts", epochs=1)
    parts = trained_ki67(data, tmp_path / "parts", epochs=3, resume=True)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    grid = read_slide(tmp_path / "whole/samples/epoch_0003.png").pixels
    assert grid.shape[2] == 6 * LEGIBLE_PX  # six columns, magnified so that their labels can be read


def test_an_evaluation_of_pairs_names_the_one_for_unpaired_images(folder, tmp_path):
    data = load_datalist(str(folder), paired=False)
    with pytest.raises(InputError, match=r"take configs/evaluate_unpaired\.json"):
        evaluate(data, str(tmp_path / "bundle"), str(tmp_path), "cpu", 32, 16, 0.5, ["testing"], None)


@pytest.mark.parametrize(
    ("sign", "target", "inverted", "warned"),
    [
        (1, "RGB", False, False),
        (-1, "RGB", False, True),
        (-1, "IF", False, False),
        (1, "IF", False, True),
        (1, "IF", True, False),
        (1, "RGB", True, True),
    ],
)
def test_swapped_light_and_dark_is_told(sign, target, inverted, warned, caplog):
    class Writer:
        def add_scalar(self, name, value, step):
            assert (name, step) == ("polarity", step)
            assert value == pytest.approx(sign * 1.0)

    names = {"RGB": (), "IF": ("DAPI", "CD3", "CD8")}[target]
    modalities = (Modality("H&E", 3, 0, 255), Modality(target, 3, 0, 255, channel_names=names))
    polarity = Polarity(Datalist(ROOT, 0.5, *modalities, paired=False), inverted, Writer())
    x = torch.rand(2, 3, 8, 8) * 2 - 1
    translation = SimpleNamespace(x=x, fake_y=sign * 0.5 * x.mean(1, keepdim=True).expand(-1, 2, -1, -1))
    engine = SimpleNamespace(state=SimpleNamespace(translation=translation, epoch=3, iteration=99))
    with caplog.at_level(logging.WARNING, logger="bundle"):
        for _ in range(2):
            polarity.iteration_completed(engine)
        polarity.epoch_completed(engine)
        assert not caplog.text  # too early to say
        engine.state.iteration += 1
        polarity.iteration_completed(engine)
        polarity.epoch_completed(engine)
    assert ("light and dark are swapped" in caplog.text) == warned
    assert polarity.found == []


@pytest.mark.parametrize("method", ["ki67", "restain"])
def test_the_methods_tell_swapped_light_and_dark_and_keep_the_other_handlers(method):
    parser = ConfigParser()
    parser.read_config([str(ROOT / f"configs/{name}.json") for name in ("train", f"methods/{method}")])
    assert parser["train#handlers"][-1]["_target_"] == "bundle.training.displays.Polarity"
    assert parser["train#handlers"][3]["_target_"] == "bundle.training.run_state.RunKeeper"


def test_a_mask_of_both_sides_needs_one_grid(tmp_path):
    make_unpaired(tmp_path, channels=3)
    write_slide(tmp_path / "mask.png", np.full((1, 40, 48), 255, np.uint8))
    listed = json.loads((tmp_path / "datalist.json").read_text())
    listed["testing"] = [
        {"source": "source/3.png", "target": "target/5.png", "mask": "mask.png", "specimen": "testing"}
    ]
    (tmp_path / "datalist.json").write_text(json.dumps(listed))
    with pytest.raises(InputError, match="mask is 40×48 px but target 5.png is 56×44 px"):
        load_datalist(str(tmp_path), paired=False)


def test_generators_of_other_arguments_are_not_described_as_one(tmp_path):
    data = make_unpaired(tmp_path / "data", channels=3)
    configs = ["configs/train.json", "configs/methods/restain.json"]
    parser = ConfigParser()
    parser.read_config([str(ROOT / file) for file in configs])
    parser.update({"dataset_dir": str(data), "device": "cpu", "g_xy#slope": 0.2, **UNPAIRED})
    parser["both"] = {"_target_": "bundle.training.publish.network_of_both_directions"}
    with pytest.raises(RuntimeError) as error:
        parser.get_parsed_content("both")
    assert "g_xy and g_yx differ in slope" in str(error.value.__cause__)
