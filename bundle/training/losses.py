"""The terms of the generators' objective, one class per equation, and their weighted sum.

Every term is called with a :class:`bundle.training.translation.Translation` and returns a scalar. A term asks the
translation for the images it needs, and those are computed when first asked for; so a term of weight 0,
which is never called, costs no forward pass.

Equation numbers are those of Irvine et al., *Paired CycleGAN-based virtual staining for 3D X-ray
histology of bone-implant systems*. ‖·‖₁ is a mean over pixels and channels, as in the implementation
that the paper cites, so that a weight means the same at every patch size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from monai.losses import SSIMLoss
from torch import Tensor
from torch.nn import functional

from bundle.common import processes
from bundle.common.errors import InputError

if TYPE_CHECKING:
    from bundle.data.datalist import Datalist
    from bundle.training.translation import Translation


def masked_l1(image: Tensor, other: Tensor, mask: Tensor | None) -> Tensor:
    """Mean absolute difference over the pixels of a mask: Σ m |a − b| / (C Σ m).

    The paper multiplies every ℓ1 term by a binary mask (§2.6.3) and leaves the normalisation open. Here
    the sum is divided by the pixels *inside* the mask, over the whole batch, so that a term's weight against
    the adversarial loss does not fall with the share of the patch that is masked out: with 5 % of the
    pixels in the mask, an error of 1 everywhere gives 1, not 0.05.

    Where processes share a batch (:mod:`bundle.common.processes`), it is the mean over them that is this: each divides
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
    inside = (processes.summed(mask.sum()) * image.shape[1]).clamp(min=1) / processes.processes()
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


class LeastSquares:
    """The ℓ2 adversarial loss of Irvine et al. §2.6.1 (Mao et al. 2017): scores of 1 are real, of 0 generated."""

    def generator(self, score: Tensor) -> Tensor:
        """Mean of (D(generated) − 1)².

        Args:
            score: (B, 1, h, w), a discriminator's output.

        Returns:
            Scalar.
        """
        return least_squares(score, 1)

    def discriminator(self, real: Tensor, generated: Tensor) -> Tensor:
        """½ [(D(real) − 1)² + D(generated)²], a mean each; scalar."""
        return (least_squares(real, 1) + least_squares(generated, 0)) / 2


class Logarithmic:
    """The logarithmic adversarial loss of Liu et al. §3.2: E log D(real) + E log(1 − D(generated)).

    The discriminator maximises it, so it learns on half its negative; D is the sigmoid of its output. The generator
    minimises −log D(generated), which has the same fixed point and a gradient where the discriminator is sure of
    itself (Goodfellow et al. 2014 §3).

    Args:
        saturating: the generator minimises log(1 − D(generated)) instead, as the equation is printed.
    """

    def __init__(self, saturating: bool = False) -> None:
        self.saturating = saturating

    def generator(self, score: Tensor) -> Tensor:
        """The generator's part of the loss.

        Args:
            score: (B, 1, h, w), a discriminator's output before the sigmoid.

        Returns:
            Scalar; at most 0 if ``saturating``, else at least 0.
        """
        return -functional.softplus(score).mean() if self.saturating else functional.softplus(-score).mean()

    def discriminator(self, real: Tensor, generated: Tensor) -> Tensor:
        """−½ [log D(real) + log(1 − D(generated))], a mean each; scalar."""
        return (functional.softplus(-real).mean() + functional.softplus(generated).mean()) / 2


class AdversarialLoss:
    """Eq. 2: E_y (D_X[G_YX(y)] − 1)² + E_x (D_Y[G_XY(x)] − 1)². Never masked, as in the paper.

    Args:
        criterion: what generators and discriminators make of scores; None takes :class:`LeastSquares`, as eq. 2.
    """

    needs: tuple[str, ...] = ("d_x", "d_y")

    def __init__(self, criterion: LeastSquares | Logarithmic | None = None) -> None:
        self.criterion = criterion or LeastSquares()

    def __call__(self, translation: Translation) -> Tensor:
        """Scalar."""
        return self.criterion.generator(translation.score_x) + self.criterion.generator(translation.score_y)


class ForwardAdversarialLoss(AdversarialLoss):
    """Eq. 8: E_x (D[x, G(x)] − 1)², or of G(x) alone where the discriminator sees no source."""

    needs = ("d_y",)

    def __call__(self, translation: Translation) -> Tensor:
        """Scalar."""
        return self.criterion.generator(translation.score_y)


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
    wants_equal_channels = True

    def __call__(self, translation: Translation) -> Tensor:
        """Scalar."""
        t = translation
        return masked_l1(t.identity_y, t.y, t.mask) + masked_l1(t.identity_x, t.x, t.mask)


