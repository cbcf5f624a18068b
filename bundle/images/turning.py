"""The eight ways in which a TIFF or EXIF tag says that an image is stored turned or mirrored."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

UPRIGHT = 1
ORIENTATIONS = range(1, 9)
ROWS_FROM_THE_END = (3, 4, 7, 8)  # the first row that one sees lies last in the file
COLUMNS_FROM_THE_END = (2, 3, 6, 7)  # likewise the first column
SWAPPED = (5, 6, 7, 8)  # the rows that one sees are the file's columns


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels as they are to be seen, TIFF 6.0, Orientation (EXIF's is the same).

    Args:
        pixels: (rows, columns, …) as stored.
        orientation: 1 to 8; 1 is upright.

    Returns:
        (rows, columns, …), a view; rows and columns are swapped from 5 on.
    """
    if orientation in SWAPPED:
        pixels = pixels.swapaxes(0, 1)
    down, across = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(orientation, (1, 1))
    return pixels[::down, ::across]


def turned_shape(shape: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(rows, columns) as seen, of those stored."""
    return (shape[1], shape[0]) if orientation in SWAPPED else shape


Box = Callable[[slice, slice], np.ndarray]


def box_as_seen(read: Box, shape: tuple[int, int], orientation: int) -> Box:
    """Read boxes of an image as seen, from a reader of boxes as stored.

    Args:
        read: gives (rows, columns, …) of slices of rows and columns, as stored.
        shape: (rows, columns) as stored.
        orientation: 1 to 8.

    Returns:
        Gives (rows, columns, …) of slices of rows and columns, as seen; both have a start and a stop.
    """
    height, width = turned_shape(shape, orientation)

    def box(rows: slice, columns: slice) -> np.ndarray:
        if orientation in ROWS_FROM_THE_END:
            rows = slice(height - rows.stop, height - rows.start)
        if orientation in COLUMNS_FROM_THE_END:
            columns = slice(width - columns.stop, width - columns.start)
        stored = (columns, rows) if orientation in SWAPPED else (rows, columns)
        return turned(read(*stored), orientation)

    return box
