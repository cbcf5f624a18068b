"""Whatever stops or shares a staining, nothing is done twice and nothing is lost."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
import time
from datetime import datetime

import numpy as np
import pytest
import torch
from monai.transforms import Compose

from bundle.common.errors import InputError
from bundle.images.slides import write_slide
from bundle.images.stained.stored import open_stain
from bundle.networks import ResnetGenerator
from bundle.networks.accelerate import accelerate
from bundle.staining import run as run_module
from bundle.staining.job import BEGUN, RECORD, WORK, first_start
from bundle.staining.progress import Progress
from bundle.staining.slices import SliceStore
from bundle.staining.stainer import Stainer
from tests.helpers.believed import make_believed
from tests.helpers.volumes import SHAPE, files_of, result, stain, stained_whole, write_scan


def test_a_second_start_finds_the_result(bundle, scan, tmp_path, capsys):
    stain(bundle, scan, tmp_path, window=None)
    with pytest.raises(InputError, match=r"name the volume itself, .*stained.ome.zarr"):
        open_stain(tmp_path)
    before = files_of(tmp_path / "stained.ome.zarr")
    capsys.readouterr()
    stain(bundle, scan, tmp_path, window=None)
    assert "is there already" in capsys.readouterr().out
    assert files_of(tmp_path / "stained.ome.zarr") == before


def test_another_scan_model_or_setting_is_refused(bundle, scan, voxels, tmp_path):
    folder = tmp_path / "out"
    stain(bundle, scan, folder, window=None)
    other = voxels.copy()
    other[69, 47, 39] += 1
    with pytest.raises(InputError, match=r"other things \(scan: \S+scan.nii.gz, now \S+other.nii.gz\); choose another"):
        stain(bundle, write_scan(tmp_path / "other.nii.gz", other), folder, window=None)
    with pytest.raises(InputError, match=r"other things \(speed: exact, now fast\)"):
        stain(bundle, scan, folder, window=None, speed="fast")
    with pytest.raises(InputError, match=r"sigma: 1.0, now 0.5"):
        stain(bundle, scan, folder, window=None, sigma=0.5)
    changed = tmp_path / "changed"
    shutil.copytree(bundle, changed)
    weights = torch.load(changed / "models" / "model.pt", weights_only=True)
    next(iter(weights.values())).mul_(1.0001)
    torch.save(weights, changed / "models" / "model.pt")
    with pytest.raises(InputError, match=r"other things \(model: "):
        stain(changed, scan, folder, window=None)


class StoppedError(Exception):
    """What a kill is to a test."""


def stop_after(monkeypatch, slices: int, error: BaseException) -> None:
    """Let a process fail when it has written so many slices."""
    write, count = SliceStore.write, [0]

    def failing(self, *arguments):
        if count[0] == slices:
            raise error
        count[0] += 1
        write(self, *arguments)

    monkeypatch.setattr(SliceStore, "write", failing)


@pytest.mark.parametrize("axes", ["z", "zyx"])
def test_what_was_done_is_not_done_again(bundle, scan, tmp_path, monkeypatch, axes):
    stain(bundle, scan, tmp_path / "whole", window=None, axes=axes)
    with monkeypatch.context() as patch:
        stop_after(patch, 40, StoppedError())
        with pytest.raises(RuntimeError):
            stain(bundle, scan, tmp_path / "stopped", window=None, axes=axes)
    assert not (tmp_path / "stopped" / "stained.ome.zarr").exists()
    begun = tmp_path / "stopped" / WORK / BEGUN
    began_long_ago = {**json.loads(begun.read_text()), "started": "2025-01-02T03:04:05+0100"}
    begun.write_text(json.dumps(began_long_ago))
    stained = []
    write = SliceStore.write
    monkeypatch.setattr(SliceStore, "write", lambda self, *args: stained.append(args[:2]) or write(self, *args))
    stain(bundle, scan, tmp_path / "stopped", window=None, axes=axes)
    total = sum(SHAPE["zyx".index(axis)] for axis in axes)
    assert len(stained) == total - 40
    record = json.loads((tmp_path / "stopped" / "volume.json").read_text())
    assert record["started"] == "2025-01-02T03:04:05+0100"  # the first try
    assert record["ended"] > "2026"
    crate = json.loads((tmp_path / "stopped" / "ro-crate-metadata.json").read_text())["@graph"]
    assert [each["startTime"] for each in crate if "startTime" in each] == ["2025-01-02T03:04:05+01:00"]
    spent = record["spent"]
    assert spent["slices"] == total
    assert total - 40 < spent["windows"] <= total  # those of the slices that were cut short are not counted
    whole, stopped = (files_of(tmp_path / name / "stained.ome.zarr") for name in ("whole", "stopped"))
    assert whole == stopped


def test_a_full_disk_stops_with_one_line_and_keeps_what_is_done(bundle, scan, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 10, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(InputError, match=r"the disk of output_dir .* is full .*; make room: what is done is kept"):
            stain(bundle, scan, tmp_path, window=None)
    assert len(list((tmp_path / WORK / "slices" / "z").glob("*.rgb"))) == 10


def test_a_torn_slice_is_stained_again(bundle, scan, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 10, StoppedError())
        with pytest.raises(RuntimeError):
            stain(bundle, scan, tmp_path / "torn", window=None)
    torn = tmp_path / "torn" / WORK / "slices" / "z" / "000003.rgb"
    torn.write_bytes(torn.read_bytes()[:100])
    stain(bundle, scan, tmp_path / "torn", window=None)
    stain(bundle, scan, tmp_path / "whole", window=None)
    assert np.array_equal(result(tmp_path / "torn"), result(tmp_path / "whole"))


def test_a_slice_that_cannot_be_read_is_named(bundle, voxels, tmp_path):
    folder = tmp_path / "slices"
    for number, each in enumerate(voxels[:20]):
        write_slide(folder / f"slice_{number:03d}.tif", each[None], 5.0)
    bad = folder / "slice_013.tif"
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    with pytest.raises(InputError, match=r"slice_013\.tif"):
        stain(bundle, folder, tmp_path / "out", voxel_um=5.0)
    assert not (tmp_path / "out" / "stained.ome.zarr").exists()


def test_a_slice_that_rots_while_it_is_stained_is_named_and_what_is_done_is_kept(bundle, voxels, tmp_path, monkeypatch):
    folder, out = tmp_path / "slices", tmp_path / "out"
    for number, each in enumerate(voxels):
        write_slide(folder / f"slice_{number:03d}.tif", each[None], 5.0)
    bad, go = folder / "slice_050.tif", run_module.Run.go
    whole = bad.read_bytes()

    def rotting(run, *given):
        bad.write_bytes(whole[: len(whole) // 2])
        go(run, *given)

    with monkeypatch.context() as patch:
        patch.setattr(run_module.Run, "go", rotting)
        with pytest.raises(InputError, match=r"slice_050\.tif cannot be read"):
            stain(bundle, folder, out, window=None, voxel_um=5.0)
    assert (out / WORK / "steps" / "join-0000" / "done.json").exists()
    assert not (out / "stained.ome.zarr").exists()
    bad.write_bytes(whole)
    stain(bundle, folder, out, window=None, voxel_um=5.0)
    assert np.array_equal(result(out), stained_whole(bundle, voxels, 0, window=None))


def test_a_disk_that_is_really_full(bundle, scan, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small disk could be mounted here, so a really full one was not tried")
    try:
        with pytest.raises(InputError, match=r"the disk of output_dir .* is full"):
            stain(bundle, scan, disk, window=None)
        assert any((disk / WORK / "slices" / "z").glob("0*.rgb"))
        assert not (disk / "stained.ome.zarr").exists()
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        stain(bundle, scan, disk, window=None)
        stain(bundle, scan, tmp_path / "whole", window=None)
        assert files_of(disk / "stained.ome.zarr") == files_of(tmp_path / "whole" / "stained.ome.zarr")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_two_workers_share_the_work_and_give_the_same(trained, scan, tmp_path):
    bundle = make_believed(trained / "bundle", tmp_path / "moved")  # its own code runs, and leaves its caches there
    stain(bundle, scan, tmp_path / "one", window=32, step=16)
    command = [sys.executable, "-m", "monai.bundle", "run", "inference", "--config_file"]
    command += [str([str(bundle / "configs" / name) for name in ("inference.json", "volume.json")])]
    command += ["--bundle_root", str(bundle), "--workers", "2"]
    command += ["--input", str(scan), "--output_dir", str(tmp_path / "two"), "--window", "32", "--step", "16"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert files_of(tmp_path / "one" / "stained.ome.zarr") == files_of(tmp_path / "two" / "stained.ome.zarr")
    assert (tmp_path / "two" / "stained.ome.zarr" / "expected_error" / ".zattrs").exists()
    known = [json.loads((tmp_path / name / RECORD).read_text())["likeness"] for name in ("one", "two")]
    assert known[0] == known[1]
    assert "70/70" in done.stderr
    assert not (tmp_path / "two" / WORK).exists()


def test_a_second_command_is_refused_in_a_line_while_the_first_is_at_work(bundle, scan, tmp_path, monkeypatch):
    refused, go = [], run_module.Run.go

    def meanwhile(run, *given):
        with pytest.raises(InputError) as raised:
            stain(bundle, scan, tmp_path, window=None)
        refused.append(str(raised.value))
        go(run, *given)

    monkeypatch.setattr(run_module.Run, "go", meanwhile)
    stain(bundle, scan, tmp_path, window=None)
    assert refused == [
        f"output_dir {tmp_path} is in the hands of a run that is at work (this very process); wait for its end, or "
        "choose another --output_dir; to share its work, stop it and start it with --workers N or --cluster."
    ]
    assert (tmp_path / "stained.ome.zarr").exists()


def test_an_arithmetic_that_this_machine_has_not_is_told():
    network = accelerate(ResnetGenerator(width=4, blocks=1), "fast")
    stainer = Stainer(Compose([]), network, None, None, torch.device("cpu"), 64, 32, 1)
    with pytest.raises(InputError, match="begun in 'autocast', which this cpu has not; go on where it was begun, or"):
        stainer.take("autocast")
    stainer.take("fp32")
    assert not stainer.undecided


@pytest.mark.parametrize("told", [{}, {"started": None}, {"started": "yesterday"}, {"started": 5}])
def test_a_try_of_an_earlier_version_began_now(tmp_path, told):
    (tmp_path / WORK).mkdir()
    (tmp_path / WORK / BEGUN).write_text(json.dumps(told))
    before = time.time() - 1
    began = datetime.strptime(first_start(tmp_path), "%Y-%m-%dT%H:%M:%S%z").timestamp()
    assert before <= began <= time.time()
    assert first_start(tmp_path / "empty")[:4] == first_start(tmp_path)[:4]


def test_time_before_the_first_slice_is_no_pace(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    done: list[int] = [0]
    monkeypatch.setattr(Progress, "_count", lambda self: done[0])
    progress = Progress(None, None, {"stain-z-0000": ("z", 0, 100)}, True)
    for now[0] in (10.0, 50.0):  # start-up
        progress.look()
    now[0], done[0] = 60.0, 10
    progress.look()
    told = progress.bar.format_dict
    progress.bar.close()
    assert told["n"] == 10
    assert told["elapsed"] == pytest.approx(10)  # of the 10 slices, not 60
