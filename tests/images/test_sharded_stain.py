"""NGFF 0.5 with shards: what others read of it, what is damaged, and how many files it saves."""

import itertools
import os
import re
import signal
import struct
import subprocess
import sys
import textwrap
import tracemalloc
from dataclasses import replace
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import tensorstore
import zarr

from bundle.common.errors import InputError
from bundle.images.stained import number_map, shards
from bundle.images.stained.formats import DEPTH
from bundle.images.stained.ngff import LAYOUTS
from bundle.images.stained.number_map import MapSpec, open_map
from bundle.images.stained.ome_zarr import Arrays, level_shapes
from bundle.images.stained.shards import crc32c, read_chunks, write_shard
from bundle.images.stained.stored import create, finish, open_stain, write_slab
from bundle.images.volumes.volume import open_volume
from tests.conftest import ROOT
from tests.images.test_stain_io import ABOUT, GEOMETRY, SHAPE, STARTS, content, random, spec_of

BOXES = (np.s_[:, :, :], np.s_[31:33, 5:-3, 120:260], np.s_[-1:, 132:, :1], np.s_[:, 60:61, :], np.s_[5:5, :, :])
FAR = "0/c/0/1/0/0"  # a shard
CHUNKS = 2 * 3  # in a shard of level 0


def write(path, pixels, starts=STARTS, ngff="0.5"):
    spec = replace(spec_of(pixels.shape[3], pixels.shape[:3]), ngff=ngff)
    create(path, "ome-zarr", spec)
    for start in starts:
        write_slab(path, "ome-zarr", spec, start, pixels[start : start + DEPTH])
    finish(path, "ome-zarr", spec)
    return path


@pytest.fixture(scope="module", params=[3, 4], ids=["rgb", "rgba"])
def stained(request, tmp_path_factory):
    """A volume with shards, and its voxels by level."""
    pixels = random(request.param)
    pixels[:, :, :140] = 0  # chunks of nothing but what Zarr may leave out
    path = write(tmp_path_factory.mktemp("sharded") / "stained.ome.zarr", pixels)
    padded = np.pad(pixels, [(0, 1), (0, 1), (0, 0), (0, 0)], mode="edge").astype(float)
    parts = [padded[z::2, y::2, x::2] for z, y, x in itertools.product((0, 1), repeat=3)]
    return path, [pixels, np.floor(np.mean(parts, 0) + 0.5).astype(np.uint8)]


@pytest.fixture
def damaged(tmp_path):
    """A volume to spoil."""
    return write(tmp_path / "stained.ome.zarr", random())


@pytest.fixture
def errors():
    """What is to be known of a map's cubes, NaN here and there."""
    spec = MapSpec(replace(spec_of(), ngff="0.5"), 4, "expected_error", "error", (0.0, 60.0))
    cubes = np.random.default_rng(1).random(spec.shape, np.float32)
    cubes[3:9, 7, :20] = np.nan
    return spec, cubes


def write_map(path, spec, cubes):
    number_map.create(path, spec)
    for start in range(0, len(cubes), spec.depth):
        number_map.write_slab(path, spec, start, cubes[start : start + spec.depth])
    number_map.finish(path, spec)


def by_zarr(path, level):
    return zarr.open_group(path, mode="r")[str(level)][:]


def by_tensorstore(path, level):
    """By the authors of Neuroglancer."""
    kvstore = {"driver": "file", "path": f"{path / str(level)}/"}
    driver = "zarr3" if (path / "zarr.json").exists() else "zarr"
    return tensorstore.open({"driver": driver, "kvstore": kvstore}).result().read().result()


def by_ome_zarr_py(path, level):
    io, reader = pytest.importorskip("ome_zarr.io"), pytest.importorskip("ome_zarr.reader")
    (node,) = reader.Reader(io.parse_url(str(path)))()
    first, second = node.metadata["coordinateTransformations"]
    assert [first[0]["scale"], second[0]["scale"]] == [[1, 7, 6, 5], [1, 14, 12, 10]]
    assert first[1]["translation"] == [0, 3500, -2000, 1000]
    assert second[1]["translation"] == [0, 3503.5, -1997, 1002.5]
    return np.asarray(node.data[level])


