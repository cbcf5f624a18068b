"""Stained slides in each format through the libraries by which viewers read them: the planted pattern, in numbers."""

from __future__ import annotations

import json
import tracemalloc
from xml.etree import ElementTree

import imagecodecs
import numpy as np
import ome_types
import openslide
import pytest
import tensorstore
import tifffile
import tiffslide
from scipy.ndimage import gaussian_filter

import bundle.images.stained_slides.dicom  # noqa: F401  makes its format known
from bundle.common.errors import InputError
from bundle.images.channel_slides import facts_of, opened
from bundle.images.stained_slides.formats import FORMATS, Packing
from bundle.images.stained_slides.pyramid import TILE
from bundle.images.stained_slides.tiff import jpeg_tile
from bundle.images.whole_slides import open_section
from tests.helpers.stained_slides import ABOUT, KINDS, LEVELS, NAMES, PIXEL_UM, far, level_of, pyramid_of, written

FLAT = ("rgb", "grey", "map")
JPEG = Packing("jpeg", 95)
SLACK = 1.5  # grey levels on the mean, of a ramp with marks as JPEG


@pytest.fixture(scope="module", params=KINDS)
def made(request, tmp_path_factory):
    """A folder with a slide in all formats that hold it, its pyramid, and which of the kinds it is."""
    folder = tmp_path_factory.mktemp("slides")
    pyramid, _ = pyramid_of(folder / "pyramid", request.param)
    written(folder / "nested.ome.tif", "ome-tiff", pyramid)
    written(folder / "nested-jpeg.ome.tif", "ome-tiff", pyramid, JPEG)
    if request.param in FLAT:
        written(folder / "flat.tif", "tiff-flat", pyramid)
        written(folder / "flat-jpeg.tif", "tiff-flat", pyramid, JPEG)
    return folder, pyramid, request.param


def as_seen(read, axes):
    """(h, w, C) of what tifffile gives."""
    return np.moveaxis(read, 0, -1) if axes == "CYX" else read if axes == "YXS" else read[..., None]


def test_tifffile_reads_all_levels(made):
    folder, pyramid, kind = made
    axes = {"rgb": "YXS", "three": "CYX", "five": "CYX"}.get(kind, "YX")
    for path in folder.glob("*.tif"):
        with tifffile.TiffFile(path) as file:
            (series,) = file.series
            assert (file.is_bigtiff, file.is_ome, series.axes) == (True, path.name.startswith("nested"), axes)
            assert len(series.levels) == len(LEVELS)
            for number, level in enumerate(series.levels):
                found, planted = as_seen(level.asarray(), axes), level_of(pyramid, number)
                assert found.dtype == planted.dtype
                if kind == "rgb" and "jpeg" in path.name:
                    assert 0 < far(found, planted) < SLACK
                else:
                    assert np.array_equal(found, planted, equal_nan=kind == "map")
                page = level.keyframe
                assert (page.tilelength, page.tilewidth) == (TILE, TILE)
                resolution = page.get_resolution("MICROMETER")
                assert resolution == pytest.approx((1 / (PIXEL_UM * 2**number),) * 2)


def test_jpeg_halves_colours_along_rows(made):
    folder, _, kind = made
    with tifffile.TiffFile(folder / "nested-jpeg.ome.tif") as file:
        page = file.pages.first
        if kind == "rgb":
            assert page.compression == tifffile.COMPRESSION.JPEG
            assert page.photometric == tifffile.PHOTOMETRIC.YCBCR
            assert page.subsampling == (2, 1)
        else:
            assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE


def test_ome_types_finds_the_metadata_valid(made):
    folder, pyramid, kind = made
    for name in ("nested.ome.tif", "nested-jpeg.ome.tif"):
        ome = ome_types.from_tiff(folder / name, validate=True)
        (image,) = ome.images
        pixels = image.pixels
        assert (image.name, pixels.physical_size_x, pixels.physical_size_y) == ("stained µ", PIXEL_UM, PIXEL_UM)
        assert {pixels.physical_size_x_unit.value, pixels.physical_size_y_unit.value} == {"µm"}
        assert (pixels.size_y, pixels.size_x, pixels.size_c) == (*LEVELS[0], pyramid.spec.channels)
        assert pixels.type.numpy_dtype == pyramid.spec.kind.name
        assert image.description.startswith("SYNTHETIC. ")
        assert "irtual Ki-67 β stain, computed from H&E; no real stain. Research only" in image.description
        if kind == "rgb":
            assert [each.samples_per_pixel for each in pixels.channels] == [3]
        else:
            assert tuple(each.name for each in pixels.channels) == NAMES[: pyramid.spec.channels]
            colours = [tuple(bytes.fromhex(colour)) for colour in pyramid.spec.colours]
            assert [each.color.as_rgb_tuple() for each in pixels.channels] == colours
        (note,) = ome.structured_annotations
        assert image.annotation_refs[0].id == note.id
        assert json.loads(note.value) == pyramid.spec.stamp()


