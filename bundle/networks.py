"""Generators and what they need: plain ``torch.nn``, so that weights export to TorchScript and ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bundle.errors import InputError

LEAST_LEVELS, MOST_LEVELS = 5, 8  # of a U-Net: as many as 32 and 256 px can be halved
INITIAL_STD = 0.02  # Zhu et al. 2017, whose training §2.6 of Irvine et al. follows


def _normal(weight: Tensor) -> None:
    nn.init.normal_(weight, 0.0, INITIAL_STD)


INITIALISATIONS: dict[str, Callable[[Tensor], object]] = {"normal": _normal, "xavier": nn.init.xavier_uniform_}


def initialise(network: nn.Module, initialisation: str = "normal") -> nn.Module:
    """Draw every convolution's weights and set its biases to 0, in place.

    Args:
        network: any module; its ``Conv2d`` and ``ConvTranspose2d`` layers are changed.
        initialisation: ``normal``, N(0, 0.02) as Zhu et al. 2017, or ``xavier``, uniform with the variance
            2 / (fan in + fan out) of Glorot and Bengio 2010.

    Returns:
        The same module.

    Raises:
        InputError: if ``initialisation`` is unknown.
    """
    if initialisation not in INITIALISATIONS:
        raise InputError(f"initialisation is {initialisation!r}; it must be one of {', '.join(INITIALISATIONS)}.")
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            INITIALISATIONS[initialisation](module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def instance_norm(channels: int) -> nn.GroupNorm:
    """Instance normalisation without learnt scale: one group per channel.

    The same function as ``InstanceNorm2d(channels)``, but it keeps a channels-last layout, which
    ``InstanceNorm2d`` on the CPU copies back and forth.
    """
    return nn.GroupNorm(channels, channels, affine=False)


def _check_positive(**numbers: int) -> None:
    for name, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{name} is {value!r}; it must be a whole number of at least 1.")


def activation(slope: float) -> nn.Module:
    """ReLU, or LeakyReLU where what is negative keeps a slope."""
    return nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)


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
        _check_positive(in_channels=in_channels, out_channels=out_channels)
        _check_positive(width=width, blocks=blocks, halvings=halvings)
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
        for level in range(halvings, 0, -1):
            before = sizes[level] * (1 if level == halvings else joined)
            layers += [*up(before, sizes[level - 1]), instance_norm(sizes[level - 1]), activation(slope)]
            joins.append(len(layers))
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(joined * width, out_channels, 7), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.skips, self.kept, self.joins = skips, kept, joins
        self.multiple = 2**halvings
        initialise(self, initialisation)

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
        x = F.pad(x, [0, -width % self.multiple, 0, -height % self.multiple], mode="replicate")
        if not self.skips:
            return self.layers(x)[..., :height, :width]
        encoded: list[Tensor] = []
        for place, layer in enumerate(self.layers):
            if place in self.joins:
                x = torch.cat([x, encoded.pop()], dim=1)
            x = layer(x)
            if place in self.kept:
                encoded.append(x)
        return x[..., :height, :width]


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

    Raises:
        InputError: if ``width`` makes no sense, or this U-Net cannot take such patches.
    """

    def __init__(
        self, in_channels: int = 3, out_channels: int = 3, width: int = 64, patch_size: int = 256, dropout: float = 0.5
    ) -> None:
        super().__init__()
        _check_positive(width=width)
        levels = unet_levels(patch_size)
        self.multiple = 2**levels
        sizes = [min(2**level, 8) * width for level in range(levels)]
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
        x = F.pad(x, [0, -width % self.multiple, 0, -height % self.multiple], mode="replicate")
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        for up, skip in zip(self.up, skips[-2::-1], strict=True):
            x = up(x, skip)
        return self.final(x)[..., :height, :width]


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