def by_napari(path, level):
    plugin = pytest.importorskip("napari_ome_zarr")
    ((levels, options, kind),) = plugin.napari_get_reader(str(path))(str(path))
    assert (kind, options["scale"], options["channel_axis"]) == ("image", [7, 6, 5], 0)
    assert [name.split()[-1] for name in options["name"]] == ["Red", "Green", "Blue", "Alpha"][: len(options["name"])]
    return np.asarray(levels[level])


@pytest.mark.parametrize("ngff", LAYOUTS)
@pytest.mark.parametrize("read", [by_zarr, by_tensorstore, by_ome_zarr_py, by_napari])
def test_others_read_every_level(stained, tmp_path, read, ngff):
    path, levels = stained
    path = path if ngff == "0.5" else write(tmp_path / "stained.ome.zarr", levels[0], ngff="0.4")
    for level, pixels in enumerate(levels):
        assert np.array_equal(np.moveaxis(read(path, level), 0, -1), pixels)


def test_it_is_ngff_as_its_model_has_it(stained, tmp_path):
    models = pytest.importorskip("ome_zarr_models.v05")
    path, levels = stained
    old = pytest.importorskip("ome_zarr_models.v04").Image
    plain = zarr.open_group(write(tmp_path / "plain", levels[0], ngff="0.4"), mode="r", zarr_format=2)
    assert old.from_zarr(plain).attributes.multiscales[0].version == "0.4"
    image = models.Image.from_zarr(zarr.open_group(path, mode="r")).ome_attributes
    assert image.version == "0.5"
    assert [axis.name for axis in image.multiscales[0].axes] == ["c", "z", "y", "x"]
    assert [axis.unit for axis in image.multiscales[0].axes[1:]] == ["micrometer"] * 3
    omero = pytest.importorskip("ome_zarr_models.common.omero").Omero(**image.omero)  # left unread there
    labels = [each.label for each in omero.channels]
    assert labels == ["Red", "Green", "Blue", "Alpha"][: levels[0].shape[3]]
    for level in "01":
        assert zarr.open_array(path / level, mode="r").metadata.dimension_names == ("c", "z", "y", "x")


def test_this_program_reads_it(stained):
    path, levels = stained
    stain = open_stain(path)
    assert (stain.shape, stain.levels, stain.about) == (SHAPE, level_shapes(SHAPE), ABOUT)
    assert (stain.geometry.spacing_um, stain.geometry.origin_mm) == (GEOMETRY.spacing_um, GEOMETRY.origin_mm)
    assert np.array_equal(stain.geometry.direction, GEOMETRY.direction)
    for level, box in itertools.product((0, 1), BOXES):
        assert np.array_equal(stain.read(box, level), levels[level][box])
    with pytest.raises(InputError, match=f"has {stain.channels} channels; a scan is grey"):
        open_volume(path)


def test_a_chunk_is_read_without_the_others(stained, monkeypatch):
    """A slice of one chunk takes the index and that chunk."""
    read, inner = [], shards.read_range
    monkeypatch.setattr(shards, "read_range", lambda *given: read.append(given[1:]) or inner(*given))
    path, levels = stained
    box = np.s_[40:41, 129:131, 150:160]
    assert np.array_equal(open_stain(path).read(box), levels[0][box])
    size = (path / FAR).stat().st_size
    (at, index), (_, chunk) = read
    assert (at, index) == (size - 16 * CHUNKS - 4, 16 * CHUNKS + 4)
    assert chunk < size / 10  # it is one that the edge cuts


def test_no_trace_of_the_order_and_of_repeats(stained, tmp_path):
    path, levels = stained
    other = write(tmp_path / "other", levels[0][::-1].copy(), STARTS)
    write(other, levels[0], [64, 0, 32, 0])
    assert content(other) == content(path)
    spec = replace(spec_of(levels[0].shape[3]), ngff="0.5")
    write_slab(other, "ome-zarr", spec, 32, levels[0][32:64])  # after the end, too
    assert content(other) == content(path)


