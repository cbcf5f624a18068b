"""Small seeded data, and where the shared data is."""

from __future__ import annotations

import ctypes
import fcntl
import json
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bundle.images.slides import write_slide
from tests.helpers.forked import run_module

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
# the smallest networks and fewest steps with which a config still runs as a whole
TINY = {"width": 4, "blocks": 1, "patch_size": 32, "patches_per_pair": 4, "batch_size": 2, "epochs": 2, "pool_size": 4}
TINY |= {"learning_rate": 0.0004, "decay_epochs": 1, "picture_every": 1}

SIGNALS: dict[int, Any] = {}  # as they are before the first test

torch.set_num_threads(1)
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFADDR, IFF_UP = 0x8913, 0x8914, 0x8916, 1


def pytest_configure() -> None:
    """Hear Ctrl-C, and note what each signal does.

    A shell has what it starts in the background ignore it, and so would all that a test starts and then stops by it.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    SIGNALS.update({each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say last, and in red, what was not tested for want of a program."""
    skipped = [(str(each.longrepr[2]), each.nodeid) for each in terminalreporter.getreports("skipped")]
    left_out = sorted(each for each in skipped if "NOT TESTED" in each[0])
    if left_out:
        terminalreporter.section("NOT TESTED AGAINST REAL PROGRAMS", red=True, bold=True)
    for reason, name in left_out:
        terminalreporter.line(f"{name}: {reason}", red=True)


@pytest.fixture(scope="session", autouse=True)
def own_network() -> bool:
    """Leave the machine's network, where this process may: no test's server is reached from elsewhere, nor reaches out.

    What this process starts from here on shares the new network, which has a loopback and nothing else; so it is left
    before the first test, as threads that are there already would stay in the old one.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(any_socket, SIOCGIFFLAGS, asked))[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", flags | IFF_UP, b""))
        # an address besides 127.0.0.1, without which the C library resolves no name, not even of loopback, for SLURM
        address = struct.pack("16sHH4s8s", b"lo:0", socket.AF_INET, 0, socket.inet_aton("10.0.0.1"), b"")
        fcntl.ioctl(any_socket, SIOCSIFADDR, address)
    return True


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data that tests may use and the product may not."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there, so this check against real data did not run")
    return SHARED


def make_dataset(folder: Path, pairs: int = 2, size: tuple[int, int] = (64, 72), seed: int = 0, **changes) -> Path:
    """Write a dataset of smooth random slides: a 16-bit grey source and the stain that its grey determines."""
    rng = np.random.default_rng(seed)
    entries = []
    for number in range(pairs + 1):
        coarse = torch.from_numpy(rng.random((1, 1, size[0] // 8, size[1] // 8), dtype=np.float32))
        grey = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)[0].numpy()
        stain = np.concatenate([1 - 0.5 * grey, 1 - grey, 0.9 - 0.3 * grey])
        mask = np.zeros((1, *size), np.uint8)
        mask[:, 20:-8, 20:-8] = 255
        names = {key: f"{key}/{number:02d}.png" for key in ("source", "target", "mask")}
        write_slide(folder / names["source"], (grey * 65535).astype(np.uint16))
        write_slide(folder / names["target"], (stain * 255).astype(np.uint8))
        write_slide(folder / names["mask"], mask)
        entries.append({**names, "specimen": f"rat {number}", "group": "Mg", "fold": number % 2})
    listed = {
        "pixel_um": 5.0,
        "source": {"name": "µCT", "channels": 1, "range": [0, 65535]},
        "target": {"name": "toluidine blue", "channels": 3, "range": [0, 255]},
        "training": entries[:pairs],
        "testing": [{key: value for key, value in entries[pairs].items() if key != "fold"}],
        **changes,
    }
    (folder / "datalist.json").write_text(json.dumps(listed))
    return folder


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset of two training pairs and one test pair."""
    return make_dataset(tmp_path / "data")


def run_bundle(run_id: str, configs: list[str] | str, cwd: Path = ROOT, **ids) -> subprocess.CompletedProcess:
    """``python -m monai.bundle run`` as a user types it; ids are the command line's."""
    words = ["monai.bundle", "run", run_id, "--config_file", str(configs)]
    for name, value in ids.items():
        words += [f"--{name}", str(value)]
    return run_module(words, cwd)


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """Undo that a training listens for signals: processes forked by later tests could not be ended by SIGTERM."""
    yield
    for number, handler in SIGNALS.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny run; its dataset is ``data`` beside it."""
    folder = tmp_path_factory.mktemp("trained")
    make_dataset(folder / "data")
    configs = "['configs/train.json','configs/profiles/demo.json']"
    done = run_bundle("training", configs, dataset_dir=folder / "data", output_dir=folder / "run", **TINY)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def _object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from tests.helpers.s3 import object_store  # here, as few tests need it and it takes a second

    with object_store(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture
def store(_object_store, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An object store of this machine's own, in the environment as a user sets it."""
    import fsspec

    from tests.helpers.s3 import environment

    for name, value in environment(_object_store).items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    return _object_store


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser that lays pages out."""
    found = shutil.which("chromium")
    if not found:
        pytest.skip("chromium is not installed, so the page was not laid out")
    return found