class PixelLoss:
    """Eq. 5: E ‖G_XY(x) − y‖₁ + E ‖G_YX(y) − x‖₁ over pairs (x, y)."""

    needs = ("g_xy", "g_yx")
    wants_pairs = True

    def __call__(self, translation: Translation) -> Tensor:
        """Scalar."""
        t = translation
        return masked_l1(t.fake_y, t.y, t.mask) + masked_l1(t.fake_x, t.x, t.mask)


class ForwardPixelLoss:
    """Eq. 9: E ‖G(x) − y‖₁ over pairs (x, y)."""

    needs = ("g_xy",)
    wants_pairs = True

    def __call__(self, translation: Translation) -> Tensor:
        """Scalar."""
        return masked_l1(translation.fake_y, translation.y, translation.mask)


class GreyscaleLoss:
    """Eq. 6 on the generated µCT G_YX(y), see :func:`greyscale_consistency`."""

    needs = ("g_yx",)
    wants_grey_source = True

    def __call__(self, translation: Translation) -> Tensor:
        """Scalar."""
        return greyscale_consistency(translation.fake_x, translation.mask)


class StructureLoss:
    """Liu et al. §3.2: 2 − SSIM(G_YX[G_XY(x)], x) − SSIM(G_XY[G_YX(y)], y).

    SSIM is MONAI's (Gaussian window of 11 px, σ 1.5; c₁ = 0.01², c₂ = 0.03²) on images mapped to [0, 1], as an
    evaluation has them: on [−1, 1] the means of its first factor change sign at mid-grey. It is no ℓ1 term, so it is
    not masked.
    """

    needs = ("g_xy", "g_yx")

    def __init__(self) -> None:
        self.ssim = SSIMLoss(spatial_dims=2, data_range=1.0)

    def __call__(self, translation: Translation) -> Tensor:
        """Scalar."""
        t = translation
        pairs = ((t.cycled_x, t.x), (t.cycled_y, t.y))
        losses = [self.ssim(*((image + 1) / 2 for image in pair)) for pair in pairs]
        return losses[0] + losses[1]


class Objective:
    """Weighted sum of named terms, eq. 7 with the default config.

    Args:
        terms: what to compute, by name.
        weights: λ of each term, by the same names.
        data: what it will be computed on; None leaves that unchecked.

    Attributes:
        with_identity: a term wants the identity images.
        criterion: by which discriminators learn: the adversarial term's.

    Raises:
        InputError: if the names differ, a weight is negative or no number, or every weight is 0, or if a term of
            non-zero weight makes no sense on the data.
    """

    def __init__(
        self,
        terms: Mapping[str, Callable[[Translation], Tensor]],
        weights: Mapping[str, float],
        data: Datalist | None = None,
    ) -> None:
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
        self.criterion = getattr(terms.get("adv"), "criterion", None) or LeastSquares()
        faults = [] if data is None else [fault for name in self.terms for fault in self._faults(name, data)]
        if faults:
            raise InputError("\n".join(faults))

    def _faults(self, name: str, data: Datalist) -> Iterator[str]:
        """What a term wants that the data have not, a line each."""
        source, target = data.source, data.target
        begin, term = f"lambda_{name} is {self.weights[name]:g}, but", self.terms[name]
        if getattr(term, "wants_pairs", False) and not data.paired:
            yield f"{begin} the images are not paired here (paired is false); set it to 0."
        unequal = f"{begin} {source.name} has {source.channels} channel(s) and {target.name} {target.channels}"
        if getattr(term, "wants_equal_channels", False) and source.shown_channels != target.channels:
            yield f"{unequal}, so a generator cannot take what it makes; set it to 0."
        grey = source.channels == 1 or (data.paired and source.channels == target.channels)  # grey may be kept as RGB
        if getattr(term, "wants_grey_source", False) and not grey:
            yield f"{unequal}, so {source.name} need not be grey; set it to 0."
        if hasattr(term, "faults"):
            yield from (f"{begin} {fault}" for fault in term.faults(data))

    def __call__(self, translation: Translation) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the terms of non-zero weight; :class:`bundle.training.learning_rate.BeginsLater` may hold one at 0.

        Returns:
            The weighted sum, and each term before weighting, detached, by name.
        """
        values = {name: term(translation) for name, term in self.terms.items() if self.weights[name]}
        total = torch.stack([self.weights[name] * value for name, value in values.items()]).sum()
        return total, {name: value.detach() for name, value in values.items()}
