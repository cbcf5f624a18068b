"""A generator whose stain of a pixel depends on the source in a field around it, and on nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bundle.common.errors import InputError
from bundle.networks.layers import check_positive, padded, with_error

FIRST_SHARE = 0.2  # of a block's output at the start, so that a deep network begins near the identity
LAST_SHARE = 0.1  # of the last layer's, so that tanh begins where it is steep


class ChannelNorm(nn.Module):
    """Normalises the channels of each pixel to mean 0 and variance 1, then scales and shifts them (Ba et al. 2016).

    No pixel sees another, so a window's result does not depend on what else is in the window.

    Args:
        channels: of the image.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def convolution(before: int, after: int, size: int = 3, stride: int = 1, share: float = 1.0) -> nn.Conv2d:
    """A convolution with weights after He et al. (2015), times ``share``; one of stride 2 takes squares of pixels."""
    layer = nn.Conv2d(before, after, size, stride, padding=0 if stride > 1 else size // 2)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    layer.weight.data.mul_(share)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def spreading(before: int, after: int) -> nn.Conv2d:
    """A 3×3 convolution before a pixel shuffle, whose four pixels of a square begin alike (Aitken et al. 2017)."""
    layer = convolution(before, 4 * after)
    layer.weight.data.copy_(layer.weight.data[::4].repeat_interleave(4, 0))
    return layer


class Smoothing(nn.Module):
    """Weights 1, 2, 1 along rows and columns: nothing of a period of 2 px is left (Sugawara et al. 2018)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same."""
        return F.avg_pool2d(F.avg_pool2d(F.pad(x, [1, 1, 1, 1], mode="replicate"), 2, 1), 2, 1)


class FieldBlock(nn.Module):
    """Channel norm, a 3×3 convolution, ReLU and another, added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ChannelNorm(channels),
            convolution(channels, channels),
            nn.ReLU(),  # in place it would undo what the twins of training return
            convolution(channels, channels, share=FIRST_SHARE),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        return x + self.body(x)


class FieldGenerator(nn.Module):
    """A U-Net of residual blocks whose stain of a pixel depends on a field of the source alone.

    It has no statistics of the window: where others have instance norm it has :class:`ChannelNorm`. The first layer
    takes squares of 2×2 px as one (Shi et al. 2016), so nearly all work is done at half resolution. What comes back
    from there is smoothed, or it would show a grid; the last layers, at full resolution, see the source once more.
    Coarser levels halve on a grid that begins at the image's first pixel: an image that is cut at multiples of
    ``multiple`` px, with ``halo`` px more of it on every side, gives the pixels of the whole.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        width: channels at full resolution; twice as many at half, four times at a quarter, and so on.
        levels: resolutions below full.
        middle: blocks at the lowest resolution; each other has one on the way down and one on the way up.
        statistics: mean and standard deviation of the source's pixels, in [−1, 1]; the first layer sees
            (x − mean) / deviation.

    Attributes:
        multiple: of the pixels that windows must begin at.
        halo: px beyond which the source does not matter to a pixel, rounded up to ``multiple``.
        features: channels of what the last block at half resolution gives, which an error map is made of.
        error: makes it of them (:mod:`bundle.networks.error_map`); None makes none.

    Raises:
        InputError: if a number of channels, levels or blocks is no positive integer, or the deviation not above 0.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        width: int = 64,
        levels: int = 4,
        middle: int = 2,
        statistics: Sequence[float] = (0.0, 1.0),
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, out_channels=out_channels)
        check_positive(width=width, levels=levels, middle=middle)
        self.in_channels = in_channels
        self.mean, self.deviation = (float(value) for value in statistics)
        if not self.deviation > 0:
            raise InputError(f"statistics are {statistics!r}; the second, the deviation, must be above 0.")
        sizes = [width * 2 * (level + 1) for level in range(levels)]
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), convolution(4 * in_channels, sizes[0]))
        self.down = nn.ModuleList(FieldBlock(size) for size in sizes[:-1])
        self.halve = nn.ModuleList(
            convolution(before, after, 2, stride=2) for before, after in zip(sizes, sizes[1:], strict=False)
        )
        self.middle = nn.Sequential(*(FieldBlock(sizes[-1]) for _ in range(middle)))
        self.lift = nn.ModuleList(
            nn.Sequential(convolution(after, before, 1), nn.Upsample(scale_factor=2.0, mode="nearest"))
            for before, after in zip(sizes[-2::-1], sizes[:0:-1], strict=True)
        )
        self.up = nn.ModuleList(FieldBlock(size) for size in sizes[-2::-1])
        self.spread = nn.Sequential(ChannelNorm(sizes[0]), spreading(sizes[0], width), nn.PixelShuffle(2), Smoothing())
        self.detail = convolution(in_channels, width)
        self.last = nn.Sequential(
            nn.ReLU(),
            convolution(width, width),
            nn.ReLU(),
            convolution(width, out_channels, share=LAST_SHARE),
            nn.Tanh(),
        )
        self.multiple = 2**levels
        self.halo = self._halo(levels, middle)
        self.features = sizes[0]
        self.error: nn.Module | None = None

    def _halo(self, levels: int, middle: int) -> int:
        """px: how far the first pixel of a window that begins at a multiple looks back, layer by layer."""
        reach = 2 + 1  # what sees 3 px, a smoothing and two convolutions, in squares of 2×2 px; the one of squares
        for _ in range(levels - 1):
            reach = (reach + 2 + 1) // 2  # a block of two convolutions on the way up, and squares of the next
        reach += 2 * middle
        for _ in range(levels - 1):
            reach = 2 * reach + 2  # the squares that are halved, and a block on the way down
        reach = 2 * (reach + 1)  # the first convolution, of squares
        return math.ceil(reach / self.multiple) * self.multiple

    def forward(self, x: Tensor) -> Tensor:
        """Translate an image of any size.

        Sides that are not a multiple of ``multiple`` are padded by repeating the last row and column, and cut again.

        Args:
            x: (B, in_channels, H, W) in [−1, 1].

        Returns:
            (B, out_channels, H, W) in [−1, 1].
        """
        height, width = x.shape[-2], x.shape[-1]
        x = padded(x, self.multiple)
        x = (x - self.mean) / self.deviation
        y = self.stem(x)
        kept: list[Tensor] = []
        for block, halve in zip(self.down, self.halve):  # noqa: B905 - TorchScript knows no ``strict``
            y = block(y)
            kept.append(y)
            y = halve(y)
        y = self.middle(y)
        for lift, block in zip(self.lift, self.up):  # noqa: B905
            y = block(lift(y) + kept.pop())
        stain = self.last(self.spread(y) + self.detail(x))
        if self.error is not None:
            stain = with_error(stain, self.error(y))
        return stain[..., :height, :width]
