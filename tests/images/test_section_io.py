"""Slides of every format are averaged to the pixel size asked for, in the right place, and not held whole."""

import builtins
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage.measure import block_reduce

from bundle.common.errors import InputError, line_of
from bundle.images.whole_slides import level_for, level_steps, on_white, open_section
from tests.helpers.whole_slides import CENTIMETRE, HEIGHT, PYRAMIDS, WIDTH, WRITERS, aperio, pyramid, shrunk, slide


@pytest.mark.parametrize("factor", [1, 4, 16])
@pytest.mark.parametrize("name", WRITERS)
def test_integer_ratio_is_block_reduce(name, factor, tmp_path):
    WRITERS[name](tmp_path / name, slide())
    section = open_section(tmp_path / name)
    assert section.shape == (HEIGHT, WIDTH)
    assert section.pixel_um == pytest.approx(0.5)
    pixels = section.read(0.5 * factor)
    assert pixels.dtype == np.uint8
    expected = block_reduce(slide(), (factor, factor, 1), np.mean).transpose(2, 0, 1)
    rounded_twice = name in PYRAMIDS and factor > 1
    assert np.abs(pixels - expected).max() <= (1.0 if rounded_twice else 0.5) + 1e-3


@pytest.mark.parametrize("target_um", [0.5, 0.8, 1.7, 6.5])
@pytest.mark.parametrize("name", WRITERS)
def test_a_landmark_is_where_it_lies_in_micrometres(name, target_um, tmp_path):
    pixels = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    pixels[96:160, 400:512] = 0  # 48–80 µm down, 200–256 µm across
    WRITERS[name](tmp_path / name, pixels)
    dark = 255.0 - open_section(tmp_path / name).read(target_um)[1]
    rows, columns = (np.arange(size) + 0.5 for size in dark.shape)
    assert (dark.sum(1) @ rows) / dark.sum() * target_um == pytest.approx(64, abs=0.05)
    assert (dark.sum(0) @ columns) / dark.sum() * target_um == pytest.approx(228, abs=0.05)
    assert dark.sum() / 255 * target_um**2 == pytest.approx(32 * 56, rel=0.01)


@pytest.mark.parametrize("name", PYRAMIDS)
def test_a_pyramid_is_read_at_its_coarser_level(name, tmp_path):
    WRITERS[name](tmp_path / name, slide())
    section = open_section(tmp_path / name)
    assert [level.shape for level in section.levels] == [(480, 640), (240, 320), (60, 80)]
    used = []
    for level in section.levels:  # what is read of each

        def rows(start, stop, level=level, read=level.rows):
            used.append(level.shape)
            return read(start, stop)

        object.__setattr__(level, "rows", rows)
    fine, middle, coarse = (480, 640), (240, 320), (60, 80)
    for target_um, shape in ((0.7, fine), (1.0, middle), (3.9, middle), (4.0, coarse), (50.0, coarse)):
        used.clear()
        section.read(target_um)
        assert set(used) == {shape}


@pytest.mark.parametrize(
    ("sizes", "target", "level"),
    [
        ([0.5, 1, 4], 0.5, 0),
        ([0.5, 1, 4], 0.991, 1),
        ([0.5, 1, 4], 0.98, 0),
        ([0.5, 1, 4], 100, 2),
        ([0.5, 4, 1], 2, 2),
        ([0.5], 7, 0),
        ([0.5], 0.496, 0),
    ],
)
def test_level_for_by_hand(sizes, target, level):
    assert level_for(sizes, target) == level


@pytest.mark.parametrize(
    ("full", "level", "steps"),
    [
        ((1000, 1003), (500, 501), (2, 2)),
        ((1000, 1003), (500, 502), (2, 2)),
        ((1000, 1003), (62, 63), (16, 16)),
        ((1000, 1000), (300, 300), (1000 / 300, 1000 / 300)),
        ((1000, 1000), (1000, 1000), (1, 1)),
    ],
)
def test_level_steps_by_hand(full, level, steps):
    assert level_steps(full, level) == steps


