"""However many would have a folder at once, and however the one that has it ends, one at a time has it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from bundle.common.errors import InputError
from bundle.common.folder_lock import LOCK, held
from tests.conftest import ROOT

# Many small processes, as a test's own is large. A holder is killed while two look for its lock: once it is gone, one
# has the folder, and after that one is killed too, the other.
TAKEN_OVER = """
import os, select, signal, sys, time
from pathlib import Path
from bundle.common.errors import InputError
from bundle.common.folder_lock import held

def taker(folder, pipe):
    child = os.fork()
    while not child:
        try:
            with held(folder, "it is held by"):
                os.write(pipe, os.getpid().to_bytes(4, "little"))
                time.sleep(60)
        except InputError:
            pass
    return child

read, write = os.pipe()
said = lambda: int.from_bytes(os.read(read, 4), "little")
for number in range(int(sys.argv[2])):
    folder = Path(sys.argv[1]) / str(number)
    left = {taker(folder, write)}
    first = said()
    left |= {taker(folder, write), taker(folder, write)}
    time.sleep(0.003)
    for _ in range(3):
        assert first in left and not select.select([read], [], [], 0.005)[0], "two hold it"
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
        left.remove(first)
        first = said() if left else None
print("one at a time")
"""

# Who leaves a folder removes it, and its lock; meanwhile others come.
IN_TURN = """
import os, sys
from pathlib import Path
from bundle.common.errors import InputError
from bundle.common.folder_lock import held

folder, inside = Path(sys.argv[1]) / "folder", Path(sys.argv[1]) / "inside"
for _ in range(3):
    if not os.fork():
        break
turns = 0
while turns < int(sys.argv[2]):
    try:
        with held(folder, "it is held by"):
            inside.mkdir()
            inside.rmdir()
            turns += 1
    except InputError:
        pass
    except FileExistsError:
        os.write(1, b"two hold it\\n")
        os._exit(1)
os.write(1, b"done\\n")
"""


def small(words: str, folder: Path, count: int) -> str:
    """What a process of some code says."""
    command = [sys.executable, "-c", words, str(folder), str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


def test_of_two_that_wait_for_one_that_is_killed_one_takes_over(tmp_path):
    assert small(TAKEN_OVER, tmp_path, 50) == "one at a time\n"


def test_a_folder_that_goes_with_its_lock_is_held_by_one_at_a_time(tmp_path):
    assert small(IN_TURN, tmp_path, 80) == "done\n" * 4
    assert not (tmp_path / "folder").exists()


def test_who_is_stopped_holds_it_still(tmp_path):
    words = "import sys, time; from pathlib import Path; from bundle.common.folder_lock import held\n"
    words += "with held(Path(sys.argv[1]), 'busy'): print('holds', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", words, str(tmp_path / "work")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "holds\n"
        holder.send_signal(signal.SIGSTOP)
        os.utime(tmp_path / "work" / LOCK, (time.time() - 86400,) * 2)  # it has shown no sign of life for a day
        said = rf"^it is held \(process {holder.pid} on \S+\); come back\.$"
        with pytest.raises(InputError, match=said), held(tmp_path / "work", "it is held", "come back."):
            pass
        holder.kill()
        holder.wait()
    with held(tmp_path / "work", "it is held"):
        (tmp_path / "work" / "result").touch()
    assert (tmp_path / "work" / "result").exists()


def test_of_two_threads_one_holds_it(tmp_path):
    inside, most, refused = [0], [0], set()

    def turns() -> None:
        for _ in range(200):
            try:
                with held(tmp_path / "work", "it is held"):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    time.sleep(0.0005)
                    inside[0] -= 1
            except InputError as error:
                refused.add(str(error))

    threads = [threading.Thread(target=turns) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert refused == {"it is held (this very process); wait for its end, stop it, or choose another --output_dir."}


def test_rights_and_the_kind_of_fault_are_the_callers(tmp_path):
    class BusyError(InputError):
        pass

    with ExitStack() as stack:
        stack.enter_context(held(tmp_path / "job", "busy", mode=0o700))
        assert (tmp_path / "job").stat().st_mode & 0o777 == 0o700
        with pytest.raises(BusyError, match=r"^busy \(this very process\); wait\.$"):
            stack.enter_context(held(tmp_path / "job", "busy", "wait.", BusyError))
    assert not (tmp_path / "job").exists()
