"""What goes wrong without a word when a slide, a folder or a value is not the usual one."""

from __future__ import annotations

import errno
import shutil

import numpy as np
import pytest
import tifffile

from bundle.common.errors import InputError
from bundle.images.stained_slides.pyramid import Pyramid
from bundle.images.whole_slides import companions
from bundle.staining.stainer import Stainer
from bundle.staining.whole_slides.regions import _starts
from bundle.staining.whole_slides.run import SlideRun
from tests.helpers.slide_staining import HE, KI67, make_bundle, stain_slide, tissue, whole, write_slide


@pytest.fixture(scope="module")
def he(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("he") / "bundle", HE, KI67, step=None)


@pytest.fixture
def slide(tmp_path):
    return write_slide(tmp_path / "slide.tif", tissue())


def fault(bundle, slide, folder, **ids):
    with pytest.raises(InputError) as error:
        stain_slide(bundle, slide, folder, **ids)
    assert "\n" not in str(error.value)
    return str(error.value)


def stop(*_):
    """What a kill is to a test."""
    raise RuntimeError("stopped")


def test_channels_are_whole_numbers(he, slide, tmp_path):
    assert "each counts once" in fault(he, slide, tmp_path / "out", channels=[0.0, 1.0, 2.0])


def test_glass_has_one_colour(he, slide, tmp_path, small_blocks):
    made = whole(stain_slide(he, slide, tmp_path / "out", background_rgb=[254.9, 10.4, 0.6]))
    assert (made[:, :20] == [255, 10, 1]).all()  # in a block with tissue
    wide = write_slide(tmp_path / "wide.tif", tissue(200, 600, 500))
    made = whole(stain_slide(he, wide, tmp_path / "wide", background_rgb=[254.9, 10.4, 0.6]))
    assert (made[:, :128] == [255, 10, 1]).all()  # a block without any


def test_a_note_names_both_sides_of_pixels(he, tmp_path, small_blocks, capsys):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, tissue(), photometric="rgb", resolution=(20000, 15000), resolutionunit=3)
    stain_slide(he, path, tmp_path / "out", pixel_um=0.5)
    assert "states pixels of 0.6667×0.5 µm; the 0.5 µm given are used" in capsys.readouterr().out


def test_values_of_another_range_are_refused(he, tmp_path, small_blocks):
    path = write_slide(tmp_path / "a.tif", (tissue() / 255).astype(np.float32))
    assert "come out in one colour" in fault(he, path, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    good = write_slide(tmp_path / "b.tif", tissue().astype(np.float32))
    whole_numbers = write_slide(tmp_path / "c.tif", tissue())
    one, other = (stain_slide(he, each, tmp_path / each.stem) for each in (good, whole_numbers))
    assert np.array_equal(whole(one), whole(other))


@pytest.mark.parametrize("name", ["report.html", "tiles", "stained.ome.tif", "expected_error.ome.tif"])
def test_what_others_left_is_not_replaced(he, slide, tmp_path, small_blocks, name):
    folder = tmp_path / "out"
    (folder / name).mkdir(parents=True)
    (folder / name / "mine.txt").write_text("mine")
    ids = {"output_format": "ome-tiff", "viewer": True}
    if name.startswith("expected"):  # a model without an error map makes no such file
        stain_slide(he, slide, folder, **ids)
    else:
        assert name in fault(he, slide, folder, **ids)
        assert [each.name for each in folder.iterdir()] == [name]
    assert (folder / name / "mine.txt").read_text() == "mine"


def test_a_page_is_not_made_later(he, slide, tmp_path, small_blocks, capsys):
    stain_slide(he, slide, tmp_path / "out")
    stain_slide(he, slide, tmp_path / "out", viewer=True)
    assert "made without report.html (--viewer false)" in capsys.readouterr().out


def test_a_result_beside_a_slide_of_several_files_leaves_it_the_same(he, slide, tmp_path, small_blocks):
    folder = tmp_path / "own"
    folder.mkdir()
    shutil.copy(slide, folder / "slide.dcm")  # OpenSlide goes by the content
    (folder / "other.dcm").write_bytes(bytes(128) + b"DICM")
    before = companions(folder / "slide.dcm")
    assert [path.name for path in before] == ["other.dcm", "slide.dcm"]
    for _ in range(2):
        stain_slide(he, folder / "slide.dcm", folder, output_format="ome-tiff", viewer=True)
    assert companions(folder / "slide.dcm") == before


def test_a_name_that_a_config_changes_is_refused(he, slide, tmp_path):
    assert "has # or ::" in fault(he, slide, tmp_path / "case #3")
    assert not (tmp_path / "case ::3").exists()


def test_a_slide_that_changes_while_it_is_stained(he, slide, tmp_path, monkeypatch, small_blocks):
    pixels, folder = tissue(200, 600), tmp_path / "out"
    slide.unlink()
    options = {"photometric": "rgb", "resolution": (20000, 20000), "resolutionunit": 3}
    tifffile.imwrite(slide, pixels, **options)  # not compressed: read as well when it is another
    calls, real = [], SlideRun._stain_block

    def meddled(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            tifffile.imwrite(slide, 255 - pixels, **options)
        return real(*arguments)

    monkeypatch.setattr(SlideRun, "_stain_block", meddled)
    assert "was changed while it was stained" in fault(he, slide, folder)
    tifffile.imwrite(slide, pixels, **options)  # as it was: what is done is of this one alone
    again = whole(stain_slide(he, slide, folder))
    assert np.array_equal(again, whole(stain_slide(he, slide, tmp_path / "other")))


@pytest.mark.parametrize("name", ["_show", "_finish"])
def test_what_is_made_is_not_missing_at_the_end(he, slide, tmp_path, monkeypatch, small_blocks, name):
    ids, folder = {"output_format": "ome-tiff", "viewer": True}, tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(SlideRun, name, stop)
        with pytest.raises(RuntimeError):
            stain_slide(he, slide, folder, **ids)
    (folder / ".work" / "made" / "stained.ome.tif").unlink()
    assert "stained.ome.tif is missing" in fault(he, slide, folder, **ids)
    assert [each.name for each in folder.iterdir()] == [".work"]


@pytest.mark.parametrize("lost", ["tissue.npy", "steps/stain-0000/000000_000000.json", "begun.json"])
def test_what_is_done_so_far_is_damaged(he, slide, tmp_path, monkeypatch, small_blocks, lost):
    folder = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Stainer, "block", stop)
        patch.setattr(SlideRun, "_wanted", lambda self, block: block.columns.start > 0)
        with pytest.raises(RuntimeError):
            stain_slide(he, slide, folder)
    content = "{}" if lost == "begun.json" else ""
    (folder / ".work" / lost).write_text(content)
    told = fault(he, slide, folder)
    assert ".work" in told
    assert "remove" in told


def test_a_folder_that_is_lost_while_it_is_written(he, slide, tmp_path, monkeypatch, small_blocks):
    def lost(*_):
        raise OSError(errno.EROFS, "Read-only file system", "tile")

    monkeypatch.setattr(Pyramid, "write", lost)
    assert "Read-only file system" in fault(he, slide, tmp_path / "out")


def test_regions_reach_to_the_end():
    assert _starts(1000, 500) == [0, 500]
    assert _starts(1900, 1000) == [0, 900]
    assert _starts(300, 300) == [0]