def test_odd_sizes_are_whole_steps(tmp_path):
    pixels = slide()[:479, :637]
    with tifffile.TiffWriter(tmp_path / "s.tif") as file:
        file.write(pixels, photometric="rgb", tile=(64, 64), **CENTIMETRE)
        file.write(shrunk(pixels[:472, :632], 8), photometric="rgb", tile=(64, 64), subfiletype=1)  # rest dropped
    section = open_section(tmp_path / "s.tif")
    assert [level.shape for level in section.levels] == [(479, 637), (59, 79)]
    inner = block_reduce(pixels[:464, :624], (16, 16, 1), np.mean).transpose(2, 0, 1)
    averaged = section.read(8.0)
    assert averaged.shape == (3, 30, 40)  # 479 / 16 = 29.9, 637 / 16 = 39.8
    assert np.abs(averaged[:, :29, :39] - inner).max() <= 1.01


@pytest.mark.parametrize(("target_um", "shape"), [(2.0, (3, 25, 26)), (4.0, (3, 13, 13)), (30.0, (3, 2, 2))])
def test_a_last_row_counts_when_half_of_it_is_there(target_um, shape, tmp_path):
    tifffile.imwrite(tmp_path / "s.tif", slide()[:50, :52], photometric="rgb")
    averaged = open_section(tmp_path / "s.tif", 1.0).read(target_um)
    assert averaged.shape == shape
    size = int(target_um)
    corner = slide()[(shape[1] - 1) * size : 50, (shape[2] - 1) * size : 52].mean((0, 1))
    assert np.abs(averaged[:, -1, -1] - corner).max() <= 0.51


def test_a_label_and_a_macro_picture_are_no_levels(tmp_path):
    with tifffile.TiffWriter(tmp_path / "s.tif") as file:
        file.write(slide(), photometric="rgb", tile=(64, 64), **CENTIMETRE)
        file.write(slide()[:100, :100], photometric="rgb")
        file.write(slide()[:200, :50], photometric="rgb")
        file.write(slide()[:240, :320, 0], photometric="minisblack")
    assert len(open_section(tmp_path / "s.tif").levels) == 1


def test_a_tile_that_was_left_out_is_white(tmp_path):
    options = {"shape": (64, 128, 3), "dtype": np.uint8, "photometric": "rgb", "compression": "zlib", "tile": (64, 64)}
    tifffile.imwrite(tmp_path / "s.tif", iter([zlib.compress(bytes(64 * 64 * 3)), b""]), **options)
    assert open_section(tmp_path / "s.tif", 1.0).read(64.0).tolist() == [[[0, 255]]] * 3


def test_a_png_larger_than_pil_opens_states_its_pixel(tmp_path, monkeypatch):
    WRITERS["slide.png"](tmp_path / "s.png", slide())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert open_section(tmp_path / "s.png").pixel_um == pytest.approx(0.5)


def test_16_bit_is_divided_by_257(tmp_path):
    pixels = slide(np.uint16)
    tifffile.imwrite(tmp_path / "s.tif", pixels, photometric="rgb")
    averaged = open_section(tmp_path / "s.tif", 1.0).read(4.0)
    expected = block_reduce(pixels, (4, 4, 1), np.mean).transpose(2, 0, 1) / 257
    assert np.abs(averaged - expected).max() <= 0.501


@pytest.mark.parametrize("name", ["s.png", "s.tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_is_repeated(name, dtype, tmp_path):
    pixels = slide(dtype, 1)[..., 0]
    Image.fromarray(pixels).save(tmp_path / name)
    averaged = open_section(tmp_path / name, 1.0).read(4.0)
    scale = 257 if dtype == np.uint16 else 1
    assert np.abs(averaged - block_reduce(pixels, (4, 4), np.mean) / scale).max() <= 0.501
    assert averaged.shape == (3, 120, 160)


@pytest.mark.parametrize("name", ["s.png", "s.tif"])
def test_transparent_is_white(name, tmp_path):
    pixels = np.full((8, 8, 4), 100, np.uint8)
    pixels[:4, :, 3] = 0
    pixels[4:, :, 3] = 51  # a fifth
    Image.fromarray(pixels).save(tmp_path / name)
    averaged = open_section(tmp_path / name, 1.0).read(4.0)
    assert averaged[:, 0].tolist() == [[255, 255]] * 3
    assert averaged[:, 1].tolist() == [[224, 224]] * 3  # 100 / 5 + 255 · 4 / 5


def test_premultiplied_alpha_is_not_applied_twice(tmp_path):
    pixels = np.full((8, 8, 4), 20, np.uint8)
    pixels[..., 3] = 51
    tifffile.imwrite(tmp_path / "s.tif", pixels, photometric="rgb", extrasamples=["assocalpha"])
    assert open_section(tmp_path / "s.tif", 1.0).read(4.0).tolist() == [[[224, 224]] * 2] * 3


def test_on_white_of_opaque_is_what_is_stored():
    rows = slide(channels=4)
    rows[..., 3] = 255
    assert on_white(rows, False).dtype == np.uint8
    assert np.array_equal(on_white(rows, False), rows[..., :3])
    assert on_white(np.array([[[0, 51]]], np.uint8), False).tolist() == [[[204, 204, 204]]]


PIXEL_SIZES = {
    "unit.tif": ({"resolution": (20000, 20000), "resolutionunit": "NONE"}, None),
    "one.tif": ({"resolution": (1, 1), "resolutionunit": 3}, None),
    "silent.tif": ({}, None),
    "inch.tif": ({"resolution": (25400, 25400), "resolutionunit": 2}, 1.0),
    "imagej.tif": ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "micron"}}, 0.25),
    "imagej_1.tif": ({"imagej": True, "resolution": (1, 1), "metadata": {"unit": "\\u00B5m"}}, 1.0),
    "imagej_none.tif": ({"imagej": True, "resolution": (4, 4)}, None),
    "s.ome.tif": ({"metadata": {"PhysicalSizeX": 2.5e-4, "PhysicalSizeXUnit": "mm", "PhysicalSizeY": 0.25}}, 0.25),
    "silent.ome.tif": ({"metadata": {"axes": "YX"}}, None),
}


