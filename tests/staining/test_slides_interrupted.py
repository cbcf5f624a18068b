"""A slide whose staining is stopped, shared or told to be doubtful."""

from __future__ import annotations

import errno
import json

import numpy as np
import pytest

from bundle.common.errors import InputError
from bundle.common.work.tasks import Marks
from bundle.images.stained_slides.pyramid import Pyramid
from bundle.staining.whole_slides.outcome import Outcome
from bundle.staining.whole_slides.run import SlideRun
from tests.helpers.believed import make_believed
from tests.helpers.slide_staining import (
    HE,
    KI67,
    make_bundle,
    read_pyramid,
    record_of,
    stain_slide,
    tissue,
    whole,
    write_slide,
)
from tests.helpers.volumes import files_of, make_voxels


@pytest.fixture(scope="module")
def he(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("he") / "bundle", HE, KI67, window=64, step=None)


@pytest.fixture
def slide(tmp_path):
    return write_slide(tmp_path / "slide.tif", tissue(260, 700, 30))


class StoppedError(Exception):
    """What a kill is to a test."""


def stop_after(patch, kind, name: str, times: int, error: BaseException) -> None:
    """Let a process fail instead of calling a method once more."""
    method, count = getattr(kind, name), [0]

    def failing(self, *arguments):
        if count[0] == times:
            raise error
        count[0] += 1
        return method(self, *arguments)

    patch.setattr(kind, name, failing)


@pytest.mark.parametrize(
    ("kind", "name", "times", "output_format"),
    [
        (Pyramid, "write", 14, "ome-zarr"),
        (Pyramid, "build", 1, "ome-zarr"),
        (SlideRun, "_show", 0, "ome-zarr"),
        (Outcome, "record", 1, "ome-zarr"),
        (Pyramid, "read", 30, "ome-tiff"),
        (SlideRun, "_keep_tissue", 0, "ome-tiff"),
        (SlideRun, "_finish", 0, "ome-tiff"),
        (SlideRun, "clear", 0, "ome-tiff"),
        (Marks, "is_done", 12, "ome-tiff"),
    ],
)
def test_stopped_anywhere_it_ends_with_the_same_bytes(
    he,
    slide,
    tmp_path,
    monkeypatch,
    small_blocks,
    kind,
    name,
    times,
    output_format,
):
    stain_slide(he, slide, tmp_path / "whole", output_format=output_format, viewer=True)
    with monkeypatch.context() as patch:
        stop_after(patch, kind, name, times, StoppedError())
        with pytest.raises(RuntimeError):
            stain_slide(he, slide, tmp_path / "stopped", output_format=output_format, viewer=True)
    if name not in ("record", "clear"):
        assert not list((tmp_path / "stopped").glob("stained*"))
    stain_slide(he, slide, tmp_path / "stopped", output_format=output_format, viewer=True)
    results = [next((tmp_path / each).glob("stained*")) for each in ("whole", "stopped")]
    assert files_of(results[0]) == files_of(results[1])
    assert files_of(tmp_path / "whole" / "tiles") == files_of(tmp_path / "stopped" / "tiles")
    assert (tmp_path / "stopped" / "report.html").exists()
    assert sorted(path.name for path in (tmp_path / "stopped").iterdir()) == sorted(
        path.name for path in (tmp_path / "whole").iterdir()
    )


def test_blocks_that_are_done_are_not_stained_again(he, slide, tmp_path, monkeypatch, small_blocks):
    stain_slide(he, slide, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, SlideRun, "_stain_block", 5, StoppedError())
        with pytest.raises(RuntimeError):
            stain_slide(he, slide, tmp_path / "out")
    begun = tmp_path / "out" / ".work" / "begun.json"
    begun.write_text(json.dumps({**json.loads(begun.read_text()), "started": "2025-01-02T03:04:05+0100"}))
    again = []
    method = SlideRun._stain_block
    monkeypatch.setattr(SlideRun, "_stain_block", lambda self, *given: again.append(given[1]) or method(self, *given))
    stain_slide(he, slide, tmp_path / "out")
    assert len(again) == 3 * 6 - 5
    assert record_of(tmp_path / "out")["started"] == "2025-01-02T03:04:05+0100"  # the first try
    one, other = (record_of(tmp_path / name)["spent"] for name in ("whole", "out"))
    assert one["tissue_px"] == other["tissue_px"]


def test_a_full_disk_stops_with_one_line(he, slide, tmp_path, monkeypatch, small_blocks):
    with monkeypatch.context() as patch:
        stop_after(patch, Pyramid, "write", 6, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(InputError, match=r"the disk of output_dir .* is full .*; make room: what is done is kept"):
            stain_slide(he, slide, tmp_path / "out")
    assert stain_slide(he, slide, tmp_path / "out").spec.shape == (260, 700)


def test_the_expected_error_is_a_second_pyramid(trained, tmp_path, small_blocks):
    bundle = make_believed(trained / "bundle", tmp_path / "believed")
    pixel_um = json.loads((bundle / "configs" / "metadata.json").read_text())["pixel_um"]
    pixels = np.tile(make_voxels((17, 200, 200))[16], (1, 2))
    slide = write_slide(tmp_path / "ct.tif", pixels, pixel_um)
    stain_slide(bundle, slide, tmp_path / "out")
    told = record_of(tmp_path / "out")
    assert told["expected_error"]["level"] == 0.9
    error = read_pyramid(tmp_path / "out" / told["expected_error"]["result"])
    assert error.spec.shape == (50, 100)
    assert error.spec.pixel_um == pytest.approx(4 * pixel_um)
    assert sum(told["likeness"]["blocks"].values()) == 8
    found = whole(error)[..., 0]
    blocks = np.kron(np.zeros((2, 4)), np.ones((32, 32)))[:50, :100]
    for top, left in told["likeness"]["unlike"]:
        blocks[top // 4 : top // 4 + 32, left // 4 : left // 4 + 32] = 1
    assert np.array_equal(np.isnan(found), blocks == 1)
    stain_slide(bundle, slide, tmp_path / "tiff", output_format="ome-tiff")
    assert (tmp_path / "tiff" / "expected_error.ome.tif").exists()


def test_what_is_unlike_is_refused(trained, tmp_path, small_blocks):
    bundle = make_believed(trained / "bundle", tmp_path / "believed", usual=1e-6)
    pixel_um = json.loads((bundle / "configs" / "metadata.json").read_text())["pixel_um"]
    slide = write_slide(tmp_path / "ct.tif", make_voxels((17, 200, 200))[16], pixel_um)
    with pytest.raises(InputError, match=r"ct.tif is unlike the training data: of \d+ regions .* nothing was stained"):
        stain_slide(bundle, slide, tmp_path / "out", refuse_unlike=True)
    assert not list((tmp_path / "out").glob("stained*"))
