"""An image in cells of 4×4 px: what lies in each and around it, means over them, and what is said of each."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

CELL = 4  # px a side: finer, errors of a stain are noise
LEVELS = 6  # squares of 4 to 128 px
LEAST_SPREAD = 0.02  # of [−1, 1]: a spread below it is none


def cells_of(side: int) -> int:
    """How many cells lie along a side, px; the last may be cut."""
    return -(-side // CELL)


def features_of(image: Tensor, levels: int = LEVELS) -> Tensor:
    """Mean of each channel, and logarithm of its standard deviation, in squares of 4, 8, 16 … px, at each cell.

    Squares lie in a grid from the image's first pixel; between the centres of larger ones, it is interpolated.

    Args:
        image: (C, H, W) in [−1, 1].
        levels: how many sizes of squares.

    Returns:
        (2 · levels · C, ⌈H/4⌉, ⌈W/4⌉), float32.
    """
    rows, columns = cells_of(image.shape[1]), cells_of(image.shape[2])
    largest = CELL * 2 ** (levels - 1)
    down, across = -image.shape[1] % largest, -image.shape[2] % largest
    padded = F.pad(image[None].float(), [0, across, 0, down], mode="replicate")
    mean, square = F.avg_pool2d(padded, CELL), F.avg_pool2d(padded * padded, CELL)
    size, found = [mean.shape[2], mean.shape[3]], []
    for level in range(levels):
        if level > 0:
            mean, square = F.avg_pool2d(mean, 2), F.avg_pool2d(square, 2)
        spread = torch.log((square - mean * mean).clamp(min=0.0).sqrt() + LEAST_SPREAD)
        both = F.interpolate(torch.cat([mean, spread], 1), size=size, mode="bilinear", align_corners=False)
        found.append(both[0, :, :rows, :columns])
    return torch.cat(found)


def means_of(image: Tensor) -> Tensor:
    """Mean of (C, H, W) in each cell, of those that are cut over what is there: (C, ⌈H/4⌉, ⌈W/4⌉)."""
    return F.avg_pool2d(image[None], CELL, ceil_mode=True, count_include_pad=False)[0]


def at_pixels(cells: Tensor, height: int, width: int) -> Tensor:
    """Cells (C, h, w) at each pixel of an image, interpolated between their centres: (C, height, width)."""
    size = [cells.shape[1] * CELL, cells.shape[2] * CELL]
    return F.interpolate(cells[None], size=size, mode="bilinear", align_corners=False)[0, :, :height, :width]