@pytest.mark.parametrize("name", PIXEL_SIZES)
def test_pixel_size_of_a_tiff(name, tmp_path):
    options, pixel_um = PIXEL_SIZES[name]
    tifffile.imwrite(tmp_path / name, slide()[..., 0], **options)
    if pixel_um:
        assert open_section(tmp_path / name).pixel_um == pytest.approx(pixel_um)
    else:
        with pytest.raises(InputError, match=f"{name} states no pixel size; give it in µm with --pixel_um"):
            open_section(tmp_path / name)
    assert open_section(tmp_path / name, 0.3).pixel_um == 0.3


def svs_without_mpp(path):
    pyramid(path, slide(), "pages", description="Aperio Image Library v12\n640x480 |AppMag = 20", metadata=None)


def cut(path, write, kept):
    write(path, slide())
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])


WRONG = {
    "missing.tif": (lambda path: None, "does not exist"),
    "folder.svs": (lambda path: path.mkdir(), "is a folder; name one slide in it"),
    "slide.jpg": (lambda path: path.write_bytes(b""), "is not a slide this program reads"),
    **{
        f"empty{suffix}": (lambda path: path.write_bytes(b""), "cannot be read")
        for suffix in (".png", ".tif", ".svs", ".mrxs")
    },
    **{
        f"text{suffix}": (lambda path: path.write_text("version https://git-lfs"), "cannot be read")
        for suffix in (".png", ".tif", ".ndpi", ".czi")
    },
    "cut.png": (lambda path: cut(path, WRITERS["slide.png"], 0.6), "cannot be read"),
    "cut_raw.tif": (lambda path: cut(path, WRITERS["raw.tif"], 0.6), "cannot be read"),
    "cut_aperio.svs": (lambda path: cut(path, aperio, 0.6), "cannot be read"),
    "float.tif": (lambda path: tifffile.imwrite(path, np.zeros((9, 9), np.float32)), "float32.* 8 or 16 bits"),
    "bits.tif": (lambda path: Image.fromarray(np.zeros((9, 9), bool)).save(path), "bool.* 8 or 16 bits"),
    "stack.tif": (lambda path: tifffile.imwrite(path, np.zeros((5, 9, 9), np.uint8)), "5×9×9 .*one image"),
    "channels.tif": (
        lambda path: tifffile.imwrite(
            path, np.zeros((4, 9, 9), np.uint16), photometric="minisblack", metadata={"axes": "CYX"}
        ),
        "4×9×9 .*grey or RGB",
    ),
    "oblong.tif": (
        lambda path: tifffile.imwrite(path, slide(), photometric="rgb", resolution=(1000, 2000), resolutionunit=3),
        "5×10 µm, not squares",
    ),
    "silent.png": (lambda path: Image.fromarray(slide()).save(path), "states no pixel size.*--pixel_um"),
    "silent.svs": (svs_without_mpp, "states no pixel size.*--pixel_um"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_slide_is_refused_in_a_line(name, tmp_path):
    make, message = WRONG[name]
    make(tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}.*{message}") as error:
        open_section(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.97])
@pytest.mark.parametrize("name", ["slide.png", "raw.tif", "strips.tif", "one_strip.tif", "tiles.tiff", "subifd.tif"])
def test_a_truncated_slide_is_refused_by_name(name, kept, tmp_path):
    cut(tmp_path / name, WRITERS[name], kept)
    target_um = 4.0 if kept > 0.9 else 0.5  # a pyramid's last level lies at the end
    with pytest.raises(InputError, match=f"{name}.* cannot be read, it may be truncated") as error:
        open_section(tmp_path / name, 0.5).read(target_um)
    assert "\n" not in str(error.value)


def test_a_damaged_tile_of_a_vendor_slide_is_refused(tmp_path):
    aperio(tmp_path / "s.svs", slide())
    with tifffile.TiffFile(tmp_path / "s.svs") as file:
        at = file.pages[0].dataoffsets[5]
    content = bytearray((tmp_path / "s.svs").read_bytes())
    content[at : at + 50] = bytes(50)
    (tmp_path / "s.svs").write_bytes(content)
    with pytest.raises(InputError, match="s.svs, rows 0 to 479, cannot be read"):
        open_section(tmp_path / "s.svs").read(0.5)


@pytest.mark.parametrize("target_um", [0.49, 0, -1, float("nan")])
def test_a_finer_target_is_refused(target_um, tmp_path):
    WRITERS["tiles.tiff"](tmp_path / "s.tif", slide())
    with pytest.raises(InputError, match=f"pixels of 0.5 µm, coarser than the {target_um:g} µm asked for"):
        open_section(tmp_path / "s.tif").read(target_um)


def test_sizes_that_make_no_sense_are_refused(tmp_path):
    WRITERS["tiles.tiff"](tmp_path / "s.tif", slide())
    with pytest.raises(InputError, match="240×320 µm in all, less than one pixel of 1000 µm"):
        open_section(tmp_path / "s.tif").read(1000)
    for pixel_um in (0, -1, float("nan")):
        with pytest.raises(InputError, match="give their size in µm with --pixel_um"):
            open_section(tmp_path / "s.tif", pixel_um)


def test_a_missing_openslide_is_one_line(tmp_path, monkeypatch):
    aperio(tmp_path / "s.svs", slide())
    find = builtins.__import__

    def without(name, *others, **options):
        if name == "openslide":
            raise ModuleNotFoundError(name, name=name)
        return find(name, *others, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match="openslide") as caught:
        open_section(tmp_path / "s.svs")
    assert (
        line_of(caught.value) == "this needs openslide, which is not installed; pip install 'virtual-staining[slides]'"
    )


def packed_parts(side, tile):
    """The compressed tiles, or strips of 100 rows, of a slide whose columns are 0–199 in steps of 100 px."""
    columns = np.zeros(side + 512, np.uint8)
    columns[:side] = np.repeat(np.arange(200), side // 200)
    height, width = tile or (100, side)
    across = [columns[left : left + width] for left in range(0, side, width)]
    packed = [zlib.compress(np.tile(part[:, None], (height, 1, 3)).tobytes(), 1) for part in across]
    return packed * -(-side // height)


@pytest.mark.parametrize("tile", [(512, 512), None], ids=["tiles", "strips"])
def test_a_large_slide_is_not_held_whole(tile, tmp_path):
    side = 20000  # 1.2 GB
    options = {"tile": tile} if tile else {"rowsperstrip": 100}
    options |= {"shape": (side, side, 3), "dtype": np.uint8, "photometric": "rgb", "compression": "zlib", **CENTIMETRE}
    tifffile.imwrite(tmp_path / "s.tif", iter(packed_parts(side, tile)), **options)
    section = open_section(tmp_path / "s.tif")
    tracemalloc.start()
    averaged = section.read(50.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(averaged, np.broadcast_to(np.arange(200, dtype=np.uint8), (3, 200, 200)))
    assert peak < 200e6


def test_a_screens_resolution_is_no_pixel_size(tmp_path):
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "slide.png", dpi=(72, 72))
    with pytest.raises(InputError, match="screen's resolution, no microscope's; give their size in µm with --pixel_um"):
        open_section(tmp_path / "slide.png")
    assert open_section(tmp_path / "slide.png", 0.5).pixel_um == 0.5
