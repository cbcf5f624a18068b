"""Boxes of a slide of any size, read where they lie, at the pixel size one needs."""

from __future__ import annotations

import numpy as np

from bundle.images.averaging import average_along, axis_weights
from bundle.images.channel_slides import Scan, shape_at
from bundle.images.slides import reading
from bundle.images.whole_slides import level_for, level_steps


class SlideBoxes:
    """An open slide whose boxes are averaged as :meth:`bundle.images.channel_slides.Scan.rows` averages all of it.

    Args:
        scan: the slide, open for as long as boxes are read.
        coarser: how many pixels of the scan's own grid a pixel here is long.

    Attributes:
        size: (rows, columns), in pixels of this grid.
        stored: (rows, columns) of the level of the file that is read.
    """

    def __init__(self, scan: Scan, coarser: float = 1.0) -> None:
        self.path = scan.path
        box = scan.ratio * coarser
        self.size = shape_at(scan.shape, box)
        steps = [level_steps(scan.shape, level.shape) for level in scan.levels]
        chosen = level_for([max(step) for step in steps], box)
        self._level = scan.levels[chosen]
        self.stored = self._level.shape
        self._weights = None
        if box != 1:
            self._weights = [
                axis_weights(size, step, box, extent).tocsr()
                for size, step, extent in zip(self._level.shape, steps[chosen], scan.shape, strict=True)
            ]

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Read a box.

        Args:
            rows: in pixels of this grid, with a start and a stop within ``size``.
            columns: likewise.

        Returns:
            (h, w, C), float32; of the stored type where nothing is averaged.

        Raises:
            InputError: if the file is truncated or corrupt there.
        """
        if self._weights is None:
            return self._stored(rows, columns)
        parts, boxes = [], []
        for weights, side in zip(self._weights, (rows, columns), strict=True):
            part = weights[side]
            boxes.append(slice(int(part.indices.min()), int(part.indices.max()) + 1))
            parts.append(part.tocsc()[:, boxes[-1]])
        found = self._stored(*boxes)
        return average_along(average_along(found, parts[0], 0), parts[1], 1)

    def _stored(self, rows: slice, columns: slice) -> np.ndarray:
        where = f"rows {rows.start} to {rows.stop - 1}, columns {columns.start} to {columns.stop - 1}"
        with reading(f"{self.path}, {where},"):
            return self._level.box(rows, columns)
