"""Slides as other programs write them: what docs/formats.md says of each trait is what happens, judged by others."""

import io
import re
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import openslide
import pydicom
import pytest
import tifffile
from PIL import Image, ImageOps, PngImagePlugin

from bundle.common.errors import InputError
from bundle.images.channel_slides import facts_of, opened
from bundle.images.slides import read_indices, read_labels, read_mask, read_slide
from bundle.images.whole_slides import open_section
from bundle.preparation.tiles.slides import check_names, one_of_each

DOC = Path(__file__).parents[2] / "docs/formats.md"
HEIGHT, WIDTH = 20, 33
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
TWO = np.stack([GREY, GREY[::-1]])
COLOUR = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
RAMP = np.broadcast_to(np.linspace(0, 255, WIDTH).astype(np.uint8)[:, None], (HEIGHT, WIDTH, 3)).copy()
UM = 1.0
ORIENTATION = 274


def tag(code, kind, value):
    """One more tag for :func:`tifffile.imwrite`."""
    return (code, kind, 1 if np.isscalar(value) else len(value), value, True)


def seen(path):
    """A slide as each of the three readers gives it, (H, W, C), which must agree where all of them take it."""
    read = read_slide(path).pixels.transpose(1, 2, 0)
    section = open_section(path, UM).read(UM).transpose(1, 2, 0)
    if read.dtype == np.uint8:
        np.testing.assert_array_equal(section, np.broadcast_to(read, section.shape))
    facts = facts_of(path)
    with opened(facts, 1.0, None) as scan:
        tiled = np.concatenate(list(scan.rows()))
    np.testing.assert_array_equal(tiled, read)
    assert facts.shape == read.shape[:2]
    assert facts.channels == read.shape[-1]
    return read


def pillow(path):
    """What Pillow shows, upright, as RGB or grey."""
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
        return np.asarray(upright if upright.mode == "L" else upright.convert("RGB"))


def refused(path, *words, readers=(read_slide, lambda path: open_section(path, UM).read(UM), facts_of)):
    """Each reader refuses the file in one line that names it and the words."""
    for reader in readers:
        with pytest.raises(InputError) as error:
            reader(path)
        assert path.name in str(error.value)
        assert "\n" not in str(error.value)
        for word in words:
            assert word in str(error.value)


def uncompressed(path, pixels, photometric, tags=()):
    """A TIFF of one strip with any photometric tag; tifffile writes not all."""
    rows, columns, samples = pixels.shape
    entries = [
        (256, 4, columns),
        (257, 4, rows),
        (258, 3, [8] * samples),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, samples),
        (278, 4, rows),
        (279, 4, pixels.nbytes),
        *tags,
    ]
    body, more = b"", 8 + pixels.nbytes
    sizes = {3: ("H", 2), 4: ("I", 4)}
    extra = b""
    after = more + 2 + 12 * len(entries) + 4
    for code, kind, value in sorted(entries):
        values = value if isinstance(value, list) else [value]
        packed = struct.pack(f"<{len(values)}{sizes[kind][0]}", *values)
        if len(packed) <= 4:
            field = packed.ljust(4, b"\0")
        else:
            field, extra = struct.pack("<I", after + len(extra)), extra + packed
        body += struct.pack("<HHI", code, kind, len(values)) + field
    header = b"II*\0" + struct.pack("<I", more)
    path.write_bytes(header + pixels.tobytes() + struct.pack("<H", len(entries)) + body + b"\0" * 4 + extra)
    return path


