"""What a DICOM tag says, made safe, for tags are others' text and may hold anything; and UIDs of our own."""

from __future__ import annotations

import hashlib
import re
import uuid

LONGEST = 64  # characters: what DICOM allows a name or a UID


def printable(text: object) -> str:
    """A text with a ``?`` for each character that a terminal or a log would obey instead of show."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))


def plain(text: object) -> str:
    """A tag's value for a message: without control characters, at most 64 characters.

    >>> plain("a" + chr(13) + "b")
    'a?b'
    """
    shown = printable(str(text)[: LONGEST + 1])
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"


def file_name(text: object) -> str:
    """A tag's value as the name of a file: letters, digits, ``.``, ``_`` and ``-`` of ASCII; a UID stays as it is.

    >>> file_name("../../etc/passwd")
    'etc_passwd'
    """
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", str(text)[:1024])
    return re.sub(r"\.{2,}", ".", safe).strip("._-")[:LONGEST] or "unnamed"


def uid_for(content: bytes) -> str:
    """The UID that belongs to a content: 2.25 and a UUID (ISO/IEC 9834-8) of its SHA-256."""
    return f"2.25.{uuid.UUID(bytes=hashlib.sha256(content).digest()[:16], version=5).int}"
