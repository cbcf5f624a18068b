"""Generators and what they need: plain ``torch.nn``, so that weights export to TorchScript and ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bundle.errors import InputError

INITIAL_STD = 0.02  # Zhu et al. 2017, whose training §2.6 of Irvine et al. follows


def initialise(network: nn.Module) -> nn.Module:
    """Draw every convolution's weights from N(0, 0.02) and set its biases to 0, in place.

    Args:
        network: any module; its ``Conv2d`` and ``ConvTranspose2d`` layers are changed.

    Returns:
        The same module.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, INITIAL_STD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def instance_norm(channels: int) -> nn.GroupNorm:
    """Instance normalisation without learnt scale: one group per channel.

    The same function as ``InstanceNorm2d(channels)``, but it keeps a channels-last layout, which
    ``InstanceNorm2d`` on the CPU copies back and forth.
    """
    return nn.GroupNorm(channels, channels, affine=False)


class ResidualBlock(nn.Module):
    """Two reflection-padded 3×3 convolutions with instance norm, added to their input (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            instance_norm(channels),
            nn.ReLU(inplace=True),
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
    """The ResNet generator of CycleGAN: 7×7 stem, two strided convolutions, residual blocks, and back up.

    Irvine et al. §2.6.3: nine blocks, starting width 64. With the defaults it has 11,378,179 parameters,
    with either way of upsampling. Weights start from N(0, 0.02).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        width: channels after the first layer; the residual blocks have four times as many.
        blocks: number of residual blocks.
        upsampling: ``nearest`` (nearest neighbour, then a 3×3 convolution, as in the implementation that
            the paper cites) or ``transposed`` (transposed convolutions, as in Zhu et al. 2017).

    Raises:
        InputError: if ``width`` or ``blocks`` is not a positive integer, or ``upsampling`` is unknown.
    """

    def __init__(
        self, in_channels: int = 3, out_channels: int = 3, width: int = 64, blocks: int = 9, upsampling: str = "nearest"
    ) -> None:
        super().__init__()
        for name, value in (("width", width), ("blocks", blocks)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"{name} is {value!r}; it must be a whole number of at least 1.")
        if upsampling not in UPSAMPLING:
            raise InputError(f"upsampling is {upsampling!r}; it must be one of {', '.join(UPSAMPLING)}.")
        up = UPSAMPLING[upsampling]
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(in_channels, width, 7)]
        layers += [instance_norm(width), nn.ReLU(inplace=True)]
        for channels in (width, 2 * width):
            layers += [nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)]
            layers += [instance_norm(2 * channels), nn.ReLU(inplace=True)]
        layers += [ResidualBlock(4 * width) for _ in range(blocks)]
        for channels in (4 * width, 2 * width):
            layers += [*up(channels, channels // 2), instance_norm(channels // 2), nn.ReLU(inplace=True)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, out_channels, 7), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Translate an image of any size from 8×8 px.

        Sizes that are not a multiple of 4 are padded by repeating the last row and column, and cut again.

        Args:
            x: (B, in_channels, H, W) in [−1, 1].

        Returns:
            (B, out_channels, H, W) in [−1, 1].
        """
        height, width = x.shape[-2], x.shape[-1]
        x = F.pad(x, [0, -width % 4, 0, -height % 4], mode="replicate")
        return self.layers(x)[..., :height, :width]


def score(discriminator: nn.Module, image: Tensor) -> Tensor:
    """A discriminator's map of scores for an image.

    MONAI's ``PatchDiscriminator`` returns the features of every layer, the scores last; others return
    the scores alone.

    Args:
        discriminator: the network.
        image: (B, C, H, W) in [−1, 1].

    Returns:
        (B, 1, h, w), unbounded; 1 stands for real and 0 for generated.
    """
    output: Tensor | Sequence[Tensor] = discriminator(image)
    return output if isinstance(output, torch.Tensor) else output[-1]
