"""Slices that wait to be joined and were torn: told in a line, whatever they are joined along."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.common.errors import InputError
from bundle.staining.slices import ErrorStore, SliceStore

SHAPE = (8, 12, 16)


@pytest.mark.parametrize(("axis", "plane"), [("z", (12, 16)), ("y", (8, 16)), ("x", (8, 12))])
@pytest.mark.parametrize("kind", [SliceStore, ErrorStore])
def test_a_torn_slice_is_named(tmp_path, kind, axis, plane):
    store = kind(tmp_path / "slices", SHAPE)
    stained = kind is SliceStore
    pixels = np.ones((*plane, 3), np.uint8) if stained else np.ones((-(-plane[0] // 4), -(-plane[1] // 4)), np.float32)
    for number in range(SHAPE["zyx".index(axis)]):
        store.write(axis, number, pixels)
    assert (store.slab(axis, 0, 8) == 1).all()
    torn = store.path(axis, 3)
    torn.write_bytes(torn.read_bytes()[:5])
    with pytest.raises(InputError, match=rf"{torn} gave 5 bytes where \d+ were asked for; it is damaged"):
        store.slab(axis, 0, 8)
