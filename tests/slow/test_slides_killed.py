"""Kills at any moment cost nothing but the block of a slide in hand."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest

from bundle.staining.job import WORK
from tests.helpers.slide_staining import HE, KI67, make_blocks_small, make_bundle, stain_slide, tissue, write_slide
from tests.helpers.volumes import files_of


def run_quietly(bundle: Path, slide: Path, output_dir: Path) -> None:
    """In a process of its own, for a kill to meet."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    make_blocks_small()
    stain_slide(bundle, slide, output_dir, output_format="ome-tiff", viewer=True)


def start(*arguments) -> multiprocessing.Process:
    fork = multiprocessing.get_context("forkserver")
    fork.set_forkserver_preload(["tests.helpers.slide_staining", "bundle.staining.whole_slides.job"])
    process = fork.Process(target=run_quietly, args=arguments)
    process.start()
    return process


@pytest.mark.parametrize("kills", [10, pytest.param(60, marks=pytest.mark.slow)])
def test_killed_again_and_again_it_ends_with_the_same_bytes(tmp_path, kills):
    bundle = make_bundle(tmp_path / "bundle", HE, KI67, step=16)
    slide = write_slide(tmp_path / "slide.tif", tissue(260, 500, 30))
    for name in ("compiled", "whole"):
        began = time.perf_counter()
        process = start(bundle, slide, tmp_path / name)
        process.join(300)
        assert process.exitcode == 0
        took = time.perf_counter() - began
    rng, met = random.Random(7), 0
    for _ in range(kills):
        process = start(bundle, slide, tmp_path / "killed")
        process.join(rng.uniform(0, 1.2 * took) if rng.random() < 0.5 else rng.uniform(0, 0.4 * took))
        process.kill()
        process.join()
        met += process.exitcode == -signal.SIGKILL
        for found in (tmp_path / "killed").glob("stained*"):  # what can be seen is whole
            assert files_of(found) == files_of(tmp_path / "whole" / found.name)
    process = start(bundle, slide, tmp_path / "killed")
    process.join(300)
    assert process.exitcode == 0
    assert met >= kills // 3
    for name in ("stained.ome.tif", "tiles"):
        if (tmp_path / "whole" / name).exists():
            assert files_of(tmp_path / "whole" / name) == files_of(tmp_path / "killed" / name)
    assert not (tmp_path / "killed" / WORK).exists()
