"""What is counted of a network for a GPU, and the bench that times one, here on the CPU."""

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bundle.common.errors import InputError
from bundle.networks.layers import instance_norm
from scripts.bench import gpu
from scripts.bench.gpu_report import machine, report
from scripts.bench.gpu_timer import SMALL, Timer
from scripts.bench.roofline import (
    ARITHMETICS,
    CARDS,
    Card,
    Operator,
    count,
    expected,
    fill,
    limit,
    main,
    overlapping_pixels,
    paper,
    side_by_side_pixels,
    specimen,
)

FP32, TF32, AUTOCAST, HALF = ARITHMETICS
CARD = Card("a card", {"fp32": 1.0, "fp16": 2.0}, 0.001, 4)  # 1 TFLOP/s, 1 GB/s, 4 multiprocessors


def test_sums_and_bytes_of_layers_are_those_counted_by_hand():
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), instance_norm(8), nn.ReLU(inplace=True)).requires_grad_(False)
    convolution, norm, relu = count(layers, (2, 3, 16, 16), FP32)
    image = 2 * 16 * 16  # pixels
    assert convolution.flop == 2 * 9 * 3 * 8 * image
    assert convolution.bytes == 4 * (3 * image + 8 * image + 9 * 3 * 8 + 8)
    assert (convolution.pixels, convolution.channels) == (image, 8)
    assert (norm.flop, norm.bytes) == (0, 4 * (3 * 8 * image + 2 * 2 * 8))  # read twice, written; mean and deviation
    assert relu.bytes == 4 * 2 * 8 * image


def test_autocast_casts_and_norms_in_fp32_and_half_weights_do_not():
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), instance_norm(8)).requires_grad_(False)
    names = {way.name: [each.name for each in count(layers, (1, 3, 16, 16), way)] for way in ARITHMETICS}
    assert names["fp32"] == names["TF32"] == names["fp16 weights"] == ["convolution", "native_group_norm"]
    assert sorted(names["fp16 autocast"]) == ["_to_copy"] * 4 + ["convolution", "native_group_norm"]
    norms = {way.name: count(layers, (1, 3, 16, 16), way)[-1].bytes for way in (FP32, AUTOCAST, HALF)}
    assert norms["fp32"] == norms["fp16 autocast"] > 1.9 * norms["fp16 weights"]
    assert not torch.is_autocast_enabled("cuda")


def test_the_papers_network_has_the_sums_that_its_weights_say():
    network = paper(width=4, blocks=2)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    sides = [32, 16, 8, *[8] * 4, 16, 32, 32]  # of their outputs, of a window of 32 px
    by_hand = sum(2 * each.weight.numel() * side**2 for each, side in zip(convolutions, sides, strict=True))
    assert sum(each.flop for each in count(network, (1, 3, 32, 32), FP32)) == by_hand
    assert sum(each.flop for each in count(specimen(4, 2), (1, 3, 32, 32), HALF)) == by_hand


def test_tiles_fill_multiprocessors():
    whole = Operator("convolution", 1, 1, 4 * 128, 128)
    assert fill(whole, 4) == 1
    assert fill(whole._replace(pixels=5 * 128), 4) == 5 / 8
    assert fill(whole._replace(channels=3), 4) == 3 / 32


def test_time_is_that_of_sums_or_of_bytes_or_of_starting():
    sums = Operator("convolution", 1e12, 0, 4 * 128, 128)
    moved = Operator("relu_", 0, 1e9)
    assert expected([sums], CARD, "fp32") == pytest.approx(2)  # half of the peak
    assert expected([sums, moved], CARD, "fp16") == pytest.approx(1 + 1.25)  # 80 % of the bandwidth
    assert expected([moved._replace(bytes=1)] * 100, CARD, "fp32") == pytest.approx(100e-5)
    assert limit([sums, moved], CARD, "fp16") == pytest.approx(0.5)


