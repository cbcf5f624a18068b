"""The sRGB profile that says what the numbers of a colour picture mean, built by code: ICC.1:2001, matrix and curve."""

from __future__ import annotations

import struct
from functools import cache

WHITE = (0.9642, 1.0, 0.8249)  # D50, the profile connection space
PRIMARIES = {  # IEC 61966-2-1, adapted to D50 by Bradford's matrix
    "rXYZ": (0.43607, 0.22249, 0.01392),
    "gXYZ": (0.38515, 0.71687, 0.09708),
    "bXYZ": (0.14307, 0.06061, 0.71410),
}
STEPS = 1024  # of the curve


def _fixed(*numbers: float) -> bytes:
    """Numbers in 16.16 bits, as ICC has them."""
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)


def _linear(encoded: float) -> float:
    """IEC 61966-2-1: from an encoded value to light, both 0 to 1."""
    return encoded / 12.92 if encoded <= 0.04045 else ((encoded + 0.055) / 1.055) ** 2.4


@cache
def srgb() -> bytes:
    """The profile, the same bytes each time."""
    text = b"sRGB IEC61966-2.1\0"
    curve = b"".join(struct.pack(">H", round(65535 * _linear(step / (STEPS - 1)))) for step in range(STEPS))
    description = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(4 + 4 + 2 + 1 + 67)
    curves = b"curv\0\0\0\0" + struct.pack(">I", STEPS) + curve
    tags = {
        "desc": description,
        "cprt": b"text\0\0\0\0" + b"No copyright, use freely\0",
        "wtpt": b"XYZ \0\0\0\0" + _fixed(*WHITE),
        **{name: b"XYZ \0\0\0\0" + _fixed(*numbers) for name, numbers in PRIMARIES.items()},
        **dict.fromkeys(("rTRC", "gTRC", "bTRC"), curves),
    }
    table, data, places = b"", b"", dict[bytes, int]()
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        if content not in places:  # the three curves are one
            places[content] = start + len(data)
            data += content + bytes(-len(content) % 4)
        table += name.encode() + struct.pack(">II", places[content], len(content))
    created = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    size = start + len(data)
    head = struct.pack(">I4sI", size, b"\0\0\0\0", 0x02100000) + b"mntrRGB XYZ " + created + b"acsp"
    return (head + bytes(28) + _fixed(*WHITE) + bytes(48) + struct.pack(">I", len(tags))) + table + data
