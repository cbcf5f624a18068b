"""Pair terms that forgive misregistration: the target is moved to where it fits, and fine structure may lie beside it.

Called as the terms of :mod:`bundle.training.losses` are. Registration is never exact (Irvine et al. §2.3), and a pixel
term punishes a lacuna that lies two pixels off twice: where it is and where it should be. So a network that learns from
it leaves lacunae out.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bundle.common.errors import InputError
from bundle.training.block_matching import displacement, resampled
from bundle.training.losses import masked_l1
from bundle.training.translation import Translation


class RegisteredPixelLoss:
    """E ‖G(x) − y∘φ‖₁: eq. 9 of Irvine et al. against the target moved to where it fits the generated stain.

    φ is found anew in every step by block matching (:func:`bundle.training.block_matching.displacement`) and has no
    gradient. RegGAN (Kong et al. 2021) learns φ by a second network; blocks need no training, and cannot move more than
    ``reach_px``. They are large: an unfinished stain fits its target at many places, and blocks of 32 px are farther
    off in bone than no φ at all (docs/results.md). What was moved in from outside the mask does not count.

    Beside it the darkest and the brightest value around each pixel are compared, E ‖ε(G(x)) − ε(y∘φ)‖₁ and
    E ‖δ(G(x)) − δ(y∘φ)‖₁, ε and δ the grey erosion and dilation by a square of ``extreme_px``: a dark spot of two
    pixels weighs as one of ``extreme_px`` more, and may lie beside its place.

    Args:
        reach_px: the farthest that the target is moved along each axis; 0 does not move it.
        block_px: about the side of a block that moves as one.
        rest: cost of moving by 1 px, mean ℓ1.
        extremes: weight of the extremes, against 1 of the pixels.
        extreme_px: side of the square that they are of, px, odd.

    Raises:
        InputError: if an argument makes no sense.
    """

    needs = ("g_xy",)
    wants_pairs = True

    def __init__(
        self,
        reach_px: int = 6,
        block_px: int = 128,
        rest: float = 0.002,
        extremes: float = 2.0,
        extreme_px: int = 5,
    ) -> None:
        faults = []
        if isinstance(reach_px, bool) or not isinstance(reach_px, int) or reach_px < 0 or reach_px % 2:
            faults.append(f"reach_px is {reach_px!r}; it must be 0 or a whole even number of pixels.")
        if isinstance(block_px, bool) or not isinstance(block_px, int) or block_px < 8:
            faults.append(f"block_px is {block_px!r}; it must be a whole number of at least 8.")
        if isinstance(extreme_px, bool) or not isinstance(extreme_px, int) or extreme_px < 1 or not extreme_px % 2:
            faults.append(f"extreme_px is {extreme_px!r}; it must be a whole odd number of at least 1.")
        for name, value in (("rest", rest), ("extremes", extremes)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                faults.append(f"{name} is {value!r}; it must be a number of at least 0.")
        if faults:
            raise InputError("\n".join(faults))
        self.reach_px, self.block_px, self.rest = reach_px, block_px, rest
        self.extremes, self.extreme_px = extremes, extreme_px

    def __call__(self, translation: Translation) -> Tensor:
        """Scalar."""
        t = translation
        target, mask = t.y, t.mask
        if self.reach_px:
            everywhere = mask if mask is not None else t.y.new_ones(t.y.shape[0], 1, *t.y.shape[2:])
            field = displacement(t.fake_y.detach(), t.y, everywhere, self.reach_px, self.block_px, self.rest)
            target = resampled(t.y, field)
            mask = everywhere * resampled(everywhere, field, "nearest", "zeros")
        loss = masked_l1(t.fake_y, target, mask)
        if not self.extremes:
            return loss
        pairs = (
            (dilated(sign * t.fake_y, self.extreme_px), dilated(sign * target, self.extreme_px)) for sign in (1, -1)
        )
        return loss + self.extremes / 2 * sum(masked_l1(one, other, mask) for one, other in pairs)


def dilated(image: Tensor, size: int) -> Tensor:
    """The greatest value in a square around each pixel, per channel, (B, C, H, W) → the same.

    Along rows, then along columns: a square at once, channels last, takes three times as long on the CPU.
    """
    along_rows = F.max_pool2d(image.contiguous(), (1, size), 1, (0, size // 2))
    return F.max_pool2d(along_rows, (size, 1), 1, (size // 2, 0))
