"""What was done to which object, a line of JSON each, for whoever must account for it; no name of a patient."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from bundle.common.atomic import check_writable

BLOCK = 1 << 20
ACTIONS = ("fetched", "judged", "stored", "skipped", "refused", "failed")


@dataclass(frozen=True)
class Audit:
    """Writes lines to a file that several processes may share.

    Attributes:
        path: of the file.
        peer: the address of the PACS.
        model: SHA-256 of the weights.
    """

    path: Path
    peer: str
    model: str

    def check(self) -> None:
        """See that lines can be written, before anything is done that calls for one.

        Raises:
            InputError: if not.
        """
        check_writable(self.path.absolute().parent)

    def stored(self) -> set[str]:
        """SOP Instance UIDs of the objects that it says were stored."""
        if not self.path.is_file():
            return set()
        lines = (json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines())
        return {line["sop_uid"] for line in lines if line["action"] == "stored"}

    def line(
        self,
        action: str,
        study: str,
        series: str,
        sop_uid: str | None = None,
        size: int | None = None,
        sha256: str | None = None,
        status: str = "",
    ) -> None:
        """Append a line, whole, and wait until it is on the disk.

        Args:
            action: one of ``ACTIONS``.
            study: Study Instance UID.
            series: Series Instance UID, of the object.
            sop_uid: SOP Instance UID; None where a whole series is meant.
            size: of its file, bytes.
            sha256: of its file.
            status: what the PACS said, how like the training data a scan is, or the fault.
        """
        content = {
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "action": action,
            "sop_uid": sop_uid,
            "series": series,
            "study": study,
            "peer": self.peer,
            "bytes": size,
            "sha256": sha256,
            "model": self.model,
            "status": status,
        }
        # one write to a file opened for appending: lines of several processes follow each other, never mix
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, (json.dumps(content) + "\n").encode())
            os.fsync(handle)
        finally:
            os.close(handle)


def size_and_sha256(path: Path) -> tuple[int, str]:
    """Of a file that may be larger than the memory."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()
