"""Stained volumes whose metadata or chunks claim what cannot be: a line each, and no memory for it."""

from __future__ import annotations

import json
import resource
import struct

import numpy as np
import pytest

from bundle.common.errors import InputError
from bundle.images.stained.ome_zarr import Arrays, unpacked
from bundle.images.stained.spec import StainSpec
from bundle.images.stained.stored import create, finish, open_stain, write_slab
from bundle.images.volumes.geometry import Geometry

SHAPE = (5, 6, 7)
BOX = (slice(None),) * 3
METADATA = {"0.4": "0/.zarray", "0.5": "0/zarr.json"}


@pytest.fixture(params=METADATA)
def image(request, tmp_path):
    path, spec = (
        tmp_path / "stained.ome.zarr",
        StainSpec(SHAPE, 3, Geometry((5.0,) * 3, (0.0,) * 3, np.eye(3)), {}, request.param),
    )
    create(path, "ome-zarr", spec)
    write_slab(path, "ome-zarr", spec, 0, np.arange(5 * 6 * 7 * 3, dtype=np.uint8).reshape(*SHAPE, 3))
    finish(path, "ome-zarr", spec)
    assert open_stain(path).read(BOX).shape == (*SHAPE, 3)
    return path, path / METADATA[request.param]


@pytest.mark.parametrize(
    "shape", [[3, -5, 6, 7], [3, 1.5, 6, 7], [10**9, 5, 6, 7], [3, 6, 7], None, "3567", [3, True, 6, 7], [3, 0, 6, 7]]
)
def test_a_shape_that_is_none_is_refused(image, shape):
    path, metadata = image
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "shape": shape}))
    with pytest.raises(InputError, match=r"stained\.ome\.zarr cannot be read"):
        open_stain(path)


def test_a_chunk_that_claims_to_be_large_is_not_unpacked():
    arrays = Arrays([SHAPE], 3)
    bomb = bytes([2, 1, 0x11, 1]) + struct.pack("<3I", 2**31 - 17, 2**31 - 17, 16)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="a chunk of blosc of 2147483631 bytes, not "):
        unpacked(bomb, arrays, 0)
    for short in (b"", b"\2"):
        with pytest.raises(ValueError, match="a chunk of"):
            unpacked(short, arrays, 0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
