"""Every example of docs/python.md runs, and gives what it says."""

from __future__ import annotations

import re

import numpy as np

from tests.conftest import ROOT
from tests.helpers.believed import make_believed
from tests.helpers.volumes import make_voxels

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BUNDLE = "output/demo/run/bundle"


def test_the_examples_run_one_after_the_other(levelled, tmp_path, monkeypatch, capsys):
    make_believed(levelled, tmp_path / BUNDLE)
    monkeypatch.chdir(tmp_path)
    scan = np.clip(make_voxels((20, 48, 40)), 5000, None)
    names = {"scan": scan, "slice_2d": scan[7]}
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    for example in examples:
        exec(compile(example, "docs/python.md", "exec"), names)
    assert len(examples) >= 6
    assert names["made"].rgb.shape == (48, 40, 3)
    assert names["made"].expected_error.shape == (48, 40)
    assert np.array_equal(names["volume"].rgb, names["stained"])
    assert np.array_equal(names["rgb"], names["stained"][12])
    assert names["volume"].expected_error.shape == (20, 12, 10)
    assert (tmp_path / "stained.zarr").is_dir()
    assert "training data" in capsys.readouterr().out
