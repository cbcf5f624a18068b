"""Scans as other programs write them: 11×14×17 voxels of 7×6×5 µm, turned and shifted where a format can say so."""

import itk
import numpy as np
import tifffile
import zarr
from PIL import Image

SHAPE = (11, 14, 17)  # three sizes, so that axes cannot be mistaken
SPACING = (0.007, 0.006, 0.005)  # mm, z y x


def random(dtype=np.uint16, shape=SHAPE, seed=0):
    values = np.random.default_rng(seed).random(shape)
    if np.issubdtype(dtype, np.bool_):
        return values > 0.5
    if np.issubdtype(dtype, np.floating):
        return (values * 1000).astype(dtype)
    return (np.iinfo(dtype).min + values * (np.iinfo(dtype).max - np.iinfo(dtype).min)).astype(dtype)


def rotation(a=0.3, b=-0.5):
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return about_z @ about_x


def itk_write(path, pixels, compression=False, spacing=SPACING, direction=None):
    image = itk.image_from_array(pixels)
    image.SetSpacing(spacing[::-1])
    image.SetOrigin([1.0, -2.0, 3.5])
    image.SetDirection(itk.matrix_from_array(rotation() if direction is None else direction))
    itk.imwrite(image, str(path), compression=compression)


def write_folder(path, pixels, suffix=".tif", **options):
    path.mkdir()
    for number, plane in enumerate(pixels):
        name = path / f"slice_{number}{suffix}"
        Image.fromarray(plane).save(name) if suffix == ".png" else tifffile.imwrite(name, plane, **options)


def write_zarr(path, pixels, version=2, axes="zyx", unit="micrometer", scale=None, translation=None, of_all=None):
    """OME-NGFF 0.4 (Zarr 2) or 0.5 (Zarr 3), by the specification."""
    group = zarr.open_group(path, mode="w", zarr_format=version)
    stored = pixels.reshape(*[1] * (len(axes) - 3), *pixels.shape)
    chunks = tuple(min(4, size) for size in stored.shape)
    group.create_array("0", shape=stored.shape, chunks=chunks, dtype=stored.dtype)[:] = stored
    kinds = {"t": {"type": "time"}, "c": {"type": "channel"}}
    space = {"type": "space", **({"unit": unit} if unit else {})}
    transformations = [{"type": "scale", "scale": scale or [1.0] * (len(axes) - 3) + [7.0, 6.0, 5.0]}]
    if translation:
        transformations.append({"type": "translation", "translation": translation})
    multiscale = {
        "axes": [{"name": name, **kinds.get(name, space)} for name in axes],
        "datasets": [{"path": "0", "coordinateTransformations": transformations}],
        **({"coordinateTransformations": of_all} if of_all else {}),
    }
    group.attrs.update({"multiscales": [multiscale]} if version == 2 else {"ome": {"multiscales": [multiscale]}})


def pages_one_by_one(path, pixels, **options):
    with tifffile.TiffWriter(path) as file:
        for plane in pixels:
            file.write(plane, **options)


STACKS = {
    "raw.tif": lambda path, pixels: tifffile.imwrite(path, pixels, photometric="minisblack"),
    "zlib.tif": lambda path, pixels: tifffile.imwrite(path, pixels, photometric="minisblack", compression="zlib"),
    "bare.tiff": lambda path, pixels: tifffile.imwrite(path, pixels, photometric="minisblack", metadata=None),
    "each.tif": lambda path, pixels: pages_one_by_one(path, pixels, compression="zlib"),
    "each_bare.tif": lambda path, pixels: pages_one_by_one(path, pixels, metadata=None),
    "tiled.tif": lambda path, pixels: tifffile.imwrite(path, pixels, tile=(16, 16), photometric="minisblack"),
    "folder": write_folder,
    "png_folder": lambda path, pixels: write_folder(path, pixels, ".png"),
    "v2.zarr": write_zarr,
    "v3.zarr": lambda path, pixels: write_zarr(path, pixels, 3),
    "five.zarr": lambda path, pixels: write_zarr(path, pixels, 3, "tczyx"),
}


def cut_zarr(path):
    write_zarr(path, random())
    chunk = next(each for each in (path / "0").rglob("*") if each.is_file() and each.name[0] != ".")
    chunk.write_bytes(chunk.read_bytes()[:10])


def truncate(path, kept):
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
