"""Stained slides as NGFF 0.5: every kind of values, through the readers of others."""

import numpy as np
import pytest
import tensorstore
import zarr

from bundle.common.errors import InputError
from bundle.images.stained_slides import sharded
from bundle.images.stained_slides.formats import Packing
from tests.helpers.stained_slides import KINDS, LEVELS, NAMES, PIXEL_UM, level_of, pyramid_of, written

SHARDED = Packing(ngff="0.5")


@pytest.fixture(scope="module", params=KINDS)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    pyramid, _ = pyramid_of(folder / "pyramid", request.param)
    return written(folder / "stained.ome.zarr", "ome-zarr", pyramid, SHARDED), pyramid, request.param


def test_others_read_every_level(made):
    path, pyramid, kind = made
    group = zarr.open_group(path, mode="r", zarr_format=3)
    for level, shape in enumerate(LEVELS):
        kvstore = {"driver": "file", "path": f"{path / str(level)}/"}
        store = tensorstore.open({"driver": "zarr3", "kvstore": kvstore}).result()
        for found in (store.read().result(), group[str(level)][:]):
            assert found.shape == (pyramid.spec.channels, *shape)
            assert found.dtype == pyramid.spec.kind
            assert np.array_equal(np.moveaxis(found, 0, -1), level_of(pyramid, level), equal_nan=kind == "map")
    assert sum(file.is_file() for file in path.rglob("*")) == 1 + 2 * len(LEVELS)


def test_ngff_and_its_reference_reader_have_it(made):
    models = pytest.importorskip("ome_zarr_models.v05")
    io, reader = pytest.importorskip("ome_zarr.io"), pytest.importorskip("ome_zarr.reader")
    path, pyramid, kind = made
    image = models.Image.from_zarr(zarr.open_group(path, mode="r")).ome_attributes
    assert image.version == "0.5"
    assert [axis.name for axis in image.multiscales[0].axes] == ["c", "y", "x"]
    (node,) = reader.Reader(io.parse_url(str(path)))()
    scales = [each[0]["scale"] for each in node.metadata["coordinateTransformations"]]
    assert scales == [pytest.approx([1, PIXEL_UM * 2**level, PIXEL_UM * 2**level]) for level in range(3)]
    names = ("Red", "Green", "Blue") if kind == "rgb" else NAMES[: pyramid.spec.channels]
    assert tuple(node.metadata["channel_names"]) == names
    assert np.array_equal(np.moveaxis(np.asarray(node.data[0]), 0, -1), level_of(pyramid, 0), equal_nan=kind == "map")


def test_shards_that_the_edge_cuts(tmp_path, monkeypatch):
    """Two tiles a side: 2 × 3 of them make 1 × 2 shards, the second of which lacks what lies beyond the edge."""
    monkeypatch.setattr(sharded, "ACROSS", 2)
    pyramid, _ = pyramid_of(tmp_path / "pyramid", "rgb")
    path = written(tmp_path / "stained.ome.zarr", "ome-zarr", pyramid, SHARDED)
    assert sorted(str(file.relative_to(path / "0/c")) for file in (path / "0/c").rglob("*") if file.is_file()) == [
        "0/0/0",
        "0/0/1",
    ]
    array = zarr.open_array(path / "0", mode="r")
    assert np.array_equal(np.moveaxis(array[:], 0, -1), level_of(pyramid, 0))
    kvstore = {"driver": "file", "path": f"{path / '0'}/"}
    store = tensorstore.open({"driver": "zarr3", "kvstore": kvstore}).result()
    assert np.array_equal(np.moveaxis(store.read().result(), 0, -1), level_of(pyramid, 0))


def test_again_gives_the_same_and_a_missing_tile_nothing(tmp_path):
    pyramid, _ = pyramid_of(tmp_path / "p", "rgb")
    path = written(tmp_path / "out/stained.ome.zarr", "ome-zarr", pyramid, SHARDED)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    (path / "0" / "rest").write_text("of an earlier try")
    written(path, "ome-zarr", pyramid, SHARDED)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    (tmp_path / "p/1/0/0/1").unlink()
    with pytest.raises(InputError, match="is missing, so the stained slide is not whole"):
        written(tmp_path / "out/other", "ome-zarr", pyramid, SHARDED)
    assert list((tmp_path / "out").iterdir()) == [path]
