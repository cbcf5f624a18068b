"""How far to go: start, similarity, affine, warp. Each must tell more where it has not looked."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bundle.preparation.registration.two_slides.blocks import Both, information, is_odd, local_warp, squares
from bundle.preparation.registration.two_slides.elastix import find_affine
from bundle.preparation.registration.two_slides.placing import Placing

NAMES = ("start", "similarity", "affine", "warp")
SURE = 3.0  # standard errors by which information in held-out squares must rise; of real warps 2 kept a harmful one
FEWEST = 6  # squares, or nothing is sure


@dataclass(frozen=True)
class Images:
    """Two slides at the size at which elastix sees them.

    Attributes:
        source: (H, W), density.
        target: (h, w), density.
        known: (H, W), where the source may be compared, bool.
        seen: (h, w), likewise the target.
        pixel_um: of both.
    """

    source: np.ndarray
    target: np.ndarray
    known: np.ndarray
    seen: np.ndarray
    pixel_um: float

    def refined(
        self, placing: Placing, kind: str, levels: int, seed: int, learn: np.ndarray | None = None
    ) -> Placing | None:
        """A placing climbed to the nearest optimum, from the pixels in ``learn`` alone; None if it is lost."""
        known = self.known if learn is None else self.known & learn
        masks = known, self.seen
        start = placing.in_pixels(self.pixel_um)
        found = find_affine(self.source, self.target, masks, start, kind, levels, seed)
        return None if found is None else Placing.of_pixels(found, self.pixel_um)


@dataclass(frozen=True)
class Model:
    """One way to bring the slides together.

    Attributes:
        name: of ``NAMES``.
        placing: the affine transform.
        warp: (2, H, W), local shifts before it, px of ``Both``; None for none.
        told: mean information in held-out squares, nats per pixel.
        gain: by which that rose over the model kept before it.
        error: standard error of the gain over squares.
        kept: whether it took that one's place.
    """

    name: str
    placing: Placing
    warp: np.ndarray | None = None
    told: float = 0.0
    gain: float = 0.0
    error: float = 0.0
    kept: bool = False


def find_models(images: Images, both: Both, start: Placing, searched: bool, seed: int) -> list[Model]:
    """Fit every model to all squares, and to each half of them to see what it tells of the other half.

    Args:
        images: at the size at which elastix sees them.
        both: at the size of the blocks.
        start: where to begin.
        searched: whether it was found by a coarse search: then a similarity need only tell more, not surely.
        seed: of elastix' samples.

    Returns:
        The models in the order of ``NAMES``; the last of the kept ones is the result.
    """
    black = is_odd(squares(both.shape))
    halves = [half & both.known for half in (black, ~black)]
    whole = _fitted(images, start, seed, None)
    fitted = [_fitted(images, start, seed, learn) for learn in halves]
    found = [Model("start", start, told=mean_of(_told(both, halves, fitted, "start", None)), kept=True)]
    for name in ("similarity", "affine"):
        sure = 0.0 if searched and name == "similarity" else SURE
        found.append(_judged(found, Model(name, whole[name]), both, halves, fitted, None, sure))
    last = [model for model in found if model.kept][-1]
    warps = [local_warp(both, placings[last.name], learn) for placings, learn in zip(fitted, halves, strict=True)]
    warped = Model("warp", last.placing, local_warp(both, last.placing))
    return [*found, _judged(found, warped, both, halves, fitted, warps)]


Placings = dict[str, Placing]


def _fitted(images: Images, start: Placing, seed: int, learn: np.ndarray | None) -> Placings:
    """Every affine model, learnt from some of the squares."""
    fine = None if learn is None else _at(learn, images.known.shape)
    similar = images.refined(start, "similarity", 4, seed, fine) or start
    return {
        "start": start,
        "similarity": similar,
        "affine": images.refined(similar, "affine", 3, seed, fine) or similar,
    }


def _told(
    both: Both, halves: list[np.ndarray], fitted: list[Placings], name: str, warps: list[np.ndarray] | None
) -> dict[int, float]:
    """What a model tells of each square when it has learnt from the others."""
    told: dict[int, float] = {}
    for number, (learn, placings) in enumerate(zip(halves, fitted, strict=True)):
        told |= information(both, placings[name], warps[number] if warps else None, learn)
    return told


def _judged(
    found: list[Model],
    model: Model,
    both: Both,
    halves: list[np.ndarray],
    fitted: list[Placings],
    warps: list[np.ndarray] | None,
    sure: float = SURE,
) -> Model:
    """A model with what it tells, kept if that is more than the last one kept tells, by ``sure`` standard errors."""
    before = [each.name for each in found if each.kept][-1]
    own = _told(both, halves, fitted, before if warps else model.name, warps)
    gain, error = compared(_told(both, halves, fitted, before, None), own)
    return replace(model, told=mean_of(own), gain=gain, error=error, kept=gain > sure * error and error < np.inf)


def _at(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A mask (H, W) at another size, by the nearest pixel."""
    places = [(np.arange(new) * old // new) for new, old in zip(shape, mask.shape, strict=True)]
    return mask[np.ix_(*places)]


def mean_of(told: dict[int, float]) -> float:
    """Mean information over squares; 0 without any."""
    return float(np.mean(list(told.values()))) if told else 0.0


def compared(before: dict[int, float], after: dict[int, float]) -> tuple[float, float]:
    """Mean gain over squares, and its standard error; infinite with fewer than ``FEWEST`` squares."""
    gains = np.array([after[number] - before[number] for number in before if number in after])
    if len(gains) < FEWEST:
        return 0.0, float("inf")
    return float(gains.mean()), float(gains.std(ddof=1) / np.sqrt(len(gains)))
