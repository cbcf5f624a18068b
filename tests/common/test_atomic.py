"""A file or folder is the old one or the new one, whatever happens."""

import errno
import os
import subprocess
import sys

import pytest

from bundle.common.atomic import PARTIAL, keep_as, whole_file, whole_folder
from tests.conftest import ROOT


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def interrupted(block, name=""):
    with block as partial:
        (partial / name).write_text("half")
        raise KeyboardInterrupt


def test_a_file_appears_when_its_block_ends_and_its_folder_with_it(tmp_path):
    path = tmp_path / "new/file.png"
    with whole_file(path) as partial:
        partial.write_text("new")
        assert not path.exists()
        assert (partial.parent, partial.suffix) == (path.parent, ".png")
    assert path.read_text() == "new"
    assert names(path.parent) == ["file.png"]


@pytest.mark.parametrize("old", ["old", None])
def test_a_block_that_raises_leaves_the_old_file_and_no_part(old, tmp_path):
    path = tmp_path / "file.txt"
    if old:
        path.write_text(old)
    with pytest.raises(KeyboardInterrupt):
        interrupted(whole_file(path))
    assert names(tmp_path) == (["file.txt"] if old else [])
    assert not old or path.read_text() == old


def test_who_reads_while_a_file_is_replaced_sees_the_old_one(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with path.open() as reader:
        with whole_file(path) as partial:
            partial.write_text("new")
        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_a_block_that_raises_before_it_writes_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), whole_file(path):
        raise ZeroDivisionError
    assert (names(tmp_path), path.read_text()) == (["file.txt"], "old")


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    folder = tmp_path / "runs/bundle"
    for content in ("first", "second"):
        with whole_folder(folder) as partial:
            (partial / content).mkdir()
            (partial / content / "file").write_text(content)
            assert not (folder / content).exists()
        assert names(folder) == [content]
        assert (folder / content / "file").read_text() == content
        assert names(folder.parent) == ["bundle"]


@pytest.mark.parametrize("old", [True, False])
def test_a_block_that_raises_leaves_the_old_folder_and_no_part(old, tmp_path):
    folder = tmp_path / "bundle"
    if old:
        with whole_folder(folder) as partial:
            (partial / "file").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        interrupted(whole_folder(folder), "file")
    assert names(tmp_path) == (["bundle"] if old else [])
    assert not old or (folder / "file").read_text() == "old"


def test_what_a_killed_run_left_behind_does_not_get_into_the_folder(tmp_path):
    left = tmp_path / ".bundle.partial"
    left.mkdir()
    (left / "stale").write_text("half")
    with whole_folder(tmp_path / "bundle") as partial:
        (partial / "file").write_text("new")
    assert names(tmp_path / "bundle") == ["file"]
    assert names(tmp_path) == ["bundle"]


@pytest.mark.parametrize("links", [True, False])
def test_the_file_before_is_kept_and_one_of_the_two_is_always_whole(links, tmp_path, monkeypatch):
    path, earlier = tmp_path / "latest.pt", tmp_path / "previous.pt"
    rename, seen = os.replace, []

    def watched(source, target):
        rename(source, target)
        seen.append([file.read_text() for file in (path, earlier) if file.exists()])

    def refused(source, target):
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "replace", watched)
    if not links:
        monkeypatch.setattr(os, "link", refused)
    for content in ("1", "2", "3"):
        with whole_file(path) as partial:
            partial.write_text(content)
            if path.exists():
                keep_as(path, earlier)
    assert (path.read_text(), earlier.read_text()) == ("3", "2")
    assert names(tmp_path) == ["latest.pt", "previous.pt"]
    assert all(seen)


def test_a_kill_between_the_two_renames_does_no_harm(tmp_path):
    path, earlier = tmp_path / "latest.pt", tmp_path / "previous.pt"
    path.write_text("1")
    keep_as(path, earlier)  # killed here: both names are of one file now
    assert (path.read_text(), earlier.read_text()) == ("1", "1")
    with whole_file(path) as partial:
        partial.write_text("2")
        keep_as(path, earlier)
    assert (path.read_text(), earlier.read_text()) == ("2", "1")
    assert names(tmp_path) == ["latest.pt", "previous.pt"]


def test_killed_while_saving_leaves_the_last_whole_file(tmp_path):
    path = tmp_path / "latest.pt"
    path.write_bytes(b"whole")
    assert not list(tmp_path.glob(PARTIAL))
    code = (
        "import os, signal, sys; from pathlib import Path; from bundle.common.atomic import whole_file\n"
        "with whole_file(Path(sys.argv[1])) as partial:\n"
        "    partial.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=False)
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.glob(PARTIAL))
    with whole_file(path) as partial:
        partial.write_bytes(b"new")
    assert path.read_bytes() == b"new"