def test_pixels_of_a_cube():
    assert overlapping_pixels(1200, 256, 64) == 307_200 * 256**2
    assert side_by_side_pixels(1200, 1024, 92, 4) == 1200 * (720 + 672) ** 2


def test_roofline_prints_a_row_for_each_card_and_arithmetic(capsys):
    main(width=4, blocks=1)
    printed = capsys.readouterr().out
    for card in CARDS:
        assert printed.count(f"| {card.name} |") == len(ARITHMETICS)


def test_what_does_not_work_is_a_line_and_what_has_no_time_is_another(capsys):
    timer = Timer(torch.device("cpu"), 0.05, SMALL)

    def no_memory():
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore")

    assert timer("a large batch", no_memory, "windows", 1) is None
    found = timer("a small one", lambda: lambda: time.sleep(0.01), "windows", 1)
    assert 0.01 <= found.median < 1
    assert timer("a thousand", lambda: pytest.fail("begun"), "windows", 1000) is None
    assert timer("what begins slowly", lambda: pytest.fail("begun"), "others", 1, 60) is None
    timer.table(["a", "b"], [[1, found.milliseconds()]])
    printed = capsys.readouterr().out
    assert "- a large batch: did not work: CUDA out of memory. Tried to allocate 20.00 GiB.\n" in printed
    assert "- a thousand: left out; it may take " in printed
    assert "- what begins slowly: left out; it may take 60 s, and " in printed
    assert printed.startswith("| a | b |\n| --- | --- |\n| 1 | ")


def test_the_bench_runs_on_the_cpu_and_leaves_nothing_out(capsys):
    report("cpu", small=True, minutes=5, compiling=False)
    printed = capsys.readouterr().out
    assert printed.startswith("cpu, ")
    assert [line[3:].split(" ")[0] for line in printed.splitlines() if line.startswith("## ")] == [
        *("Windows", "A", "Copies", "A")
    ]
    assert "did not work" not in printed
    assert "left out" not in printed
    assert printed.count("| one_way |") == 4
    assert printed.count("| paper | 32 | fp32 | ") == 3  # two batches, and all windows of a cube
    assert "| one section's statistics | fast | " in printed


def test_without_time_it_says_so_and_ends(capsys):
    report("cpu", small=True, minutes=1e-9, compiling=True)
    printed = capsys.readouterr().out
    assert "| --- |" not in printed
    assert "- paper, 32 px, fp32, batch 1: left out; " in printed
    assert "- paper, 32 px, fp16 autocast, compiled, batch 1: left out; " in printed


def test_a_gpu_is_waited_for_and_its_memory_and_driver_are_told(monkeypatch):
    done = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: done.append("reset"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: done.append("waited"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 2.5e9)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("emptied"))
    found = Timer(torch.device("cuda"), 1, SMALL)("a call", lambda: lambda: done.append("called"), "calls", 1)
    assert done == ["reset", *["called", "waited"] * 3, "emptied"]  # twice to warm up, and one round
    assert found.peak == "2.5"
    card = SimpleNamespace(name="NVIDIA H100 80GB HBM3", total_memory=85e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr("subprocess.run", lambda *asked, **ways: SimpleNamespace(stdout="570.86.10\n570.86.10\n"))
    told = machine(torch.device("cuda"))
    assert told.startswith(f"NVIDIA H100 80GB HBM3, 85 GB, driver 570.86.10, torch {torch.__version__}, CUDA ")


@pytest.mark.parametrize("device", ["cuda:99", "nowhere"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(InputError, match=f"device is '{device}', but PyTorch finds .*; try --device cpu --small"):
        report(device, small=True, minutes=1, compiling=False)


def test_minutes_are_refused_before_pytorch_is_loaded():
    with pytest.raises(InputError, match="minutes is 0; it must be above 0"):
        gpu.main(minutes=0)
    code = "import sys, scripts.bench.gpu; sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
