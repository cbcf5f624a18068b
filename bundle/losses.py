"""The terms of the generators' objective, one class per equation, and their weighted sum.

Every term is called with a :class:`bundle.translation.Translation` and returns a scalar. A term asks the
translation for the images it needs, and those are computed when first asked for; so a term of weight 0,
which is never called, costs no forward pass.

Equation numbers are those of Irvine et al., *Paired CycleGAN-based virtual staining for 3D X-ray
histology of bone-implant systems*. ‖·‖₁ is a mean over pixels and channels, as in the implementation
that the paper cites, so that a weight means the same at every patch size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from monai.losses import SSIMLoss
from torch import Tensor

from bundle import distributed
from bundle.errors import InputError

if TYPE_CHECKING:
    from bundle.translation import Translation


def masked_l1(image: Tensor, other: Tensor, mask: Tensor | None) -> Tensor:
    """Mean absolute difference over the pixels of a mask: Σ m |a − b| / (C Σ m).

    The paper multiplies every ℓ1 term by a binary mask (§2.6.3) and leaves the normalisation open. Here
    the sum is divided by the pixels *inside* the mask, over the whole batch, so that a term's weight against
    the adversarial loss does not fall with the share of the patch that is masked out: with 5 % of the
    pixels in the mask, an error of 1 everywhere gives 1, not 0.05.

    Where processes share a batch (:mod:`bundle.distributed`), it is the mean over them that is this: each divides
    by its part of the pixels inside all their masks, so one with little in its mask counts for little.

    Args:
        image: (B, C, H, W).
        other: (B, C, H, W).
        mask: (B, 1, H, W), 1 where the images may be compared, else 0; None compares everywhere.

    Returns:
        Scalar; 0 if the mask is empty.
    """
    difference = (image - other).abs()
    if mask is None:
        return difference.mean()
    inside = (distributed.summed(mask.sum()) * image.shape[1]).clamp(min=1) / distributed.processes()
    return (difference * mask).sum() / inside


def greyscale_consistency(image: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute difference between the colour channels of generated µCT.

    Irvine et al. eq. 6: |r − g| + |r − b| + |g − b|, averaged over pixels.

    Args:
        image: (B, 3, H, W), generated µCT in [−1, 1].
        mask: (B, 1, H, W), as in :func:`masked_l1`.

    Returns:
        Scalar; 0 when every pixel is grey.

    Raises:
        ValueError: if ``image`` has not exactly 3 channels.
    """
    if image.shape[1] != 3:
        raise ValueError(f"the greyscale loss needs 3 channels, got {image.shape[1]}")
    r, g, b = image.split(1, dim=1)
    return masked_l1(r, g, mask) + masked_l1(r, b, mask) + masked_l1(g, b, mask)


def least_squares(score: Tensor, label: float) -> Tensor:
    """Mean of (score − label)², the ℓ2 adversarial loss of §2.6.1.

    Args:
        score: (B, 1, h, w), a discriminator's output.
        label: 1 for real, 0 for generated.

    Returns:
        Scalar.
    """
    return (score - label).square().mean()


class AdversarialLoss:
    """Eq. 2: E_y (D_X[G_YX(y)] − 1)² + E_x (D_Y[G_XY(x)] − 1)². Never masked, as in the paper."""

    needs = ("d_x", "d_y")

    def __call__(self, translation: Translation) -> Tensor:
        """Scalar."""
        return least_squares(translation.score_x, 1) + least_squares(translation.score_y, 1)


class ForwardAdversarialLoss:
    """Eq. 8: E_x (D[x, G(x)] − 1)², or of G(x) alone where the discriminator sees no source."""

    needs = ("d_y",)

    def __call__(self, translation: Translation) -> Tensor:
        """Scalar."""
        return least_squares(translation.score_y, 1)


