"""Slides written and read by other programs come through with their values, channels and pixel size."""

import io
import struct
import zlib

import itk
import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image

from bundle.common.errors import InputError
from bundle.images.pixel_size import tiff_voxel_um, um_per
from bundle.images.png import encoded
from bundle.images.slides import read_slide, suffix_of, to_8bit, write_slide

HEIGHT, WIDTH = 20, 33  # not square, so that rows and columns cannot be mistaken


def random(dtype, *channels, seed=0):
    """Pixels (H, W) or (H, W, C) over the whole range of a type."""
    values = np.random.default_rng(seed).random((HEIGHT, WIDTH, *channels))
    scale = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1e3
    return (values * scale).astype(dtype)


def channel_first(pixels):
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def itk_write(path, pixels, spacing_mm=None, **options):
    image = itk.image_from_array(pixels, is_vector=pixels.ndim == 3)
    if spacing_mm:
        image.SetSpacing([spacing_mm, spacing_mm])
    itk.imwrite(image, str(path), **options)


def png_rgb16(path, pixels):
    """A 16-bit RGB PNG by the PNG specification; PIL writes none."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


@pytest.mark.parametrize("pixel_um", [None, 0.65, 5.0])
@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("grey.png", random(np.uint8)),
        ("grey16.png", random(np.uint16)),
        ("colour.png", random(np.uint8, 3)),
        ("colour16.png", random(np.uint16, 3)),
        ("grey.tif", random(np.uint8)),
        ("grey16.tiff", random(np.uint16)),
        ("colour.TIF", random(np.uint8, 3)),
        ("colour16.tif", random(np.uint16, 3)),
    ],
)
def test_what_is_written_is_read_here_and_by_another_program(name, pixels, pixel_um, tmp_path):
    path = tmp_path / "folder" / name
    write_slide(path, channel_first(pixels), pixel_um)
    slide = read_slide(path)
    assert slide.pixels.dtype == pixels.dtype
    assert np.array_equal(slide.pixels, channel_first(pixels))
    assert slide.pixel_um == (pixel_um and pytest.approx(pixel_um, rel=1e-5))
    if not name.startswith("colour16"):  # which PIL cannot read
        with Image.open(path) as image:
            assert np.array_equal(np.asarray(image), pixels)
            dpi = image.info.get("dpi", (None,))[0]
            assert dpi == (pixel_um and pytest.approx(25400 / pixel_um, rel=1e-5))


def test_a_slide_that_cannot_be_written_leaves_nothing(tmp_path):
    write_slide(tmp_path / "slide.png", channel_first(random(np.uint8)))
    with pytest.raises(ValueError, match="dtype"):
        write_slide(tmp_path / "slide.png", channel_first(random(np.float32)))
    assert np.array_equal(read_slide(tmp_path / "slide.png").pixels[0], random(np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["slide.png"]


def discs():
    """Two discs, (256, 256)."""
    row, column = np.indices((256, 256))
    return np.uint8(255) * ((np.hypot(row - 90, column - 90) < 60) | (np.hypot(row - 200, column - 180) < 30))


def test_a_png_takes_narrow_images_any_strides_and_byte_orders():
    noise = np.random.default_rng(0).integers(0, 2**16, (513, 4), dtype=np.uint16)
    for pixels in (noise[:, :1], noise[:, :2].astype(np.uint8), noise[::-2, ::-1], noise.astype(">u2"), noise.T):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(encoded(pixels)))), pixels)


def test_a_pixel_too_small_for_a_png_is_told(tmp_path):
    with pytest.raises(InputError, match="pixels are of 0.0001 µm, and a PNG states none so small; write a .tif"):
        write_slide(tmp_path / "slide.png", channel_first(random(np.uint8)), 1e-4)


@pytest.mark.parametrize("pixels", [skimage.data.immunohistochemistry(), skimage.data.camera(), discs()])
def test_a_png_is_no_larger_than_pillow_makes_it(pixels):
    theirs = io.BytesIO()
    Image.fromarray(pixels).save(theirs, "png", compress_level=1)
    assert len(encoded(pixels)) <= 1.1 * theirs.tell()


WRITERS = {
    "float.tif": (random(np.float32), tifffile.imwrite, {}),
    "double.tif": (random(np.float64), tifffile.imwrite, {}),
    "big_endian.tif": (random(np.uint16), tifffile.imwrite, {"byteorder": ">"}),
    "tiled.tif": (random(np.uint8, 3), tifffile.imwrite, {"photometric": "rgb", "tile": (16, 16)}),
    "tiled_zlib.tif": (random(np.uint16), tifffile.imwrite, {"tile": (16, 16), "compression": "zlib"}),
    "rgb16.tif": (random(np.uint16, 3), tifffile.imwrite, {"photometric": "rgb"}),
    "imagej.tif": (random(np.uint16), tifffile.imwrite, {"imagej": True}),
    "ome.ome.tif": (random(np.uint16), tifffile.imwrite, {"metadata": {"axes": "YX"}}),
    "packbits.tif": (
        random(np.uint8),
        lambda path, pixels: Image.fromarray(pixels).save(path, compression="packbits"),
        {},
    ),
    "rgb.png": (random(np.uint8, 3), lambda path, pixels: Image.fromarray(pixels).save(path), {}),
    "float.nrrd": (random(np.float32), itk_write, {}),
    "compressed.nrrd": (random(np.uint16), itk_write, {"compression": True}),
    "rgb.nrrd": (random(np.uint8, 3), itk_write, {}),
    "float_rgb.nrrd": (random(np.float32, 3), itk_write, {}),
    "float.nii": (random(np.float32), itk_write, {}),
    "float.nii.gz": (random(np.float32), itk_write, {}),
    "signed.nii.gz": (random(np.int16) - np.int16(9000), itk_write, {}),
    "rgb.nii.gz": (random(np.uint8, 3), itk_write, {}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_slide_of_another_program_is_read(name, tmp_path):
    pixels, write, options = WRITERS[name]
    write(tmp_path / name, pixels, **options)
    slide = read_slide(tmp_path / name)
    assert slide.pixels.dtype == pixels.dtype
    assert np.array_equal(slide.pixels, channel_first(pixels))
    assert slide.pixel_um is None


@pytest.mark.parametrize(
    ("name", "write"), [("rgb16.png", png_rgb16), ("rgb16.nrrd", itk_write), ("rgb16.nii.gz", itk_write)]
)
def test_rgb_of_16_bit_is_read(name, write, tmp_path):
    pixels = random(np.uint16, 3)
    write(tmp_path / name, pixels)
    assert np.array_equal(read_slide(tmp_path / name).pixels, channel_first(pixels))


def test_planar_tiff_is_read(tmp_path):
    planes = channel_first(random(np.uint8, 3)).copy()
    tifffile.imwrite(tmp_path / "planar.tif", planes, photometric="rgb", planarconfig="separate")
    assert np.array_equal(read_slide(tmp_path / "planar.tif").pixels, planes)


@pytest.mark.parametrize("pixels", [random(np.uint8), random(np.uint8, 3)])
def test_lzw_tiff_is_read(pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    assert np.array_equal(read_slide(tmp_path / "lzw.tif").pixels, channel_first(pixels))


def test_channels_are_red_green_blue(tmp_path):
    red = np.zeros((8, 9, 3), np.uint8)
    red[..., 0] = 255
    for name in ("red.png", "red.tif"):
        Image.fromarray(red).save(tmp_path / name)
        assert read_slide(tmp_path / name).pixels.mean((1, 2)).tolist() == [255, 0, 0]


@pytest.mark.parametrize("name", ["slide.nrrd", "slide.nii", "slide.nii.gz"])
def test_spacing_in_millimetres_becomes_micrometres(name, tmp_path):
    itk_write(tmp_path / name, random(np.uint8), spacing_mm=0.0052)
    assert read_slide(tmp_path / name).pixel_um == pytest.approx(5.2, rel=1e-6)


@pytest.mark.parametrize(
    ("unit", "per_unit", "pixel_um"), [("INCH", 25400, 1), ("CENTIMETER", 2000, 5), ("NONE", 2, None)]
)
def test_tiff_resolution_becomes_micrometres(unit, per_unit, pixel_um, tmp_path):
    tifffile.imwrite(tmp_path / "s.tif", random(np.uint8), resolution=(per_unit, per_unit), resolutionunit=unit)
    assert read_slide(tmp_path / "s.tif").pixel_um == pixel_um


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("um.tif", {"imagej": True, "resolution": (0.25, 0.5), "metadata": {"unit": "um"}}),
        ("escaped.tif", {"imagej": True, "resolution": (0.25, 0.5), "metadata": {"unit": "\\u00B5m"}}),
        ("mm.tif", {"imagej": True, "resolution": (250, 500), "metadata": {"unit": "mm"}}),
        ("s.ome.tif", {"metadata": {"PhysicalSizeX": 4000, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 2}}),
    ],
)
def test_imagej_and_ome_state_micrometres(name, options, tmp_path):
    tifffile.imwrite(tmp_path / name, random(np.uint16), **options)
    with pytest.raises(InputError, match=rf"{name} has pixels of 2×4 µm, not squares; resample it"):
        read_slide(tmp_path / name)
    with tifffile.TiffFile(tmp_path / name) as file:
        assert tiff_voxel_um(file)[1:] == pytest.approx((2.0, 4.0))


@pytest.mark.parametrize("name", ["s.png", "s.nrrd", "s.nii"])
def test_pixels_that_are_no_squares_are_refused(name, tmp_path):
    pixels = random(np.uint8)
    if name == "s.png":
        Image.fromarray(pixels).save(tmp_path / name, dpi=(2540, 5080))
    else:
        image = itk.image_from_array(pixels)
        image.SetSpacing((0.01, 0.005))
        itk.imwrite(image, str(tmp_path / name))
    with pytest.raises(InputError, match=rf"{name} has pixels of 5\S*×10\S* µm, not squares"):
        read_slide(tmp_path / name)


def test_planes_that_ome_metadata_leave_out_are_not_dropped(tmp_path):
    planes = np.stack([random(np.uint8)] * 3)
    tifffile.imwrite(tmp_path / "s.ome.tif", planes, metadata={"axes": "CYX"})
    content = (tmp_path / "s.ome.tif").read_bytes()
    fewer = content.replace(b'SizeC="3"', b'SizeC="1"')
    assert fewer != content
    (tmp_path / "s.ome.tif").write_bytes(fewer)
    with pytest.raises(InputError, match=r"holds 3 planes, of which its OME metadata name 1; save it again"):
        read_slide(tmp_path / "s.ome.tif")


@pytest.mark.parametrize(
    ("unit", "um"),
    [
        ("µm", 1),
        ("\N{GREEK SMALL LETTER MU}m", 1),
        (" Micron ", 1),
        ("mm", 1000),
        ("", None),
        (None, None),
        ("px", None),
    ],
)
def test_units_of_length(unit, um):
    assert um_per(unit) == um


def test_a_volume_of_one_slice_is_a_slide(tmp_path):
    itk.imwrite(itk.image_from_array(random(np.uint8)[None]), str(tmp_path / "flat.nii.gz"))
    assert np.array_equal(read_slide(tmp_path / "flat.nii.gz").pixels, random(np.uint8)[None])


def truncated(path, kept):
    """A slide of which only a part of the file is there."""
    write = tifffile.imwrite if ".tif" in path.name else itk_write
    write(path, random(np.uint16))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    return path


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.97])
@pytest.mark.parametrize("name", ["cut.png", "cut.tif", "cut.nrrd"])
def test_a_truncated_file_is_refused_by_name(name, kept, tmp_path):
    with pytest.raises(InputError, match=f"{name} cannot be read, it may be truncated"):
        read_slide(truncated(tmp_path / name, kept))


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.97])
@pytest.mark.parametrize("name", ["cut.png", "cut.tif"])
def test_what_write_slide_wrote_is_refused_when_truncated(name, kept, tmp_path):
    path = tmp_path / name
    write_slide(path, channel_first(random(np.uint8, 3)))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match=f"{name} cannot be read, it may be truncated"):
        read_slide(path)


@pytest.mark.parametrize("kept", [0.5, 0.97])
@pytest.mark.parametrize("name", ["cut.nii", "cut.nii.gz"])
def test_a_truncated_nifti_is_refused_by_name(name, kept, tmp_path):
    with pytest.raises(InputError, match=name):
        read_slide(truncated(tmp_path / name, kept))


def multipage(path):
    with tifffile.TiffWriter(path) as file:
        file.write(random(np.uint8))
        file.write(random(np.uint8, 3), photometric="rgb")


STACK = np.zeros((5, HEIGHT, WIDTH), np.uint8)
UNREADABLE = {
    "missing.png": (lambda path: None, "does not exist"),
    "folder.tif": (lambda path: path.mkdir(), "does not exist"),
    "slide.jpg": (lambda path: path.write_bytes(b"\xff\xd8\xff"), "is not an image this program reads"),
    "slide": (lambda path: path.write_bytes(b""), "is not an image this program reads"),
    "slide.gz": (lambda path: path.write_bytes(b""), "is not an image this program reads"),
    "text.png": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "cannot be read"),
    "text.tif": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "cannot be read"),
    "pages.tif": (multipage, "one 2D image"),
    "z_stack.tif": (lambda path: tifffile.imwrite(path, STACK, imagej=True, metadata={"axes": "ZYX"}), "one 2D image"),
    "rgb_stack.tif": (
        lambda path: tifffile.imwrite(path, np.stack([STACK] * 3, -1), photometric="rgb"),
        "one 2D image",
    ),
    "volume.nrrd": (lambda path: itk.imwrite(itk.image_from_array(STACK), str(path)), "one 2D image"),
    "volume.nii.gz": (lambda path: itk.imwrite(itk.image_from_array(STACK), str(path)), "one 2D image"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_slide_is_refused_by_name(name, tmp_path):
    make, message = UNREADABLE[name]
    make(tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}.* {message}"):
        read_slide(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "suffix"), [("a.PNG", ".png"), ("a.b.nii.gz", ".nii.gz"), ("a.Tiff", ".tiff"), ("a.gz", ""), ("png", "")]
)
def test_suffix_of_a_path(name, suffix, tmp_path):
    assert suffix_of(tmp_path / name) == suffix


def test_to_8bit_by_hand():
    assert to_8bit(np.array([0, 1, 128, 129, 65535], np.uint16), 0, 65535).tolist() == [0, 0, 0, 1, 255]
    assert to_8bit(np.array([-5.0, -1.0, 0.0, 0.5, 1.0, 9.0]), -1, 1).tolist() == [0, 0, 128, 191, 255, 255]
    assert to_8bit(np.array([100, 149, 200], np.uint8), 100, 200).tolist() == [0, 125, 255]
    assert to_8bit(np.arange(256, dtype=np.uint8), 0, 255).tolist() == list(range(256))
    assert to_8bit(np.zeros((3, 2, 2)), 0, 1).dtype == np.uint8
