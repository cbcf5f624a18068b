"""Whole slides as files of many kinds: a gradient with noise, 640×480 px of 0.5 µm."""

import numpy as np
import tifffile
from PIL import Image
from skimage.measure import block_reduce

HEIGHT, WIDTH = 480, 640
APERIO = "Aperio Image Library v12.0.15\n640x480 |AppMag = 20|MPP = 0.5"
CENTIMETRE = {"resolution": (20000, 20000), "resolutionunit": 3}  # 0.5 µm


def slide(dtype=np.uint8, channels=3, seed=0):
    """Noise about a gradient, (H, W, C)."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    ramp = (rows / HEIGHT / 2 + columns / WIDTH / 4)[..., None] * np.array([0.9, 0.7, 0.5, 1.0])[:channels]
    noise = np.random.default_rng(seed).random((HEIGHT, WIDTH, channels)) / 4
    return ((ramp + noise) * np.iinfo(dtype).max).astype(dtype)


def shrunk(pixels, factor):
    """A level of a pyramid."""
    return np.rint(block_reduce(pixels, (factor, factor, 1), np.mean)).astype(pixels.dtype)


def pyramid(path, pixels, kind, **options):
    """Levels of 1, 1/2 and 1/8, as SubIFDs, as further pages, or as Aperio's further pages with a thumbnail."""
    options = {"photometric": "rgb", "tile": (64, 64), "compression": "zlib", **options}
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, subifds=2 if kind == "subifd" else None, **CENTIMETRE, **options)
        if kind == "aperio":
            file.write(shrunk(pixels, 4), photometric="rgb", description=APERIO, metadata=None)
        for factor in (2, 8):
            file.write(shrunk(pixels, factor), subfiletype=1, **options)


def ome(path, pixels, **options):
    sizes = {"PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
    axes = "YXS" if pixels.shape[-1] == 3 else "CYX"
    tifffile.imwrite(path, pixels, photometric="rgb", metadata={"axes": axes, **sizes}, **options)


def aperio(path, pixels):
    pyramid(path, pixels, "aperio", description=APERIO, metadata=None)


def tiff(**options):
    return lambda path, pixels: tifffile.imwrite(path, pixels, photometric="rgb", **CENTIMETRE, **options)


WRITERS = {
    "slide.png": lambda path, pixels: Image.fromarray(pixels).save(path, dpi=(50800, 50800)),
    "raw.tif": tiff(),
    "strips.tif": tiff(compression="zlib", rowsperstrip=50),
    "one_strip.tif": tiff(compression="zlib", rowsperstrip=HEIGHT),
    "tiles.tiff": tiff(tile=(128, 64)),
    "big_endian.tif": tiff(byteorder=">"),
    "planar.tif": lambda path, pixels: tiff(planarconfig="separate", compression="zlib")(
        path, np.moveaxis(pixels, -1, 0)
    ),
    "slide.ome.tif": ome,
    "tiles.ome.tif": lambda path, pixels: ome(path, pixels, tile=(64, 64), compression="zlib"),
    "imagej.tif": lambda path, pixels: tifffile.imwrite(
        path, pixels, imagej=True, resolution=(2, 2), metadata={"unit": "um"}
    ),
    "subifd.tif": lambda path, pixels: pyramid(path, pixels, "subifd"),
    "pages.tif": lambda path, pixels: pyramid(path, pixels, "pages"),
    "bare_pages.tif": lambda path, pixels: pyramid(path, pixels, "pages", metadata=None),
    "aperio.svs": aperio,
    "pyramid.ome.tif": lambda path, pixels: pyramid(
        path, pixels, "subifd", metadata={"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    ),
}
PYRAMIDS = ("subifd.tif", "pages.tif", "bare_pages.tif", "aperio.svs", "pyramid.ome.tif")
