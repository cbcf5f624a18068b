"""The U-Net generator of Pix2Pix."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bundle.common.errors import InputError
from bundle.networks.layers import check_positive, initialise, instance_norm, padded, with_error

LEAST_LEVELS, MOST_LEVELS = 5, 8  # of a U-Net: as many as 32 and 256 px can be halved


class UnetDown(nn.Module):
    """Halve the size by a 4×4 convolution of stride 2 (Isola et al. 2017)."""

    def __init__(self, channels_in: int, channels_out: int, norm: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False)]
        if norm:
            layers.append(instance_norm(channels_out))
        layers.append(nn.LeakyReLU(0.2))
        if dropout:
            layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H/2, W/2)."""
        return self.layers(x)


class UnetUp(nn.Module):
    """Double the size by a 4×4 transposed convolution of stride 2, and join what the encoder had there."""

    def __init__(self, channels_in: int, channels_out: int, dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False)]
        layers += [instance_norm(channels_out), nn.ReLU(inplace=True)]
        if dropout:
            layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, C, H, W) and (B, C'', 2H, 2W) → (B, C' + C'', 2H, 2W)."""
        return torch.cat([self.layers(x), skip], dim=1)


class UnetGenerator(nn.Module):
    """The U-Net of Pix2Pix, as in the implementation that Irvine et al. cite (Linder-Norén 2019).

    Differs from Isola et al.: instance norm instead of batch norm, dropout in inner levels of the encoder too,
    and nearest neighbour with a 4×4 convolution at the end. With the defaults it has 54,404,099 parameters.
    Weights start from N(0, 0.02).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        width: channels after the first level; they double up to eight times as many.
        patch_size: side of the training patches, px; decides how often it halves them (:func:`unet_levels`).
        dropout: share of activations dropped in the inner levels, while training.

    Attributes:
        multiple: of the pixels that a side is padded to.
        features: channels at half resolution, before the last layers, which an error map is made of.
        error: makes it of them (:mod:`bundle.networks.error_map`); None makes none.

    Raises:
        InputError: if ``width`` makes no sense, or this U-Net cannot take such patches.
    """

    def __init__(
        self, in_channels: int = 3, out_channels: int = 3, width: int = 64, patch_size: int = 256, dropout: float = 0.5
    ) -> None:
        super().__init__()
        check_positive(width=width)
        levels = unet_levels(patch_size)
        self.multiple = 2**levels
        sizes = [min(2**level, 8) * width for level in range(levels)]
        self.features = 2 * width
        self.error: nn.Module | None = None
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, size in enumerate(sizes):
            before = sizes[level - 1] if level else in_channels
            inner = dropout if level >= 3 else 0.0
            self.down.append(UnetDown(before, size, norm=0 < level < levels - 1, dropout=inner))
        for level in range(levels - 2, -1, -1):
            before = sizes[-1] if level == levels - 2 else 2 * sizes[level + 1]
            self.up.append(UnetUp(before, sizes[level], dropout if level >= 3 else 0.0))
        self.final = nn.Sequential(
            nn.Upsample(scale_factor=2.0, mode="nearest"),
            nn.ZeroPad2d((1, 0, 1, 0)),
            nn.Conv2d(2 * width, out_channels, 4, padding=1),
            nn.Tanh(),
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Translate an image of any size.

        Sides that are not a multiple of 2 to the power of ``levels`` are padded by repeating the last row and
        column, and cut again.

        Args:
            x: (B, in_channels, H, W) in [−1, 1].

        Returns:
            (B, out_channels, H, W) in [−1, 1].
        """
        height, width = x.shape[-2], x.shape[-1]
        x = padded(x, self.multiple)
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        for up, skip in zip(self.up, skips[-2::-1], strict=True):
            x = up(x, skip)
        stain = self.final(x)
        if self.error is not None:
            stain = with_error(stain, self.error(x))
        return stain[..., :height, :width]


def unet_levels(patch_size: int) -> int:
    """How often a U-Net can halve a training patch: 8 times for the paper's 256 px, at least 5.

    Raises:
        InputError: if the patch is not a multiple of 32 px.
    """
    for levels in range(MOST_LEVELS, LEAST_LEVELS - 1, -1):
        if patch_size % 2**levels == 0:
            return levels
    raise InputError(
        f"patch_size is {patch_size}; this U-Net halves a patch at least {LEAST_LEVELS} times, so it takes multiples "
        f"of {2**LEAST_LEVELS}: 32, 64, 96, 128, 160, 192, 224, 256, …"
    )
