"""Registration shares its work among threads, finds the same whatever their number, and gives up when nothing fits."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bundle.common.errors import InputError
from bundle.preparation.registration import plane as planes
from bundle.preparation.registration.confidence import Verdict
from bundle.preparation.registration.plane import Registration, find_plane
from bundle.preparation.registration.pose import Pose
from bundle.preparation.registration.run import register
from bundle.preparation.registration.search import Effort, search_px
from bundle.preparation.registration.trace import Trace
from bundle.preparation.registration.workers import share_out
from tests.conftest import ROOT

LITTLE = Effort(300, (4, 2, 2), 2)
# what is found of a volume of blobs, and its bits
FIND = """
import hashlib, sys
import numpy as np
from scipy.ndimage import gaussian_filter
from bundle.preparation.registration import plane
from bundle.preparation.registration.pose import Pose
from bundle.preparation.registration.search import Effort
from bundle.preparation.registration.trace import Trace
plane.GLOBAL, plane.TRIES = Effort(300, (4, 2, 2), 2), (1,)
volume = gaussian_filter(np.random.default_rng(0).random((64, 64, 64)), 2)
volume = (255 * (volume - volume.min()) / np.ptp(volume)).astype(np.uint8)
section = np.stack([volume[30], 255 - volume[30], volume[30] // 2])
found = plane.find_plane(volume, section, 5.0, trace=Trace(shown=False))
assert "torch" not in sys.modules
pose = found.finished.pose
parts = (pose.frame, pose.centre, pose.linear, found.finished.warp, np.array(found.finished.score))
print(hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest(), found.verdict)
"""


def found_with(threads):
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-c", FIND], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_thread_and_two_find_the_same_to_the_bit_and_without_pytorch():
    assert found_with(1) == found_with(2)


@pytest.mark.parametrize("threads", [1, 3])
def test_as_many_threads_as_cores_work_and_results_keep_their_order(monkeypatch, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    together, done = threading.Barrier(threads), []

    def square(number):
        together.wait(10)  # raises unless so many are here at once
        return number**2

    assert share_out(square, range(6), lambda: done.append(threading.current_thread())) == [0, 1, 4, 9, 16, 25]
    assert done == [threading.main_thread()] * 6


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
def test_after_a_fault_no_other_item_begins(monkeypatch, fault):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    begun, stop = [], threading.Event()

    def do(number):
        begun.append(number)
        if number == 0:
            return
        stop.wait(10)

    def told():
        threading.Timer(0.2, stop.set).start()
        raise fault

    with pytest.raises(fault):
        share_out(do, range(100), told)
    assert len(begun) < 6


def test_a_number_of_threads_that_is_none_is_refused_before_anything_is_read(monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "all")
    for name in ("scan.nii.gz", "slide.png"):
        (tmp_path / name).write_bytes(b"not an image")
    with pytest.raises(InputError, match="OMP_NUM_THREADS is 'all'"):
        register(str(tmp_path / "scan.nii.gz"), str(tmp_path / "slide.png"), str(tmp_path / "pair"))
    assert not (tmp_path / "pair").exists()


SHARED = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background ignores
from bundle.common.command_line import command
from bundle.preparation.registration.workers import share_out
def work() -> None:
    share_out(time.sleep, [0.1] * 1000, lambda: print("begun", flush=True))
command(work)
"""


def test_a_command_stopped_among_its_threads_says_so_in_a_line_and_at_once():
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", SHARED], cwd=ROOT, env=environment, **pipes)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)  # all of the work takes 50 s
    assert process.returncode == 130
    assert said.strip().splitlines() == ["stopped; nothing half-written is left, so the same command starts again"]


# --- tries ---


def plane_at(z):
    return Pose(np.eye(3), np.array([z, 0.0, 0.0]), np.eye(2))


def outcomes(monkeypatch, *found):
    """Let the tries find these in turn: information, confidence, and where the planes lie that were looked at."""
    left, seeds = list(found), []

    def once(volume, section, voxel_um, levels, guess, effort, seed, trace):
        seeds.append(seed)
        score, confidence, *places = left.pop(0)
        verdict = Verdict(confidence, 0.4, 0.5, 0.9, 100)
        return Registration(SimpleNamespace(score=score), verdict, tuple(map(plane_at, places)))

    monkeypatch.setattr(planes, "_once", once)
    images = np.zeros((20, 20, 20), np.uint8), np.arange(3 * 20 * 20, dtype=np.uint8).reshape(3, 20, 20)
    trace = Trace()
    return find_plane(*images, 5.0, trace=trace), trace, seeds


@pytest.mark.parametrize("places", [(10, 200), (200, 24)])  # of the first try; the second ends at 10
def test_a_second_try_that_ends_in_a_plane_of_the_first_is_the_last(monkeypatch, places):
    found, trace, seeds = outcomes(monkeypatch, (0.721, 0.1, *places), (0.724, 0.05, 10, 300))
    assert seeds == [0, 1]
    assert found.finished.score == 0.724
    assert found.verdict.sentence.startswith("NOT accepted, confidence 0.05: 40% of 100 blocks match best where")
    assert [row[0] for row in trace.rows] == [
        "not accepted, try 2 of 3 begins",
        "not accepted: this try ends in a plane that is known",
    ]


def test_what_told_most_is_kept_if_the_second_try_finds_less(monkeypatch):
    found, _, _ = outcomes(monkeypatch, (0.72, 0.1, 10), (0.64, 0.05, 10))
    assert found.finished.score == 0.72


def test_a_second_try_that_ends_elsewhere_is_followed_by_a_third(monkeypatch):
    found, _, seeds = outcomes(monkeypatch, (0.6, 0.1, 10, 90), (0.59, 0.1, 60, 10), (0.8, 0.9, 30))
    assert seeds == [0, 1, 2]
    assert found.verdict.accepted


def test_after_three_tries_what_told_most_is_kept(monkeypatch):
    found, _, seeds = outcomes(monkeypatch, (0.6, 0.1, 10), (0.7, 0.1, 60), (0.5, 0.1, 120))
    assert seeds == [0, 1, 2]
    assert found.finished.score == 0.7


@pytest.mark.parametrize("missed", [0, 1, 2])
def test_what_is_accepted_ends_the_tries(monkeypatch, missed):
    found, _, seeds = outcomes(monkeypatch, *[(0.6, 0.1, 50 * n) for n in range(missed)], (0.9, 0.8, 400))
    assert len(seeds) == missed + 1
    assert found.finished.score == 0.9


# --- time left ---


def test_the_bar_says_how_much_is_left_and_lines_stand_beside_it(capsys):
    trace = Trace()
    with trace.bar("finding the plane", 2000):
        trace.compared(500)
        trace("1/8 size, 60 starts", 0.7, 10)
        trace._bar.refresh()
    said = capsys.readouterr().err
    assert "finding the plane:  25%" in said
    assert "500/2.00k [" in said
    assert "s] 1/8 size, 60 starts: 0.700 nats per pixel\n" in said
    trace.compared(1)  # no bar: nothing to move


def test_a_trace_that_is_not_shown_says_nothing(capsys):
    trace = Trace(shown=False)
    with trace.bar("finding the plane", 10):
        trace("stage", 0.5, 1)
        trace.compared(10)
    assert capsys.readouterr() == ("", "")
    assert [row[0] for row in trace.rows] == ["stage"]


def test_a_try_moves_its_bar_to_the_end(monkeypatch):
    monkeypatch.setattr(planes, "GLOBAL", LITTLE)
    monkeypatch.setattr(planes, "TRIES", (1,))
    rng = np.random.default_rng(0)
    section = (rng.random((3, 64, 64)) * 255).astype(np.uint8)
    moved, expected, bar = [], [], Trace.bar

    def seen(trace, what, pixels):
        expected.append(pixels)
        return bar(trace, what, pixels)

    monkeypatch.setattr(Trace, "bar", seen)
    monkeypatch.setattr(Trace, "compared", lambda self, pixels: moved.append(pixels))
    find_plane((rng.random((64, 64, 64)) * 255).astype(np.uint8), section, 5.0, trace=Trace(shown=False))
    assert sum(moved) == pytest.approx(expected[0], rel=0.02)


def test_twice_the_effort_is_twice_the_pixels():
    levels = [SimpleNamespace(classes=np.zeros(1024, np.uint8)), SimpleNamespace(classes=np.zeros(4096, np.uint8))]
    effort = Effort(1000, (10, 4, 2), 1)
    twice = replace(effort, poses=2000, kept=(20, 8, 4))
    assert search_px(levels, twice) == 2 * search_px(levels, effort)
