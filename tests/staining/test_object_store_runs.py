"""A volume in an object store, stained into it: as on a disk, whatever happens to the run or to the store."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import time

import numpy as np
import pytest

from bundle.common.errors import InputError
from bundle.common.places import place
from bundle.images.stained.stored import open_stain
from bundle.preparation.pairs.intensities import intensities
from bundle.report.run import remake
from bundle.staining.slices import SliceStore
from bundle.staining.source import Bricks
from tests.conftest import ROOT
from tests.helpers.processes import wait_for
from tests.helpers.s3 import BUCKET, SECRET
from tests.helpers.volumes import SHAPE, files_of, stain

RESULT = "stained.ome.zarr"
BESIDE = {"views.png", "rendering.png", "report.html", "volume.json", "ro-crate-metadata.json"}


@pytest.fixture
def url(store, scan):
    return store.upload(scan, "in/scan.nii.gz")


@pytest.fixture(scope="module")
def local(bundle, scan, tmp_path_factory):
    """The stains of a run on a disk, by axes."""
    made = {}

    def of(axes, **ids):
        if axes not in made:
            folder = tmp_path_factory.mktemp("local")
            stain(bundle, scan, folder, window=None, axes=axes, **ids)
            made[axes] = files_of(folder / RESULT)
        return made[axes]

    return of


@pytest.mark.parametrize("axes", ["z", "zyx"])
def test_the_bytes_are_those_of_a_local_run(bundle, store, url, local, capfd, axes):
    out = f"s3://{BUCKET}/same/{axes}"
    stain(bundle, url, out, window=None, axes=axes)
    objects = store.objects(f"same/{axes}")
    assert store.objects(f"same/{axes}/{RESULT}") == local(axes)
    assert {name for name in objects if not name.startswith(RESULT)} == BESIDE  # of the work nothing is left
    record = json.loads(objects["volume.json"])
    assert (record["input"], record["result"]) == (url, RESULT)
    assert url.encode() in objects["report.html"]
    told = capfd.readouterr()
    assert f"{out}/{RESULT}" in told.out
    for content in (*objects.values(), told.out.encode(), told.err.encode()):
        assert SECRET.encode() not in content
        assert b"AKIAPLANTED" not in content
    before = store.objects(f"same/{axes}")
    stain(bundle, url, out, window=None, axes=axes)
    assert "is there already" in capfd.readouterr().out
    assert store.objects(f"same/{axes}") == before


def test_a_hull_lies_there_too(levelled, store, sample, tmp_path):
    scan, _ = sample
    ids = {"window": None, "hull": True, "background_rgb": [241, 240, 238]}
    url = store.upload(scan, "in/sample.nii.gz")
    said = [intensities(str(each), output=str(tmp_path / "seen.png")) for each in (scan, url)]
    assert said[1] == said[0].replace(str(scan), url)
    stain(levelled, url, f"s3://{BUCKET}/hull", **ids)
    stain(levelled, scan, tmp_path, **ids)
    assert store.objects(f"hull/{RESULT}") == files_of(tmp_path / RESULT)


def test_shards_lie_there_too(bundle, store, url, scan, tmp_path):
    stain(bundle, url, f"s3://{BUCKET}/shards", window=None, ngff="0.5")
    stain(bundle, scan, tmp_path, window=None, ngff="0.5")
    assert store.objects(f"shards/{RESULT}") == files_of(tmp_path / RESULT)
    whole = (slice(None),) * 3
    read = open_stain(f"s3://{BUCKET}/shards/{RESULT}").read(whole)
    assert np.array_equal(read, open_stain(tmp_path / RESULT).read(whole))


def test_from_a_store_to_a_disk_and_back(bundle, store, url, scan, local, tmp_path):
    stain(bundle, url, tmp_path / "down", window=None)
    assert files_of(tmp_path / "down" / RESULT) == local("z")
    stain(bundle, f"file://{scan}", f"s3://{BUCKET}/up", window=None)
    assert store.objects(f"up/{RESULT}") == local("z")


@pytest.mark.parametrize("axes", ["z", pytest.param("zyx", marks=pytest.mark.slow)])
def test_killed_and_begun_again(bundle, store, url, local, monkeypatch, axes):
    expected = local(axes)
    out, ids = f"s3://{BUCKET}/killed/{axes}", {"window": None, "axes": axes}
    process = multiprocessing.get_context("spawn").Process(target=stain, args=(bundle, url, out), kwargs=ids)
    process.start()
    slices = f"killed/{axes}/.work/slices"
    wait_for(lambda: len(store.objects(slices)) >= 20 or not process.is_alive(), 120)
    process.kill()
    process.join()
    assert process.exitcode == -9
    done = len(store.objects(slices))
    with pytest.raises(InputError):
        open_stain(f"{out}/{RESULT}")
    stained, write = [], SliceStore.write
    monkeypatch.setattr(SliceStore, "write", lambda self, *given: stained.append(given[:2]) or write(self, *given))
    stain(bundle, url, out, **ids)
    assert store.objects(f"killed/{axes}/{RESULT}") == expected
    assert len(stained) <= sum(SHAPE["zyx".index(axis)] for axis in axes) - done
    assert not store.objects(f"killed/{axes}/.work")


def test_two_workers_share_it(bundle, store, url, local):
    configs = f"['{bundle}/configs/inference.json','configs/volume.json']"
    given = {"config_file": configs, "bundle_root": bundle, "input": url, "output_dir": f"s3://{BUCKET}/shared"}
    given |= {"device": "cpu", "window": "null", "workers": 2}
    options = [str(part) for name, value in given.items() for part in (f"--{name}", value)]
    command = [sys.executable, "-m", "monai.bundle", "run", "inference", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert store.objects(f"shared/{RESULT}") == local("z")
    assert not store.objects("shared/.work")


def stopping(monkeypatch, store, slices, kept):
    """Let the store be gone when so many slices are in it; what it held then is put into ``kept``."""
    write, count = SliceStore.write, [0]

    def failing(self, *given):
        if count[0] == slices:
            kept.update(store.objects())
            store.stop()
        count[0] += 1
        write(self, *given)

    monkeypatch.setattr(SliceStore, "write", failing)


def test_the_store_gone_and_back(bundle, store, url, local, monkeypatch, capfd):
    out, kept, expected = f"s3://{BUCKET}/gone", {}, local("z")
    with monkeypatch.context() as patch:
        stopping(patch, store, 40, kept)
        began = time.monotonic()
        with pytest.raises(InputError, match=r"cannot be reached \(\w+\); .* the same command goes on") as caught:
            stain(bundle, url, out, window=None)
        assert time.monotonic() - began < 120
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value) + "".join(capfd.readouterr())
    assert not any(name.endswith((".zattrs", ".zgroup", ".zarray")) for name in kept if name.startswith("gone/"))
    store.start()
    store.restore(kept)
    stained, write = [], SliceStore.write
    monkeypatch.setattr(SliceStore, "write", lambda self, *given: stained.append(given[:2]) or write(self, *given))
    stain(bundle, url, out, window=None)
    assert store.objects(f"gone/{RESULT}") == expected
    assert len(stained) == SHAPE[0] - 40


def test_what_is_wrong_is_one_line(bundle, store, url):
    with pytest.raises(InputError, match=r"s3://no-such-bucket/.* in a bucket that does not exist"):
        stain(bundle, url, "s3://no-such-bucket/out")
    with pytest.raises(InputError, match=r"s3://no-such-bucket/scan.nii .* in a bucket that does not exist"):
        stain(bundle, "s3://no-such-bucket/scan.nii", f"s3://{BUCKET}/none")
    with pytest.raises(InputError, match=r"output_format is 'tif', .* ome-zarr"):
        stain(bundle, url, f"s3://{BUCKET}/none", output_format="tif")
    with pytest.raises(InputError, match="user or password") as caught:
        stain(bundle, f"https://me:{SECRET}@host/scan.nii", f"s3://{BUCKET}/none")
    assert SECRET not in str(caught.value)
    store.check_keys(0)
    try:
        for given, out in ((url, "nowhere"), ("s3://scans/scan.zarr", "nowhere"), (url, f"s3://{BUCKET}/none")):
            with pytest.raises(InputError, match="refuses the|may not be used with the credentials") as caught:
                stain(bundle, given, out)
            assert SECRET not in str(caught.value)
    finally:
        store.check_keys(float("inf"))
    assert not store.objects("none")


def test_another_scan_is_refused_there(bundle, store, url, voxels, tmp_path):
    out = f"s3://{BUCKET}/other"
    stain(bundle, url, out, window=None)
    with pytest.raises(InputError, match=r"other things \(sigma: 1.0, now 0.5\)"):
        stain(bundle, url, out, window=None, sigma=0.5)
    (place(out) / "report.html").unlink()
    assert remake(out) == f"{out}/report.html"
    assert b"</html>" in store.objects("other")["report.html"]


@pytest.mark.parametrize("axis", "zyx")
def test_bricks_lie_there_too(store, tmp_path, axis):
    voxels = np.random.default_rng(3).random((40, 70, 66), np.float32)
    slabs = []
    for path in (tmp_path / "smoothed.zarr", place(f"s3://{BUCKET}/work/{axis}/smoothed.zarr")):
        bricks = Bricks(path, voxels.shape)
        bricks.create()
        for start in (32, 0):
            bricks.write(start, voxels[start : start + 32])
        slabs.append(bricks.slab(axis, 3, 37))
    assert np.array_equal(slabs[1], slabs[0])
    assert np.array_equal(slabs[1], np.moveaxis(voxels, "zyx".index(axis), 0)[3:37])
    assert store.objects(f"work/{axis}/smoothed.zarr") == files_of(tmp_path / "smoothed.zarr")