class CycleLoss:
    """Eq. 1: E_x ‖G_YX[G_XY(x)] − x‖₁ + E_y ‖G_XY[G_YX(y)] − y‖₁."""

    needs = ("g_xy", "g_yx")

    def __call__(self, translation: Translation) -> Tensor:
        """Scalar."""
        t = translation
        return masked_l1(t.cycled_x, t.x, t.mask) + masked_l1(t.cycled_y, t.y, t.mask)


class IdentityLoss:
    """Eq. 3: E_y ‖G_XY(y) − y‖₁ + E_x ‖G_YX(x) − x‖₁."""

    needs = ("g_xy", "g_yx")
    with_identity = True

    def __call__(self, translation: Translation) -> Tensor:
        """Scalar."""
        t = translation
        return masked_l1(t.identity_y, t.y, t.mask) + masked_l1(t.identity_x, t.x, t.mask)


class PixelLoss:
    """Eq. 5: E ‖G_XY(x) − y‖₁ + E ‖G_YX(y) − x‖₁ over pairs (x, y)."""

    needs = ("g_xy", "g_yx")

    def __call__(self, translation: Translation) -> Tensor:
        """Scalar."""
        t = translation
        return masked_l1(t.fake_y, t.y, t.mask) + masked_l1(t.fake_x, t.x, t.mask)


class ForwardPixelLoss:
    """Eq. 9: E ‖G(x) − y‖₁ over pairs (x, y)."""

    needs = ("g_xy",)

    def __call__(self, translation: Translation) -> Tensor:
        """Scalar."""
        return masked_l1(translation.fake_y, translation.y, translation.mask)


class GreyscaleLoss:
    """Eq. 6 on the generated µCT G_YX(y), see :func:`greyscale_consistency`."""

    needs = ("g_yx",)

    def __call__(self, translation: Translation) -> Tensor:
        """Scalar."""
        return greyscale_consistency(translation.fake_x, translation.mask)


class StructureLoss:
    """Liu et al. §3.2: 2 − SSIM(G_YX[G_XY(x)], x) − SSIM(G_XY[G_YX(y)], y).

    SSIM is MONAI's (Gaussian window of 11 px, σ 1.5) on [−1, 1]. It is no ℓ1 term, so it is not masked.
    """

    needs = ("g_xy", "g_yx")

    def __init__(self) -> None:
        self.ssim = SSIMLoss(spatial_dims=2, data_range=2.0)

    def __call__(self, translation: Translation) -> Tensor:
        """Scalar."""
        t = translation
        return self.ssim(t.cycled_x, t.x) + self.ssim(t.cycled_y, t.y)


class Objective:
    """Weighted sum of named terms, eq. 7 with the default config.

    Args:
        terms: what to compute, by name.
        weights: λ of each term, by the same names.

    Attributes:
        with_identity: a term wants the identity images.

    Raises:
        InputError: if the names differ, a weight is negative or no number, or every weight is 0.
    """

    def __init__(self, terms: Mapping[str, Callable[[Translation], Tensor]], weights: Mapping[str, float]) -> None:
        if set(terms) != set(weights):
            raise InputError(f"objective: the terms are {sorted(terms)} but the weights are for {sorted(weights)}.")
        for name, weight in weights.items():
            if not isinstance(weight, (int, float)) or not 0 <= weight < float("inf"):
                raise InputError(f"lambda_{name} is {weight!r}; a weight is a number of at least 0.")
        if not any(weights.values()):
            raise InputError("every lambda_* is 0, so there is nothing to train; give one of them a weight.")
        self.terms = {name: term for name, term in terms.items() if weights[name]}
        self.weights = {name: float(weights[name]) for name in self.terms}
        self.with_identity = any(getattr(term, "with_identity", False) for term in self.terms.values())

    def __call__(self, translation: Translation) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the terms of non-zero weight.

        Returns:
            The weighted sum, and each term before weighting, detached, by name.
        """
        values = {name: term(translation) for name, term in self.terms.items()}
        total = torch.stack([self.weights[name] * value for name, value in values.items()]).sum()
        return total, {name: value.detach() for name, value in values.items()}
