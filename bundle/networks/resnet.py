"""The ResNet generator of CycleGAN: plain ``torch.nn``, so that weights export to TorchScript and ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bundle.common.errors import InputError
from bundle.networks.layers import activation, check_positive, initialise, instance_norm, padded, with_error


class ResidualBlock(nn.Module):
    """Two reflection-padded 3×3 convolutions with instance norm, added to their input (He et al. 2016)."""

    def __init__(self, channels: int, slope: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            instance_norm(channels),
            activation(slope),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            instance_norm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        return x + self.body(x)


def upsample_nearest(channels_in: int, channels_out: int) -> list[nn.Module]:
    """Double the size by nearest neighbour, then convolve 3×3: no checkerboard (Linder-Norén 2019)."""
    return [nn.Upsample(scale_factor=2.0, mode="nearest"), nn.Conv2d(channels_in, channels_out, 3, padding=1)]


def upsample_transposed(channels_in: int, channels_out: int) -> list[nn.Module]:
    """Double the size by a 3×3 transposed convolution of stride 2 (Zhu et al. 2017)."""
    return [nn.ConvTranspose2d(channels_in, channels_out, 3, stride=2, padding=1, output_padding=1)]


UPSAMPLING: dict[str, Callable[[int, int], list[nn.Module]]] = {
    "nearest": upsample_nearest,
    "transposed": upsample_transposed,
}


class ResnetGenerator(nn.Module):
    """The ResNet generator of CycleGAN: 7×7 stem, strided convolutions, residual blocks, and back up.

    Irvine et al. §2.6.3: nine blocks, starting width 64, and two halvings. With the defaults it has 11,378,179
    parameters, with either way of upsampling. Liu et al. §3.1: ten blocks, three halvings, LeakyReLU, Xavier
    initialisation, and skip connections that join what the encoder had at each resolution to what the decoder has
    there. They give neither widths nor the slope; channels double at each halving here too.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        width: channels after the first layer; they double at each halving.
        blocks: number of residual blocks.
        upsampling: ``nearest`` (nearest neighbour, then a 3×3 convolution, as in the implementation that
            the paper cites) or ``transposed`` (transposed convolutions, as in Zhu et al. 2017 and Liu et al.).
        halvings: strided convolutions, and as many layers back up.
        skips: join encoder and decoder at each resolution but the lowest, by concatenation (Ronneberger et al. 2015).
        slope: of the activations where they are negative; 0 is ReLU.
        initialisation: of the weights, see :func:`initialise`.

    Attributes:
        multiple: of the pixels that windows must begin at, if they are to be parts of one image.
        reach: px beyond which the source does not matter to a pixel but by the statistics of instance norm, rounded up
            to ``multiple``.
        features: channels of what the last residual block gives, which an error map is made of.
        error: makes it of them (:mod:`bundle.networks.error_map`); None makes none.

    Raises:
        InputError: if ``width``, ``blocks`` or ``halvings`` is not a positive integer, ``slope`` not from 0 to 1, or
            ``upsampling`` or ``initialisation`` unknown.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        width: int = 64,
        blocks: int = 9,
        upsampling: str = "nearest",
        halvings: int = 2,
        skips: bool = False,
        slope: float = 0.0,
        initialisation: str = "normal",
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, out_channels=out_channels)
        check_positive(width=width, blocks=blocks, halvings=halvings)
        if upsampling not in UPSAMPLING:
            raise InputError(f"upsampling is {upsampling!r}; it must be one of {', '.join(UPSAMPLING)}.")
        if not 0 <= slope < 1:
            raise InputError(f"slope is {slope!r}; it must be at least 0 and less than 1.")
        up = UPSAMPLING[upsampling]
        sizes = [width * 2**level for level in range(halvings + 1)]
        joined = 2 if skips else 1
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(in_channels, width, 7)]
        layers += [instance_norm(width), activation(slope)]
        kept, joins = [], []  # after which layers the image is kept for the decoder, and before which it is joined
        for before, after in zip(sizes, sizes[1:], strict=False):
            kept.append(len(layers) - 1)
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), instance_norm(after), activation(slope)]
        layers += [ResidualBlock(sizes[-1], slope) for _ in range(blocks)]
        self.seen, self.features = len(layers) - 1, sizes[-1]
        self.error: nn.Module | None = None
        for level in range(halvings, 0, -1):
            before = sizes[level] * (1 if level == halvings else joined)
            layers += [*up(before, sizes[level - 1]), instance_norm(sizes[level - 1]), activation(slope)]
            joins.append(len(layers))
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(joined * width, out_channels, 7), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.skips, self.kept, self.joins = skips, kept, joins
        self.multiple = 2**halvings
        self.reach = self._reach(halvings, blocks)
        initialise(self, initialisation)

    def _reach(self, halvings: int, blocks: int) -> int:
        """px: how far a pixel looks, layer by layer, at the resolution that each has."""
        reach = 3 + 3 + 2 * blocks * self.multiple  # the first layer and the last, and the blocks
        for level in range(halvings):
            reach += 2**level + 2 ** (level + 1)  # a halving; a doubling, which begins in squares of pixels
            reach += 2**level  # and the convolution after it
        return math.ceil(reach / self.multiple) * self.multiple

    def forward(self, x: Tensor) -> Tensor:
        """Translate an image of any size from 2 · 2 to the power of ``halvings`` px a side.

        Sizes that are not a multiple of 2 to the power of ``halvings`` are padded by repeating the last row and
        column, and cut again.

        Args:
            x: (B, in_channels, H, W) in [−1, 1].

        Returns:
            (B, out_channels, H, W) in [−1, 1].
        """
        height, width = x.shape[-2], x.shape[-1]
        x = padded(x, self.multiple)
        features = x
        encoded: list[Tensor] = []
        for place, layer in enumerate(self.layers):
            if self.skips and place in self.joins:
                x = torch.cat([x, encoded.pop()], dim=1)
            x = layer(x)
            if self.skips and place in self.kept:
                encoded.append(x)
            if place == self.seen:
                features = x
        if self.error is not None:
            x = with_error(x, self.error(features))
        return x[..., :height, :width]
