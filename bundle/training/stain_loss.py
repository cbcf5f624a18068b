"""Which channel is to carry which stain: a term that tells a generator pair what the discriminators may leave open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from skimage.color import hed_from_rgb
from torch import Tensor
from torch.nn import functional

from bundle.images.stain_vectors import DARKEST, STAINS

if TYPE_CHECKING:
    from bundle.data.datalist import Datalist
    from bundle.training.translation import Translation

POOLED_PX = 4  # colour deconvolution is noisy pixel by pixel; ours
EVEN = 1e-4  # squared deviation below which an image says nothing; ours


def densities(rgb: Tensor) -> Tensor:
    """Optical density of hematoxylin, eosin and DAB, as :func:`bundle.images.stain_vectors.densities`, differentiable.

    Args:
        rgb: (B, 3, H, W) in [−1, 1], brightfield.

    Returns:
        (B, 3, H, W), float32.
    """
    absorbed = -torch.log10(((rgb.float() + 1) / 2).clamp(min=DARKEST / 255))
    vectors = torch.as_tensor(hed_from_rgb, dtype=absorbed.dtype, device=rgb.device)
    return torch.einsum("bchw,cs->bshw", absorbed, vectors)


def correlation(image: Tensor, other: Tensor) -> Tensor:
    """Pearson's correlation over the pixels of each image, at a quarter of the resolution: (B, C, H, W) → (B, C)."""
    pooled = [functional.avg_pool2d(one.float(), POOLED_PX).flatten(2) for one in (image, other)]
    first, second = (one - one.mean(-1, keepdim=True) for one in pooled)
    spread = (first.square().mean(-1) + EVEN) * (second.square().mean(-1) + EVEN)
    return (first * second).mean(-1) / spread.sqrt()


class StainLoss:
    """How little each channel of the fluorescence follows the stain that it is to carry; ours, no paper's.

    Σ over carriers of (1 − r(G_XY(x)_channel, stain in x)) + (1 − r(y_channel, stain in G_YX(y))), over their number: 0
    to 4. Cycle and adversarial losses are nearly as low with two channels exchanged, or with light and dark swapped,
    and which of these a run settles on is chance; this term decides it. It asks for linear dependence, which is more
    than is known, so its weight should be small.

    Args:
        carriers: the stain (``hematoxylin``, ``eosin``, ``DAB``) of each channel that has one, by the channel's name.
        data: names the channels of its target.
        inverted: the source is inverted in training.
    """

    needs = ("g_xy", "g_yx")

    def __init__(self, carriers: Mapping[str, str], data: Datalist, inverted: bool = False) -> None:
        self.carriers = carriers
        self.names = list(data.target.channel_names)
        self.inverted = inverted

    def faults(self, data: Datalist) -> Iterator[str]:
        """What stands against computing it on these data, a line each."""
        source, target = data.source, data.target
        if not source.is_brightfield or target.is_brightfield:
            yield f"it goes from a brightfield source to fluorescence, and here are {source} and {target}; set it to 0."
        elif not self.names:
            yield f"the datalist names no channels of {target.name}; give it channel_names."
        elif not isinstance(self.carriers, Mapping) or not self.carriers:
            example = f"{{{self.names[0]}: {STAINS[0]}}}"
            yield f"carriers is {self.carriers!r}; give channels their stains, --carriers '{example}'."
        else:
            for name, stain in self.carriers.items():
                if name not in self.names or stain not in STAINS:
                    yield (
                        f"carriers has {name!r}: {stain!r}; the channels are {', '.join(self.names)}, the stains "
                        f"{', '.join(STAINS)}: pass --carriers '{{CHANNEL: STAIN}}'."
                    )

    def __call__(self, translation: Translation) -> Tensor:
        """Scalar."""
        t, sign = translation, -1 if self.inverted else 1
        channels = [self.names.index(name) for name in self.carriers]
        stains = [STAINS.index(stain) for stain in self.carriers.values()]
        pairs = ((t.fake_y, t.x), (t.y, t.fake_x))
        found = [correlation(light[:, channels], densities(sign * rgb)[:, stains]) for light, rgb in pairs]
        return sum((1 - one).mean() for one in found)  # type: ignore[return-value]