def test_a_name_that_xml_cannot_hold_makes_no_broken_file(tmp_path):
    names = ("a\x00b\x1b", "\udcff")
    pyramid, _ = pyramid_of(tmp_path / "p", "three", channel_names=(*names, "c"), name="]]>\ud800")
    xml = tifffile.TiffFile(written(tmp_path / "a.ome.tif", "ome-tiff", pyramid)).ome_metadata
    found = [each.get("Name") for each in ElementTree.fromstring(xml).iter() if each.tag.endswith("Channel")]
    assert found == ["a?b?", "?", "c"]


def test_tiffslide_reads_all_levels(made):
    folder, pyramid, kind = made
    for path in folder.glob("*.tif"):
        with tiffslide.TiffSlide(path) as slide:
            assert slide.level_dimensions == tuple((width, height) for height, width in LEVELS)
            assert [slide.properties[f"tiffslide.mpp-{axis}"] for axis in "xy"] == pytest.approx([PIXEL_UM] * 2)
            if kind == "rgb":
                found = slide.read_region((0, 0), 1, (LEVELS[1][1], LEVELS[1][0]), as_array=True)
                assert far(found, level_of(pyramid, 1)) < (SLACK if "jpeg" in path.name else 1e-9)


def test_openslide_reads_all_levels_of_the_flat_one(made):
    folder, pyramid, kind = made
    for path in folder.glob("flat*.tif"):
        if kind == "map":  # floats are no picture to it
            with pytest.raises(openslide.OpenSlideError, match="32-bit samples"):
                openslide.OpenSlide(path).read_region((0, 0), 0, (9, 9))
            continue
        slide = openslide.OpenSlide(path)
        assert slide.level_dimensions == tuple((width, height) for height, width in LEVELS)
        mpp = [float(slide.properties[f"openslide.mpp-{axis}"]) for axis in "xy"]
        assert mpp == pytest.approx([PIXEL_UM] * 2)
        assert slide.properties["openslide.comment"].startswith("SYNTHETIC. Virtual Ki-67 β stain")
        for number, (height, width) in enumerate(LEVELS):
            found = np.asarray(slide.read_region((0, 0), number, (width, height)))[..., : pyramid.spec.channels]
            assert far(found, level_of(pyramid, number)) < (SLACK if "jpeg" in path.name else 1e-9)


def test_openslide_reads_the_finest_level_of_the_other(made):
    folder, pyramid, kind = made
    if kind == "rgb":
        slide = openslide.OpenSlide(folder / "nested.ome.tif")
        assert slide.level_dimensions == (LEVELS[0][::-1],)
        found = np.asarray(slide.read_region((0, 0), 0, LEVELS[0][::-1]))[..., :3]
        assert (found == level_of(pyramid, 0)).all()


def test_our_own_door_reads_what_we_write(made):
    folder, pyramid, kind = made
    for path in folder.glob("*.tif"):
        facts = facts_of(path)
        assert (facts.shape, facts.channels, facts.dtype) == (LEVELS[0], pyramid.spec.channels, pyramid.spec.kind)
        assert (facts.rgb, facts.stated_um) == (kind == "rgb", pytest.approx((PIXEL_UM,) * 2))
        with opened(facts, 1, None) as scan:
            assert [level.shape for level in scan.levels] == LEVELS
            for number, level in enumerate(scan.levels):
                found, planted = level.rows(0, level.shape[0]), level_of(pyramid, number)
                if kind == "rgb" and "jpeg" in path.name:
                    assert far(found, planted) < SLACK
                else:
                    assert np.array_equal(found, planted, equal_nan=kind == "map")
        if kind == "rgb":
            assert open_section(path).pixel_um == pytest.approx(PIXEL_UM)


def test_tensorstore_and_zarr_read_the_ome_zarr(made, tmp_path):
    _, pyramid, kind = made
    again, _ = pyramid_of(tmp_path / "work", kind)
    path = written(tmp_path / "stained.ome.zarr", "ome-zarr", again)
    assert not (tmp_path / "work").exists()
    for number, shape in enumerate(LEVELS):
        driver = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{path / str(number)}/"}}
        found = np.moveaxis(tensorstore.open(driver).result().read().result(), 0, -1)
        assert found.shape[:2] == shape
        assert np.array_equal(found, level_of(pyramid, number), equal_nan=kind == "map")


