"""How far one image lies from another, block by block: registration without a network, inside a training step."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

HALF = 2  # blocks are compared at half resolution: a quarter of the work for each of a quarter of the places
GRID = 4  # px of half resolution that are summed before blocks are
NOISE = 0.005  # a difference in mean ℓ1, of [−1, 1], that makes a displacement e times as likely where all are alike,
SPREAD = 0.06  # and this share of what the mean loses to the best besides, so that places between two are found
LEAST_SEEN = 0.05  # share of a block inside both masks, below which what is seen counts for less


@torch.no_grad()
def displacement(
    image: Tensor, moved: Tensor, mask: Tensor, reach_px: int = 6, block_px: int = 128, rest: float = 0.002
) -> Tensor:
    """Where in ``moved`` the content of each pixel of ``image`` lies, by block matching.

    For every block and every displacement within reach the mean absolute difference of the two images inside the
    mask is computed, and what it costs to move. The displacement is the mean of all, weighted by how likely each is,
    so finer than their distance of 2 px; between blocks it is interpolated.

    Args:
        image: (B, C, H, W) in [−1, 1].
        moved: likewise.
        mask: (B, 1, H, W), above 0 where ``moved`` may be compared.
        reach_px: the farthest displacement along each axis; 0 to ``reach_px``, a multiple of 2.
        block_px: about the side of a block: the image is divided into equal blocks of nearly that size.
        rest: cost of a displacement of 1 px, mean ℓ1; keeps blocks without structure in place.

    Returns:
        (B, 2, H, W), px, rows and columns.
    """
    few, other, seen = (F.avg_pool2d(each, HALF) for each in (image, moved, mask))
    height, width = few.shape[-2:]
    steps, count = reach_px // HALF, 2 * (reach_px // HALF) + 1
    other, around = F.pad(other, (steps,) * 4, mode="replicate"), F.pad(seen, (steps,) * 4)
    rows = []
    for row in range(count):
        beside = other[:, :, row : row + height].unfold(3, width, 1)  # (B, C, H, count, W)
        both = around[:, 0, row : row + height].unfold(2, width, 1) * seen[:, 0, :, None]
        difference = (few[:, :, :, None] - beside).abs_().mean(1) * both
        rows.append(F.avg_pool2d(torch.cat([difference, both], 2).transpose(1, 2), GRID))
    sums = torch.stack(rows, 1).unflatten(2, (2, count))  # (B, count, 2, count, h, w)
    number = (max(1, round(image.shape[-2] / block_px)), max(1, round(image.shape[-1] / block_px)))
    blocks = F.adaptive_avg_pool2d(sums.flatten(0, 2), number).view(*sums.shape[:4], *number)
    places = torch.arange(-steps, steps + 1, device=image.device, dtype=image.dtype) * HALF
    length = (places[:, None].square() + places.square()).sqrt()
    cost = blocks[:, :, 0] / blocks[:, :, 1].clamp(min=LEAST_SEEN) + rest * length[..., None, None]
    flat = cost.flatten(1, 2)
    likely = torch.softmax(-flat / (NOISE + SPREAD * (flat.mean(1, True) - flat.amin(1, True))), 1).view_as(cost)
    found = [torch.einsum("brchw,r->bhw", likely, places), torch.einsum("brchw,c->bhw", likely, places)]
    return F.interpolate(torch.stack(found, 1), size=image.shape[-2:], mode="bilinear", align_corners=False)


def resampled(image: Tensor, field: Tensor, mode: str = "bilinear", border: str = "border") -> Tensor:
    """An image at displaced places: result(p) = image(p + field(p)).

    Args:
        image: (B, C, H, W).
        field: (B, 2, H, W), px, rows and columns.
        mode: ``bilinear`` or ``nearest``.
        border: what lies outside the image: ``border`` repeats it, ``zeros`` is 0.

    Returns:
        (B, C, H, W).
    """
    height, width = image.shape[-2:]
    rows = torch.arange(height, device=field.device, dtype=field.dtype).view(1, -1, 1) + field[:, 0]
    columns = torch.arange(width, device=field.device, dtype=field.dtype).view(1, 1, -1) + field[:, 1]
    places = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], -1)
    return F.grid_sample(image, places, mode=mode, padding_mode=border, align_corners=False)
