"""A stained volume in an object store: nothing opens before it is whole, and then all read the same of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import obstore
import obstore.store
import ome_zarr.io
import ome_zarr.reader
import pytest
import s3fs
import tensorstore
import zarr

from bundle.common.errors import InputError
from bundle.common.places import place
from bundle.images.stained import number_map, stored
from bundle.images.stained.number_map import MapSpec, open_map
from bundle.images.stained.spec import StainSpec
from bundle.images.volumes.geometry import Geometry
from tests.helpers.s3 import BUCKET, SECRET
from tests.helpers.volumes import files_of

SHAPE = (70, 300, 40)  # three slabs, three chunks along y, two levels


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), np.uint8)


@pytest.fixture(scope="module")
def spec():
    return StainSpec(SHAPE, 3, Geometry((5.0, 5.0, 5.0), (1.0, 2.0, 3.0), np.eye(3)), {"stain": "HE"})


def written(path, spec, pixels, slabs=(64, 0, 32)):
    stored.create(path, "ome-zarr", spec)
    for start in slabs:
        stored.write_slab(path, "ome-zarr", spec, start, pixels[start : start + 32])


def test_objects_are_the_files_of_a_local_one(store, spec, pixels, tmp_path):
    local, there = tmp_path / "stained.ome.zarr", place(f"s3://{BUCKET}/same/stained.ome.zarr")
    maps = MapSpec(spec, 4, "error", "levels", (0.0, 60.0))
    cubes = np.random.default_rng(1).random((18, 75, 10), np.float32)
    for path in (local, there):
        written(path, spec, pixels)
        number_map.create(path / "expected_error", maps)
        for start in range(0, 18, 8):
            number_map.write_slab(path / "expected_error", maps, start, cubes[start : start + 8])
        stored.finish(path, "ome-zarr", spec)
        number_map.finish(path / "expected_error", maps)
    assert store.objects("same/stained.ome.zarr") == files_of(local)
    read = stored.open_stain(str(there))
    assert np.array_equal(read.read((slice(None),) * 3), pixels)
    assert np.array_equal(read.read((slice(30, 35), slice(120, 140), slice(5, 9))), pixels[30:35, 120:140, 5:9])
    assert read.about == {"stain": "HE"}
    assert np.array_equal(open_map(there / "expected_error").read((slice(None),) * 3)[..., 0], cubes)


def test_others_read_the_same(store, spec, pixels):
    path = place(f"s3://{BUCKET}/judged/stained.ome.zarr")
    written(path, spec, pixels)
    stored.finish(path, "ome-zarr", spec)
    expected = pixels.transpose(3, 0, 1, 2)
    keys = {"key": "AKIAPLANTED", "secret": SECRET, "endpoint_url": store.url}
    files = s3fs.S3FileSystem(**keys)
    group = zarr.open_group(s3fs.S3Map(f"{BUCKET}/judged/stained.ome.zarr", files), mode="r")
    assert np.array_equal(group["0"][:], expected)
    own = obstore.store.S3Store(
        BUCKET,
        prefix="judged/stained.ome.zarr",
        endpoint=store.url,
        access_key_id="AKIAPLANTED",
        secret_access_key=SECRET,
        region="us-east-1",
        client_options={"allow_http": True},
        virtual_hosted_style_request=False,
    )
    objects = store.objects("judged/stained.ome.zarr")
    assert {name: bytes(obstore.get(own, name).bytes()) for name in objects} == objects
    from zarr.storage import ObjectStore

    assert np.array_equal(zarr.open_group(ObjectStore(own, read_only=True), mode="r")["0"][:], expected)
    kvstore = {
        "driver": "s3",
        "bucket": BUCKET,
        "path": "judged/stained.ome.zarr/0/",
        "endpoint": store.url,
        "aws_region": "us-east-1",
        "aws_credentials": {"type": "environment"},
    }
    opened = tensorstore.open({"driver": "zarr", "kvstore": kvstore}, read=True).result()
    assert np.array_equal(opened.read().result(), expected)


@pytest.mark.parametrize(("version", "ways"), [("0.4", 5), ("0.5", 4)])
def test_nothing_opens_before_it_is_finished(store, spec, pixels, version, ways):
    spec = dataclasses.replace(spec, ngff=version)
    path = place(f"s3://{BUCKET}/half/{version}/stained.ome.zarr")
    url, here = str(path), {"endpoint_url": store.url}

    def opens():
        found = []
        for name, way in {
            "zarr group": lambda: zarr.open_group(url, mode="r", storage_options=here),
            "zarr array": lambda: zarr.open_array(f"{url}/0", mode="r", storage_options=here),
            "zarr array of version 2": lambda: zarr.open_array(
                f"{url}/0", mode="r", zarr_format=2, storage_options=here
            ),
            "ours": lambda: stored.open_stain(url),
        }.items():
            try:
                way()
            except Exception:
                continue
            found.append(name)
        location = ome_zarr.io.parse_url(url, mode="r")
        return found + (["ome-zarr"] if location and list(ome_zarr.reader.Reader(location)()) else [])

    written(path, spec, pixels)
    assert opens() == []
    with pytest.raises(InputError, match=r"is no stained volume|not finished"):
        stored.open_stain(url)
    stored.finish(path, "ome-zarr", spec)
    assert len(opens()) == ways


def test_metadata_come_last(store, spec, pixels):
    path = place(f"s3://{BUCKET}/order/stained.ome.zarr")
    before = len(store.asked())
    written(path, spec, pixels)
    stored.finish(path, "ome-zarr", spec)
    asked = [line for line in store.asked()[before:] if line.startswith("PUT")]
    puts = [line.partition("/order/stained.ome.zarr/")[2].partition("?")[0] for line in asked]
    names = [each.rpartition("/")[2] for each in puts]
    first = next(at for at, name in enumerate(names) if name.startswith("."))
    assert all(name.startswith(".") for name in names[first:])
    assert names[-2:] == [".zmetadata", ".zattrs"]
    assert len(puts) == len(set(puts)) == 3 * 3 + 3 * 2 + 2 + 3  # chunks of two levels; .zarray; the group's


def test_creating_removes_what_was_there(store, spec, pixels):
    path = place(f"s3://{BUCKET}/anew/stained.ome.zarr")
    (path / "0" / "0" / "9" / "9" / "9").write_bytes(b"old")
    stored.create(path, "ome-zarr", spec)
    assert store.objects("anew") == {}


def test_a_missing_chunk_is_told(store, spec, pixels):
    path = place(f"s3://{BUCKET}/hole/stained.ome.zarr")
    written(path, spec, pixels)
    stored.finish(path, "ome-zarr", spec)
    (path / "0" / "0" / "1" / "1" / "0").unlink()
    with pytest.raises(InputError, match=r"s3://scans/hole/.*cannot be read"):
        stored.open_stain(str(path)).read((slice(None),) * 3)