def test_chunks_are_those_of_ngff_0_4_to_the_byte(stained, tmp_path):
    path, levels = stained
    plain = write(tmp_path / "plain", levels[0], ngff="0.4")
    for slab in range(3):
        shard = list(read_chunks(path / "0" / "c" / "0" / str(slab) / "0" / "0", CHUNKS, range(CHUNKS)))
        places = itertools.product(range(2), range(3))
        assert shard == [(plain / "0" / "0" / str(slab) / str(y) / str(x)).read_bytes() for y, x in places]


def test_the_error_to_expect_lies_in_it(tmp_path, errors):
    spec, cubes = errors
    path = write(tmp_path / "stained.ome.zarr", random())
    write_map(path / "expected_error", spec, cubes)
    inside = path / "expected_error"
    for read in (by_zarr, by_tensorstore):
        assert np.array_equal(read(inside, 0)[0], cubes, equal_nan=True)
    assert np.isnan(zarr.open_array(inside / "0", mode="r").fill_value)
    assert np.array_equal(open_map(inside).read(np.s_[2:11, 5:9, :])[..., 0], cubes[2:11, 5:9], equal_nan=True)
    models = pytest.importorskip("ome_zarr_models.v05")
    image = models.Image.from_zarr(zarr.open_group(inside, mode="r")).ome_attributes
    scale, place = image.multiscales[0].datasets[0].coordinateTransformations
    assert scale.scale == [1, 28, 24, 20]
    assert place.translation[1] == pytest.approx(spec.geometry.origin_mm[2] * 1000)
    assert sorted(dict(zarr.open_group(path, mode="r").members())) == ["0", "1", "expected_error"]


def test_a_map_of_single_slices_a_level(tmp_path):
    spec = MapSpec(replace(spec_of(shape=(9, 1100, 1050)), ngff="0.5"), 4, "expected_error", "error", (0.0, 1.0))
    cubes = np.arange(3 * 275 * 263, dtype=np.float32).reshape(3, 275, 263)
    write_map(tmp_path / "map", spec, cubes)
    stain = open_map(tmp_path / "map")
    assert stain.levels == [(3, 275, 263), (2, 138, 132)]
    for level in range(2):
        assert np.array_equal(stain.read(np.s_[:, :, :], level)[..., 0], by_zarr(tmp_path / "map", level)[0])
    assert np.array_equal(by_zarr(tmp_path / "map", 0)[0], cubes)


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from bundle.images.stained import zarr3
    from bundle.images.stained.stored import write_slab
    from tests.images.test_sharded_stain import random, replace, spec_of
    packed, left = zarr3.packed, [4]
    def pack(block):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return packed(block)
    zarr3.packed = pack
    write_slab(Path(sys.argv[1]), "ome-zarr", replace(spec_of(), ngff="0.5"), 32, random()[32:64])
