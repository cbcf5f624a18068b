"""What dicom3tools' validator says of a file."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.hospital.conftest import needs

KNOWN = "(0x0008,0x001c)"  # SyntheticData, which is newer than dciodvfy
EXTENDED = "this is a Standard Extended SOP Class"


def complaints(path: Path, known: tuple[str, ...] = (KNOWN,)) -> list[str]:
    """What dciodvfy says of a file, but for its kind, and what is said of tags it may complain of."""
    needs("dciodvfy")
    said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True).stderr.splitlines()
    assert any(KNOWN in line for line in said)  # or it has learnt of it
    return [line for line in said[1:] if not any(tag in line for tag in (*known, EXTENDED))]