def test_the_ome_zarr_is_as_ngff_has_it(made, tmp_path):
    models = pytest.importorskip("ome_zarr_models.v04")
    zarr = pytest.importorskip("zarr")
    again, _ = pyramid_of(tmp_path / "work", made[2])
    path = written(tmp_path / "stained.ome.zarr", "ome-zarr", again)
    attributes = models.Image.from_zarr(zarr.open_group(path, mode="r", zarr_format=2)).attributes
    (image,) = attributes.multiscales
    assert [axis.name for axis in image.axes] == ["c", "y", "x"]
    assert [axis.unit for axis in image.axes[1:]] == ["micrometer"] * 2
    scales = [each.coordinateTransformations[0].scale for each in image.datasets]
    assert scales == [pytest.approx([1, PIXEL_UM * 2**level, PIXEL_UM * 2**level]) for level in range(3)]
    assert tuple(each.label for each in attributes.omero.channels) == again.spec.channel_names


@pytest.mark.parametrize("file_format", ["ome-tiff", "tiff-flat", "dicom"])
@pytest.mark.parametrize("compression", ["jpeg", "lossless"])
def test_the_same_slide_gives_the_same_bytes(tmp_path, file_format, compression):
    pyramid, _ = pyramid_of(tmp_path / "p", "rgb")
    one, other = (
        written(tmp_path / f"{name}.tif", file_format, pyramid, Packing(compression)) for name in ("one", "other")
    )
    files = [sorted(path.rglob("*")) or [path] for path in (one, other)]
    assert [each.read_bytes() for each in files[0]] == [each.read_bytes() for each in files[1]]


@pytest.mark.parametrize("file_format", ["ome-tiff", "tiff-flat", "dicom"])
def test_a_missing_tile_leaves_nothing_behind(tmp_path, file_format):
    pyramid, _ = pyramid_of(tmp_path / "p", "rgb")
    (tmp_path / "p/1/0/0/1").unlink()
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="is missing, so the stained slide is not whole"):
        written(tmp_path / "out/stained", file_format, pyramid)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("file_format", "kind"), [("ome-tiff", "five"), ("tiff-flat", "rgb"), ("dicom", "rgb")])
def test_every_tile_is_reported_once(tmp_path, file_format, kind):
    pyramid, _ = pyramid_of(tmp_path / "p", kind)
    reports = []
    FORMATS[file_format].write(tmp_path / "out", pyramid, Packing(), lambda: reports.append(1))
    assert len(reports) == 6 + 2 + 1


def test_what_a_format_cannot_hold_is_refused_with_the_one_that_can(tmp_path):
    for file_format, kind, words in (
        ("tiff-flat", "three", "holds a colour picture or one channel, not 3 channels; take ome-tiff or ome-zarr."),
        ("dicom", "five", "holds a colour picture in 8 bits, not 5 channel(s) of uint16; take ome-tiff or ome-zarr."),
        ("dicom", "map", "holds a colour picture in 8 bits, not 1 channel(s) of float32; take ome-tiff or ome-zarr."),
    ):
        pyramid, _ = pyramid_of(tmp_path / f"{file_format}-{kind}", kind)
        with pytest.raises(InputError) as error:
            FORMATS[file_format].check(pyramid.spec, Packing())
        assert str(error.value) == f"output_format {file_format} {words}"


def test_the_stamp_of_the_flat_one_is_in_its_description(tmp_path):
    pyramid, _ = pyramid_of(tmp_path / "p", "rgb")
    with tifffile.TiffFile(written(tmp_path / "a.tif", "tiff-flat", pyramid)) as file:
        _, stamp = file.pages.first.tags["ImageDescription"].value.split("\nvirtual_staining: ")
        assert json.loads(stamp)["about"] == ABOUT


def test_what_halving_colours_costs():
    """The numbers of docs/slides.md: mean error and kilobytes of a tile of smooth random colours at quality 90."""
    noise = gaussian_filter(np.random.default_rng(0).normal(0, 1, (TILE, TILE, 3)), (2, 2, 0))
    tile = np.clip(noise * 300 + 150, 0, 255).astype(np.uint8)
    told = {}
    for colours in ("444", "422", "420"):
        options = {"colorspace": "RGB", "outcolorspace": "YCBCR", "subsampling": colours}
        packed = imagecodecs.jpeg8_encode(tile, level=90, **options)
        told[colours] = (round(far(imagecodecs.jpeg8_decode(packed), tile), 1), round(len(packed) / 1000))
    assert told == {"444": (2.4, 154), "422": (3.9, 122), "420": (5.4, 101)}
    assert len(jpeg_tile(tile, 90)) == pytest.approx(122_000, abs=500)


@pytest.mark.parametrize("file_format", ["ome-tiff", "tiff-flat", "dicom"])
def test_no_more_is_held_of_a_larger_slide(tmp_path, file_format):
    peaks = []
    for side in (TILE, 8 * TILE):
        pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        pyramid, _ = pyramid_of(tmp_path / f"p{side}", "rgb", pixels, shape=(side, side))
        del pixels
        tracemalloc.start()
        written(tmp_path / f"out{side}", file_format, pyramid, JPEG)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 4 * TILE * TILE * 3  # of 64 tiles