"""


def test_killed_in_a_shard(tmp_path):
    """Nothing opens, no shard is there in part, and going on leaves no trace."""
    write(tmp_path / "plain", random())
    path, spec = tmp_path / "stained.ome.zarr", replace(spec_of(), ngff="0.5")
    create(path, "ome-zarr", spec)
    write_slab(path, "ome-zarr", spec, 0, random()[:32])
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(path)]
    killed = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (path / FAR).exists()
    assert list((path / FAR).parent.glob(".*.partial*"))
    with pytest.raises(InputError, match="it has no zarr.json, so it was not finished"):
        open_stain(path)
    with pytest.raises(FileNotFoundError):
        zarr.open_group(path, mode="r")
    with pytest.raises(InputError):
        open_volume(path)
    for start in (64, 32):
        write_slab(path, "ome-zarr", spec, start, random()[start : start + 32])
    finish(path, "ome-zarr", spec)
    assert content(path) == content(tmp_path / "plain")


def cut(shard):
    shard.write_bytes(shard.read_bytes()[:-1000])


def cut_short(shard):
    shard.write_bytes(shard.read_bytes()[:50])


def turn_a_bit(shard):
    found = bytearray(shard.read_bytes())
    found[-20] ^= 1
    shard.write_bytes(found)


def name_too_many_bytes(shard):
    found = shard.read_bytes()[: -16 * CHUNKS - 4]
    index = struct.pack(f"<{2 * CHUNKS}Q", *(0, 2**60) * CHUNKS)
    shard.write_bytes(found + index + struct.pack("<I", google_crc32c.value(index)))


def leave_chunks_out(shard):
    shard.unlink()
    write_shard(shard, [None] * CHUNKS)


def zero_a_chunk(shard):
    found = shard.read_bytes()
    shard.write_bytes(bytes(1000) + found[1000:])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (Path.unlink, "No such file"),
        (cut, "its index does not fit its checksum"),
        (cut_short, "it has 50 bytes; the index alone has 100"),
        (turn_a_bit, "its index does not fit its checksum"),
        (name_too_many_bytes, f"chunk 0 of 6 is to lie at 0 to {2**60} of"),
        (leave_chunks_out, "chunk 0 of 6 is not in it"),
        (zero_a_chunk, "blosc"),
    ],
)
def test_what_is_damaged_is_one_line(damaged, spoil, words):
    spoil(damaged / FAR)
    with pytest.raises(InputError, match=f"{FAR}.* cannot be read, .*{re.escape(words)}") as error:
        open_stain(damaged).read(np.s_[40:41, :9, :9])
    assert "\n" not in str(error.value)
    assert np.array_equal(open_stain(damaged).read(np.s_[:32, :, :]), random()[:32])


@pytest.mark.parametrize("name", ["zarr.json", "0/zarr.json"])
def test_damaged_metadata(damaged, name):
    (damaged / name).write_text("{")
    with pytest.raises(InputError, match="stained.ome.zarr cannot be read, it may be truncated"):
        open_stain(damaged)


def test_another_s_ome_zarr_is_refused(tmp_path):
    group = zarr.open_group(tmp_path / "s.zarr", mode="w", zarr_format=3)
    group.attrs["ome"] = {"version": "0.5"}
    with pytest.raises(InputError, match="s.zarr cannot be read"):
        open_stain(tmp_path / "s.zarr")


def test_the_checksum_is_that_of_a_library():
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720 and every catalogue
    for length in (0, 1, 16 * 1024):
        content = os.urandom(length)
        assert crc32c(content) == google_crc32c.value(content)


def counts(shape):
    """Chunks of each level, and slabs."""
    arrays = Arrays(level_shapes(shape), 3)
    found = [
        [-(-side // part) for side, part in zip(size, arrays.chunk(level), strict=True)]
        for level, size in enumerate(arrays.levels)
    ]
    return [slabs * rows * columns for slabs, rows, columns in found], [slabs for slabs, _, _ in found]


def test_how_many_files(tmp_path):
    """Of a volume of 64×600×500, by what is there; of 4,000³, by the same numbers."""
    pixels, shape = np.zeros((64, 600, 500, 3), np.uint8), (64, 600, 500)
    for ngff, expected in (("0.4", [40, 12, 4]), ("0.5", [2, 2, 2])):
        path = write(tmp_path / ngff, pixels, [0, 32], ngff)
        metadata = 1  # of each level
        files = [sum(each.is_file() for each in (path / level).rglob("*")) - metadata for level in "012"]
        assert files == expected == counts(shape)[ngff == "0.5"]
    chunks, slabs = counts((4000, 4000, 4000))
    assert (chunks[0], sum(chunks)) == (128_000, 170_500)
    assert (slabs[0], sum(slabs)) == (125, 625)


def test_a_shard_is_not_in_memory(tmp_path):
    """Of a slab of 100 MB of which little can be packed; what halves it for the next level is another matter."""
    slab = random(shape=(32, 512, 2048))
    arrays = Arrays([slab.shape[:3]], 3)
    tracemalloc.start()
    LAYOUTS["0.5"].write(tmp_path, arrays, 0, 0, slab)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "0/c/0/0/0/0").stat().st_size > 100e6
    assert most < 10e6


def test_versions():
    assert list(LAYOUTS) == ["0.4", "0.5"]
