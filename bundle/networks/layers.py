"""What the generators and discriminators have in common: weights' initialisation, norms, activations, scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bundle.common.errors import InputError

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


def is_instance_norm(layer: nn.Module) -> bool:
    """Whether a layer normalises each channel of each image, without a learnt scale or a memory."""
    if isinstance(layer, nn.GroupNorm):
        return layer.num_groups == layer.num_channels and not layer.affine
    return isinstance(layer, nn.InstanceNorm2d) and not layer.affine and not layer.track_running_stats


def check_positive(**numbers: int) -> None:
    """See that arguments are whole numbers of at least 1.

    Raises:
        InputError: if one is not.
    """
    for name, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{name} is {value!r}; it must be a whole number of at least 1.")


def padded(x: Tensor, multiple: int) -> Tensor:
    """An image whose sides are multiples of a number of pixels: the last row and column are repeated.

    Args:
        x: (B, C, H, W).
        multiple: px.

    Returns:
        (B, C, H′, W′), H′ ≥ H and W′ ≥ W.
    """
    return F.pad(x, [0, -x.shape[-1] % multiple, 0, -x.shape[-2] % multiple], mode="replicate")


def with_error(stain: Tensor, error: Tensor) -> Tensor:
    """A stain with the error that is expected of it as one more channel.

    Args:
        stain: (B, C, H, W).
        error: (B, 1, h, w), of squares of pixels.

    Returns:
        (B, C + 1, H, W).
    """
    return torch.cat([stain, F.interpolate(error, size=[stain.shape[2], stain.shape[3]], mode="nearest")], 1)


def activation(slope: float) -> nn.Module:
    """ReLU, or LeakyReLU where what is negative keeps a slope."""
    return nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)


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
