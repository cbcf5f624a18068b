"""What a StarDist network is trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

NO_NUCLEUS = 1e-7  # keeps a batch without any nucleus from dividing by 0


def in_px(output: Tensor, unit_px: float) -> tuple[Tensor, Tensor]:
    """Split what a network gives into the logit and distances: softplus(output) · ``unit_px``.

    Not as in ``stardist.models``, whose network gives px as they are: it takes Adam thousands of steps to make outputs
    of some 10 from weights that begin near 0, which a small training does not have, and some of them are negative.

    Args:
        output: (B, 1 + rays, h, w).
        unit_px: px of the image for an output of 1, nearly: about the radius of a nucleus.

    Returns:
        (B, 1, h, w), before the sigmoid, and (B, rays, h, w), px, above 0.
    """
    return output[:, :1], F.softplus(output[:, 1:]) * unit_px


def object_loss(logit: Tensor, probability: Tensor) -> Tensor:
    """Binary cross-entropy of the object probability, averaged over pixels (Schmidt et al. 2018, §2).

    Args:
        logit: (B, 1, h, w), before the sigmoid.
        probability: (B, 1, h, w) in [0, 1].

    Returns:
        Scalar; its least value is the entropy of ``probability``, not 0.
    """
    return F.binary_cross_entropy_with_logits(logit, probability)


def distance_loss(predicted: Tensor, distances: Tensor, probability: Tensor) -> Tensor:
    """Mean absolute error of the distances, weighted by the object probability (Schmidt et al. 2018, §2).

    Σ p · mean_k |d_k − d̂_k| / Σ p, over the pixels of the batch: divided by the weights as in ``stardist.models``
    (``norm_by_mask``), so that it is in px whatever share of the image nuclei cover.

    Args:
        predicted: (B, rays, h, w), px.
        distances: (B, rays, h, w), px.
        probability: (B, 1, h, w) in [0, 1].

    Returns:
        Scalar, px; 0 where the batch has no nucleus.
    """
    error = (predicted - distances).abs().mean(1, keepdim=True)
    return (probability * error).sum() / (probability.sum() + NO_NUCLEUS)


def background_loss(predicted: Tensor, probability: Tensor) -> Tensor:
    """Mean predicted distance weighted by 1 − p: keeps background from predicting anything (``train_background_reg``).

    Not in the paper; ``stardist.models`` adds it.

    Args:
        predicted: (B, rays, h, w), px.
        probability: (B, 1, h, w) in [0, 1].

    Returns:
        Scalar, px.
    """
    return ((1 - probability) * predicted.abs().mean(1, keepdim=True)).mean()


class StarLoss(nn.Module):
    """Object loss + ``lambda_distance`` · (distance loss + ``lambda_background`` · background loss).

    Args:
        lambda_distance: 0.2 in ``stardist.models`` (``train_loss_weights``); Schmidt et al. weigh both terms alike.
        lambda_background: 1e-4 there.
        unit_px: see :func:`in_px`.

    Attributes:
        terms: names of the terms.
    """

    terms = ("object", "distance", "background")

    def __init__(self, lambda_distance: float = 0.2, lambda_background: float = 1e-4, unit_px: float = 10.0) -> None:
        super().__init__()
        self.lambda_distance = lambda_distance
        self.lambda_background = lambda_background
        self.unit_px = unit_px

    def forward(self, output: Tensor, probability: Tensor, distances: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each term before weighting.

        Args:
            output: (B, 1 + rays, h, w), the network's: the logit first.
            probability: (B, 1, h, w) in [0, 1].
            distances: (B, rays, h, w), px.

        Raises:
            ValueError: if the network's output is of another shape than the targets.
        """
        if output.shape[1] != 1 + distances.shape[1] or output.shape[2:] != distances.shape[2:]:
            raise ValueError(f"the network gives {tuple(output.shape)}, the targets are {tuple(distances.shape)}")
        logit, predicted = in_px(output, self.unit_px)
        parts = (
            object_loss(logit, probability),
            distance_loss(predicted, distances, probability),
            background_loss(predicted, probability),
        )
        total = parts[0] + self.lambda_distance * (parts[1] + self.lambda_background * parts[2])
        return total, {name: torch.detach(part) for name, part in zip(self.terms, parts, strict=True)}
