"""What a user can get wrong in cutting tiles is named, and nothing half-made is left."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from bundle.common.errors import InputError
from tests.conftest import ROOT
from tests.helpers.forked import run_module
from tests.helpers.tiling import cut, fault, pixels_of, stained, write
from tests.helpers.tiling import slides as slides


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 32}, "overlap is 32 px, but a tile is only 32 px; it must be smaller."),
        ({"tile": 97}, "s1.tif is 96×128 px at the tiles' pixel size, smaller than a tile of 97 px"),
        ({"hold_out": "right:0.1"}, "the testing part of"),
        ({"hold_out": "middle:0.1"}, "give a side and its share, for example right:0.3"),
        ({"hold_out": "top:0.5", "testing": 0.5}, "test on whole slides or on a part of each"),
        ({"testing": "s7"}, "testing names s7; the slides are s1, s2."),
        ({"testing": ["s1", "s2"]}, "testing takes every specimen (s1, s2); leave some to train on."),
        ({"testing": 1.5}, "give a share above 0 and below 1"),
        ({"paired_testing": True}, "give --testing or --hold_out"),
        ({"shrink": 2, "tile_um": 1}, "give one of the two"),
        ({"tile_um": 0.2}, "s1.tif has pixels of 0.5 µm, coarser than the 0.2 µm of the tiles"),
        ({"source": "nowhere/*.tif"}, "source 'nowhere/*.tif' names no image"),
        ({"least_tissue": 2}, "least_tissue is 2; it must be a share from 0 to 1."),
        ({"source_kind": "dark"}, "source_kind is 'dark'; it is brightfield or fluorescence."),
        ({"source_channels": ["red"]}, "name each, or take some by number"),
        ({"source_channels": {"far red": 3}}, "takes channel 3 of"),
        ({"source_range": [0, 100]}, "outside the range [0, 100] of H&E; declare its range with --source_range."),
        ({"pixel_um": 0}, "pixel_um is 0; give µm above 0"),
    ],
)
def test_options_that_cannot_be(slides, options, message):
    assert message in fault(slides, **options)


def test_files_that_cannot_be(slides):
    write(slides / "he/grey.tif", stained()[..., 0], photometric="minisblack")
    write(slides / "ki67/bare.png", stained())
    write(slides / "ki67/deep.tif", stained().astype(np.uint16))
    message = fault(slides)
    assert "bare.png states no pixel size; give it in µm with --pixel_um, it is never assumed." in message
    assert "s1.tif has 3 channel(s) of uint8, but" in message
    assert "deep.tif has 3 channel(s) of uint16, but" in message


def test_corrupt_and_empty_slides_are_named_together(slides):
    path = write(slides / "he/s3.tif", stained(400, 400), tile=(64, 64), compression="zlib")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4000] = bytes(4000)
    path.write_bytes(content)
    write(slides / "ki67/s3.tif", np.full((96, 128, 3), 245, np.uint8))
    message = fault(slides)
    assert "he/s3.tif, rows 0 to 399, cannot be read, it may be truncated or corrupt" in message
    assert "ki67/s3.tif has no tile with 20% of tissue (the most is 0%)" in message
    path.write_bytes(b"II*\0")
    assert "he/s3.tif cannot be read" in fault(slides)


def test_sixteen_bits_need_a_range(slides):
    for number in (1, 2):
        write(slides / f"he/s{number}.tif", stained(seed=number).astype(np.uint16) * 16)
    assert '--source_range "[0, 4095]", it is never taken from the data' in fault(slides)
    listed, table, _ = cut(slides, source_range=[0, 4095])
    assert listed["source"]["range"] == [0, 4095]
    assert pixels_of(slides, table[0]).dtype == np.uint16


def test_a_wrong_statement_is_overruled_and_told(slides, capsys):
    for folder in ("he", "ki67"):
        for number in (1, 2):
            (slides / folder / f"s{number}.tif").unlink()
        write(slides / folder / "a.png", stained(), dpi=(300, 300))
    listed, _, _ = cut(slides, pixel_um=0.25)
    assert listed["pixel_um"] == 0.25
    assert "a.png states pixels of 84.67 µm; 0.25 µm is used instead" in capsys.readouterr().out


def test_nothing_is_written_over(slides):
    (slides / "full").mkdir()
    (slides / "full/mine.txt").touch()
    with pytest.raises(InputError, match="full is not empty"):
        cut(slides, "full")


def run(folder, *more):
    command = ["scripts.tile", "--source", f"{folder}/he/*.tif", "--target", f"{folder}/ki67"]
    return [*command, "--source_name", "H&E", "--target_name", "Ki-67", "--output", f"{folder}/tiles", *more]


def test_the_command_as_typed(slides):
    done = run_module(run(slides, "--tile", "32", "--overlap", "16", "--testing", "[s2]"), ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"94 tiles in {slides}/tiles."
    assert json.loads((slides / "tiles/datalist.json").read_text())["testing"][0]["specimen"] == "s2"
    done = run_module(run(slides, "stray.tif"), ROOT)
    assert done.returncode == 1
    assert done.stderr.strip().startswith("error: 'stray.tif' belongs to no option; put patterns in quotes")


def test_a_killed_run_leaves_no_dataset(slides):
    process = subprocess.Popen(
        [sys.executable, "-m", *run(slides, "--tile", "32", "--overlap", "31")],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not list(slides.glob(".tiles.partial/source/s1/*.png")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (slides / "tiles").exists()
    cut(slides)
    assert not list(slides.glob(".*partial*"))