def png(path, colour, bits, rows, *chunks):
    """A PNG by its specification: rows are packed bytes."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(*each) for each in chunks) + data + chunk(b"IEND", b"")
    )
    return path


# Each row of the table in docs/formats.md has one function here, of the same name.


def white_is_zero(folder):
    for number, dtype in enumerate((np.uint8, np.uint16)):
        path = folder / f"{number}.tif"
        stored = GREY.astype(dtype) * (1 if dtype == np.uint8 else 257)
        tifffile.imwrite(path, stored, photometric="miniswhite")
        np.testing.assert_array_equal(read_slide(path).pixels[0], np.iinfo(dtype).max - stored)
        seen(path)
    np.testing.assert_array_equal(seen(folder / "0.tif")[..., 0], pillow(folder / "0.tif"))
    mask = folder / "mask.tif"
    Image.fromarray(GREY > 128).save(mask, tiffinfo={262: 0})
    with Image.open(mask) as image:  # Pillow inverts what it writes as WhiteIsZero
        np.testing.assert_array_equal(read_mask(mask), np.asarray(image))
    tifffile.imwrite(folder / "labels.tif", GREY, photometric="miniswhite")
    refused(folder / "labels.tif", "MINISWHITE", readers=[read_indices])
    tifffile.imwrite(folder / "float.tif", GREY.astype(np.float32), photometric="miniswhite")
    refused(folder / "float.tif", "WhiteIsZero", "float32")


def orientation(folder):
    for number in range(1, 9):
        path = folder / f"{number}.tif"
        tifffile.imwrite(path, COLOUR, photometric="rgb", extratags=[tag(ORIENTATION, "H", number)])
        np.testing.assert_array_equal(seen(path), pillow(path))
        tiled = folder / f"tiled{number}.tif"
        tifffile.imwrite(tiled, COLOUR, photometric="rgb", tile=(16, 16), extratags=[tag(ORIENTATION, "H", number)])
        np.testing.assert_array_equal(seen(tiled), pillow(path))
    path = folder / "sizes.tif"
    options = {"resolution": (10000, 5000), "resolutionunit": 3, "extratags": [tag(ORIENTATION, "H", 6)]}
    tifffile.imwrite(path, COLOUR, photometric="rgb", **options)  # 1 µm across, 2 µm down, before it is turned
    refused(path, "not squares", readers=[read_slide])
    assert facts_of(path).stated_um == (1, 2)
    tifffile.imwrite(folder / "9.tif", COLOUR, photometric="rgb", extratags=[tag(ORIENTATION, "H", 9)])
    refused(folder / "9.tif", "Orientation 9")


def colour_map(folder):
    table = RNG.integers(0, 256, (3, 256), dtype=np.uint16) * 257
    tifffile.imwrite(folder / "colours.tif", GREY, photometric="palette", colormap=table)
    np.testing.assert_array_equal(seen(folder / "colours.tif"), pillow(folder / "colours.tif"))
    np.testing.assert_array_equal(read_labels(folder / "colours.tif"), GREY)
    greys = np.broadcast_to(np.arange(255, -1, -1, dtype=np.uint16) * 257, (3, 256))
    tifffile.imwrite(folder / "greys.tif", GREY, photometric="palette", colormap=greys)
    assert seen(folder / "greys.tif").shape[-1] == 1
    np.testing.assert_array_equal(seen(folder / "greys.tif")[..., 0], 255 - GREY)


def ycbcr(folder):
    stored = np.asarray(Image.fromarray(COLOUR).convert("YCbCr"))
    path = uncompressed(folder / "raw.tif", stored, 6, [(530, 3, [1, 1])])
    found = seen(path).astype(int)
    assert np.abs(found - pillow(path)).max() <= 1  # Pillow's tables round twice
    tifffile.imwrite(folder / "jpeg.tif", RAMP, photometric="ycbcr", compression="jpeg", subsampling=(2, 2))
    np.testing.assert_array_equal(seen(folder / "jpeg.tif"), pillow(folder / "jpeg.tif"))
    path = uncompressed(folder / "half.tif", stored, 6, [(530, 3, [2, 2])])
    refused(path, "YCbCrSubSampling")


def aperio_jpeg2000(folder):
    stored = np.asarray(Image.fromarray(np.tile(RAMP, (4, 4, 1))[:64, :64].copy()).convert("YCbCr"))
    page = imagecodecs.jpeg2k_encode(stored, reversible=True, mct=False, codecformat="j2k")
    about = "Aperio Image Library v11.2.1 \r\n64x64 [0,0 64x64] (64x64) J2K/YUV16 Q=70|AppMag = 20|MPP = 0.5"
    options = {"photometric": "rgb", "compression": 33003, "description": about, "metadata": None}
    tifffile.imwrite(folder / "a.tif", iter([page]), shape=(64, 64, 3), dtype=np.uint8, tile=(64, 64), **options)
    (folder / "a.svs").write_bytes((folder / "a.tif").read_bytes())
    with openslide.OpenSlide(folder / "a.svs") as slide:
        theirs = np.asarray(slide.read_region((0, 0), 0, (64, 64)))[..., :3].astype(int)
    assert np.abs(seen(folder / "a.tif") - theirs).max() <= 1


def other_colours(folder):
    for name, number in (("SEPARATED", 5), ("CIELAB", 8), ("ICCLAB", 9), ("LOGLUV", 32845), ("CFA", 32803)):
        samples = 4 if number == 5 else 1 if number == 32803 else 3
        pixels = np.ascontiguousarray(np.broadcast_to(GREY[..., None], (HEIGHT, WIDTH, samples)))
        refused(uncompressed(folder / f"{name}.tif", pixels, number), name, str(number), "save it as RGB")


def further_samples(folder):
    four = np.concatenate([COLOUR, np.zeros((HEIGHT, WIDTH, 1), np.uint8)], -1)
    tifffile.imwrite(folder / "rgbx.tif", four, photometric="rgb", extrasamples=["unspecified"])
    np.testing.assert_array_equal(seen(folder / "rgbx.tif"), COLOUR)
    channels = np.moveaxis(four, -1, 0).astype(np.uint16)
    tifffile.imwrite(folder / "cyx.tif", channels, photometric="minisblack", metadata={"axes": "CYX"})
    np.testing.assert_array_equal(read_slide(folder / "cyx.tif").pixels, channels)
    assert facts_of(folder / "cyx.tif").channels == 4
    refused(folder / "cyx.tif", "grey or RGB", readers=[lambda path: open_section(path, UM)])


def alpha(folder):
    opaque = np.concatenate([COLOUR, np.full((HEIGHT, WIDTH, 1), 255, np.uint8)], -1)
    tifffile.imwrite(folder / "opaque.tif", opaque, photometric="rgb", extrasamples=["unassalpha"])
    Image.fromarray(opaque).save(folder / "opaque.png")
    for name in ("opaque.tif", "opaque.png"):
        np.testing.assert_array_equal(seen(folder / name), COLOUR)
    opaque[..., 3] = 0
    tifffile.imwrite(folder / "clear.tif", opaque, photometric="rgb", extrasamples=["unassalpha"])
    Image.fromarray(opaque).save(folder / "clear.png")
    for name in ("clear.tif", "clear.png"):
        assert len(read_slide(folder / name).pixels) == 4  # which a dataset of three channels refuses
        assert (open_section(folder / name, UM).read(UM) == 255).all()


def bits(folder):
    deep = (COLOUR.astype(np.uint32) * 4095 // 255).astype(np.uint16)
    path = folder / "twelve.tif"
    tifffile.imwrite(path, deep, photometric="rgb", bitspersample=12)
    np.testing.assert_array_equal(seen(path), np.rint(deep * (65535 / 4095)))
    refused_dark = folder / "dark.tif"
    tifffile.imwrite(refused_dark, deep, photometric="rgb")
    refused(refused_dark, "4095", "65535", readers=[lambda path: open_section(path, UM).read(UM)])
    np.testing.assert_array_equal(read_slide(refused_dark).pixels.transpose(1, 2, 0), deep)  # its range is declared


def imagej_calibration(folder):
    signed = (GREY.astype(np.int32) - 100).astype(np.int16)
    path = folder / "signed.tif"
    stored = (signed.astype(np.int32) + 32768).astype(np.uint16)
    tifffile.imwrite(path, stored, imagej=True, metadata={"cf": 0, "c0": -32768, "c1": 1})
    np.testing.assert_array_equal(read_slide(path).pixels[0], signed)
    tifffile.imwrite(path, stored, imagej=True, metadata={"cf": 0, "c0": 5, "c1": 0.5})
    np.testing.assert_allclose(read_slide(path).pixels[0], 5 + stored / 2)
    tifffile.imwrite(path, stored, imagej=True, metadata={"cf": 3, "c0": 5, "c1": 0.5})
    refused(path, "calibrated in ImageJ by a function that is no line (cf 3")


def ome_of_several_files(folder):
    shape = (HEIGHT, WIDTH)
    planes = [np.full(shape, value, np.uint16) for value in (10, 20)]
    names = ["one.ome.tif", "two.ome.tif"]
    parts = "".join(
        f'<TiffData FirstC="{at}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{at}</UUID></TiffData>'
        for at, name in enumerate(names)
    )
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{}">'
        f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="{WIDTH}" '
        f'SizeY="{HEIGHT}" SizeC="2" SizeZ="1" SizeT="1"><Channel ID="C:0"/><Channel ID="C:1"/>{parts}</Pixels></Image>'
        "</OME>"
    )
    for at, name in enumerate(names):
        tifffile.imwrite(folder / name, planes[at], description=xml.replace("{}", str(at)), metadata=None)
    for name in names:
        np.testing.assert_array_equal(read_slide(folder / name).pixels, planes)
    notes = []
    assert one_of_each("source", [folder / name for name in names], notes) == [folder / names[0]]
    assert notes == ["source: one.ome.tif, two.ome.tif are one slide, 'one'"]
    (folder / names[1]).unlink()
    refused(folder / names[0], "two.ome.tif, which is missing")
    elsewhere = xml.replace("{}", "0").replace("two.ome.tif", "../two.ome.tif")
    tifffile.imwrite(folder / names[0], planes[0], description=elsewhere, metadata=None)
    refused(folder / names[0], "not beside it")


def grey_pages(folder):
    axes = {"metadata": {"axes": "CYX"}}
    for name, options in {"plain": {"metadata": None}, "a": {}, "ij": {"imagej": True, **axes}, "o.ome": axes}.items():
        tifffile.imwrite(folder / f"{name}.tif", TWO, photometric="minisblack", **options)
        np.testing.assert_array_equal(read_slide(folder / f"{name}.tif").pixels, TWO)
    Image.fromarray(GREY).save(folder / "pillow.tif", save_all=True, append_images=[Image.fromarray(GREY[::-1])])
    np.testing.assert_array_equal(read_slide(folder / "pillow.tif").pixels, TWO)


def several_images(folder):
    with tifffile.TiffWriter(folder / "two.tif") as file:
        file.write(GREY, metadata=None)
        file.write(GREY[:10, :12], metadata=None)
    refused(folder / "two.tif", "one 2D image", readers=[read_slide])


def png_palette(folder):
    image = Image.fromarray(GREY % 16, mode="P")
    image.putpalette(RNG.integers(0, 256, 48, dtype=np.uint8).tobytes())
    image.save(folder / "colours.png")
    np.testing.assert_array_equal(seen(folder / "colours.png"), pillow(folder / "colours.png"))
    np.testing.assert_array_equal(read_labels(folder / "colours.png"), GREY % 16)
    image.putpalette(np.repeat(np.arange(200, 216, dtype=np.uint8), 3).tobytes())
    image.save(folder / "greys.png")
    assert seen(folder / "greys.png").shape[-1] == 1
    np.testing.assert_array_equal(seen(folder / "greys.png")[..., 0], pillow(folder / "greys.png")[..., 0])


def png_bits(folder):
    values = GREY % 16
    padded = np.pad(values, ((0, 0), (0, 1)))
    path = png(folder / "four.png", 0, 4, [bytes(row[::2] * 16 + row[1::2]) for row in padded])
    np.testing.assert_array_equal(read_labels(path), values)
    np.testing.assert_array_equal(seen(path)[..., 0], values * 17)
    np.testing.assert_array_equal(seen(path)[..., 0], pillow(path))


def png_orientation(folder):
    exif = Image.Exif()
    for number in range(1, 9):
        exif[ORIENTATION] = number
        path = folder / f"{number}.png"
        Image.fromarray(COLOUR).save(path, exif=exif)
        np.testing.assert_array_equal(seen(path), pillow(path))
    exif[ORIENTATION] = 12
    Image.fromarray(COLOUR).save(folder / "12.png", exif=exif)
    refused(folder / "12.png", "Orientation is 12")


def icc_profile(folder):
    other = b"\0" * 128
    tifffile.imwrite(folder / "a.tif", COLOUR, photometric="rgb", iccprofile=other)
    info = PngImagePlugin.PngInfo()
    Image.fromarray(COLOUR).save(folder / "a.png", pnginfo=info, icc_profile=other)
    for name in ("a.tif", "a.png"):
        np.testing.assert_array_equal(seen(folder / name), COLOUR)


def dicom_pyramid(folder):
    names = []
    for number, series in enumerate(("1.2.3", "1.2.3", "1.2.4")):
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.VLWholeSlideMicroscopyImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.5.{number}"
        dataset.SOPInstanceUID, dataset.SeriesInstanceUID = f"1.2.5.{number}", series
        names.append(folder / f"{number}.dcm")
        dataset.save_as(names[-1], enforce_file_format=True)
    notes = []
    assert one_of_each("target", names, notes) == [names[0], names[2]]
    assert notes == ["target: 0.dcm, 1.dcm are one slide, '0'"]


def copies(folder):
    Image.fromarray(COLOUR).save(folder / "a.png")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes())
    (folder / "c.png").symlink_to(folder / "a.png")
    with pytest.raises(InputError) as error:
        check_names("source", sorted(folder.iterdir()))
    lines = str(error.value).splitlines()
    assert len(lines) == 2
    for line, name in zip(lines, ("b.png", "c.png"), strict=True):
        assert line == f"source: {folder / name} is the same file as {folder / 'a.png'}; leave one out."


ROWS = (
    white_is_zero,
    orientation,
    colour_map,
    ycbcr,
    aperio_jpeg2000,
    other_colours,
    further_samples,
    alpha,
    bits,
    imagej_calibration,
    grey_pages,
    ome_of_several_files,
    several_images,
    png_palette,
    png_bits,
    png_orientation,
    icc_profile,
    dicom_pyramid,
    copies,
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_a_row_of_the_table_is_what_happens(row, tmp_path):
    row(tmp_path)


def test_the_table_has_a_row_for_each_function_here():
    section = DOC.read_text().partition("## Slides")[2].partition("\n## ")[0]
    assert re.findall(r"\| `(\w+)` \|$", section, re.M) == [row.__name__ for row in ROWS]


def test_a_damaged_orientation_is_no_traceback(tmp_path):
    path = png(tmp_path / "a.png", 0, 8, [bytes(row) for row in GREY], (b"eXIf", b"II*\0\xff\xff\xff\xff"))
    np.testing.assert_array_equal(read_slide(path).pixels[0], GREY)


def test_str_is_as_good_as_a_path(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    with io.BytesIO((tmp_path / "a.png").read_bytes()) as content, Image.open(content) as image:
        np.testing.assert_array_equal(read_slide(str(tmp_path / "a.png")).pixels[0], np.asarray(image))
