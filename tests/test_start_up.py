"""A command asked for its options answers at once: it loads nothing that takes seconds."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = sorted(
    path.stem for path in (ROOT / "scripts").glob("*.py") if re.search(r"^    script\(", path.read_text(), re.M)
)
HEAVY = {"torch", "monai", "numpy", "scipy", "skimage", "pydicom", "matplotlib"}
MOST_MB = 250
# A process counts what the one it comes from held, pytest's hundreds of MB too, so it is started by a small one.
MEASURED = (
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
    "print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); sys.exit(code)"
)


def asked_for_help(*words):
    """The process that runs Python with these words, the modules that it imported, and its peak of memory in MB."""
    command = [sys.executable, "-c", MEASURED, sys.executable, "-X", "importtime", *words, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    modules = set(re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.M))
    peak = int(re.findall(r"^peak (\d+)$", done.stderr, re.M)[0])
    return done, modules, peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def test_every_command_is_looked_at():
    assert len(COMMANDS) == len(list((ROOT / "scripts").glob("*.py"))) - 1  # __init__.py


@pytest.mark.parametrize("name", COMMANDS)
def test_help_loads_nothing_heavy(name):
    done, modules, peak_mb = asked_for_help("-m", f"scripts.{name}")
    assert done.returncode == 0
    assert "\nUsage:\n" in done.stdout
    assert "bundle.common.command_line" in modules
    assert not modules & HEAVY
    assert peak_mb <= MOST_MB


def test_what_a_command_loads_and_holds_is_seen():
    done, modules, peak_mb = asked_for_help("-c", "import json.tool; bytearray(300_000_000); 1 / 0")
    assert "json.tool" in modules
    assert 300 < peak_mb < 350
    assert done.returncode == 1
