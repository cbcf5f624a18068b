"""What a user can mend is one line; what is our own fault keeps its traceback."""

import errno
import subprocess
import sys

import pytest

from bundle.common.errors import InputError, causes, line_of
from bundle.studies.plan import beside_configs, plan_cells
from tests.conftest import ROOT

LINES = [
    (InputError("this is wrong."), "this is wrong."),
    (
        OSError(errno.ENOSPC, "No space left on device", "/out/a"),
        "the disk is full at /out/a (No space left on device)",
    ),
    (MemoryError("Unable to allocate 14.6 TiB"), "memory does not suffice (Unable to allocate 14.6 TiB); ask for less"),
    (MemoryError(), "memory does not suffice (of this machine); ask for less at once."),
    (PermissionError(errno.EACCES, "Permission denied", "/place/x"), "/place/x: Permission denied; name another place"),
    (OSError(errno.EROFS, "Read-only file system", "/cd/x"), "/cd/x: Read-only file system; name another place"),
    (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"), "a/b: Not a directory; name another place"),
]


@pytest.mark.parametrize(("error", "line"), LINES)
def test_a_fault_is_found_however_it_is_wrapped(error, line):
    assert line_of(error).startswith(line)
    wrapped = RuntimeError("MONAI's own words")
    wrapped.__cause__ = error
    assert line_of(wrapped) == line_of(error)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(errno.EIO, "Input/output error", "x"), KeyError("a")])
def test_what_is_no_fault_of_the_user_is_left_alone(error):
    assert line_of(error) is None


def test_a_command_prints_the_line_alone():
    code = "from bundle.common.errors import plain_errors; plain_errors(); open('x' * 5000, 'w')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("\nerror: xxx")
    assert "File name too long" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_study_elsewhere_takes_the_configs_of_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert beside_configs("data", None) == [str(tmp_path / "data"), None]
    assert len(plan_cells({"a": {}}, [None], [0], None, {})) == 1


def test_a_ring_of_causes_comes_to_an_end():
    first, second = RuntimeError("a library raises"), InputError("what it was told.")
    first.__cause__, second.__cause__ = second, first
    assert list(causes(first)) == [first, second]
    assert line_of(first) == "what it was told."
    second.__cause__, first.__cause__ = RuntimeError(), second
    second.__cause__.__cause__ = second
    assert line_of(second.__cause__) == "what it was told."
