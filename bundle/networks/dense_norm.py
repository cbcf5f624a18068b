"""Instance norm with statistics that change smoothly across a slide, instead of from window to window."""

from __future__ import annotations

import copy
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer, SlidingWindowInferer
from torch import Tensor, nn

from bundle.common.errors import InputError
from bundle.common.trained_bundle import NORMALISATIONS
from bundle.networks.layers import is_instance_norm
from bundle.networks.sections import Sections
from bundle.networks.specimen_norm import SpecimenInferer, statistics_of
from bundle.networks.threads import share_out

Place = Sequence[slice]  # of a window: image, channels, rows, columns, as MONAI's ``with_coord`` gives it
Hook = Callable[[str, Any, tuple[Tensor], Tensor], Tensor | None]  # layer, norm, what it was given, what it made

WITHOUT_NORM = "normalisation is {!r}, but this network has no instance norm; leave it at 'window'."

LARGE = 1024  # px a side, which bundles whose own normalisation is 'specimen' have
_own = threading.local()  # ``place``: of the window that this thread computes


def linear_weights(positions: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Weights of linear interpolation, constant beyond the ends: (P,) and (G,), ascending → (P, G)."""
    return np.stack([np.interp(positions, centres, one) for one in np.eye(len(centres))], axis=1)


class Statistics:
    """Mean and standard deviation of what each instance norm is given, in a grid of windows.

    Attributes:
        found: by layer, image, first row and first column of the window: (2, C).
        starts: by image: first rows and first columns of its windows, px.
    """

    def __init__(self) -> None:
        self.found: dict[tuple[str, int, int, int], Tensor] = {}
        self.starts: dict[int, tuple[set[int], set[int]]] = defaultdict(lambda: (set(), set()))

    def collect(self, layer: str, norm: Any, given: tuple[Tensor], made: Tensor) -> None:
        """Keep what a norm meets in one window."""
        image, _, rows, columns = _own.place
        variance, mean = torch.var_mean(given[0][0].float(), (1, 2), correction=0)
        self.found[layer, image.start, rows.start, columns.start] = torch.stack([mean, (variance + norm.eps).sqrt()])
        for starts, side in zip(self.starts[image.start], (rows, columns), strict=True):
            starts.add(side.start)

    def normalise(self, layer: str, norm: Any, given: tuple[Tensor], made: Tensor) -> Tensor:
        """(x − mean) / deviation of one window, by those of each pixel, and ReLU where the norm does that too."""
        x = given[0].permute(0, 2, 3, 1)
        mean, deviation = self.at_pixels(layer, _own.place, (x.shape[1], x.shape[2]))
        y = ((x - mean) / deviation).to(x.dtype)
        return (y.relu_() if getattr(norm, "slope", 1.0) == 0.0 else y).permute(0, 3, 1, 2)

    def at_pixels(self, layer: str, place: Place, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Interpolate between the centres of windows.

        Args:
            layer: of the norm.
            place: of a window.
            size: (h, w), px of the layer's image of that window.

        Returns:
            Mean and standard deviation at each of these pixels, (h, w, C).
        """
        image, _, *sides = place
        near, weights = [], []
        for starts, side, pixels in zip(self.starts[image.start], sides, size, strict=True):
            length, ordered = side.stop - side.start, sorted(starts)
            positions = side.start + (np.arange(pixels) + 0.5) * length / pixels
            each = linear_weights(positions, np.array(ordered) + length / 2)
            counts = np.flatnonzero(each.any(0))
            near.append([ordered[place] for place in counts])
            weights.append(torch.from_numpy(each[:, counts]).float())
        table = torch.stack(
            [torch.stack([self.found[layer, image.start, row, column] for column in near[1]]) for row in near[0]]
        )
        down, across = (one.to(table.device) for one in weights)
        rows = torch.tensordot(down, table, 1)  # (h, columns, 2, C)
        return across @ rows[:, :, 0], across @ rows[:, :, 1]


def instance_norms(network: nn.Module) -> dict[nn.Module, str]:
    """The instance norms without learnt scale in a network, and their names; a copy in half precision shares them."""
    return {
        module: name.rpartition("network.")[2] for name, module in network.named_modules() if is_instance_norm(module)
    }


class DenseInferer(Inferer):
    """Stains windows with the statistics of instance norm interpolated between the windows' centres.

    Ho et al. 2022 (Kernelized instance normalization, ECCV) keep each window's mean and deviation of every layer in a
    first pass and smooth them over neighbouring windows in a second; Ho et al. 2024 (Every pixel has its moments,
    ECCV) interpolate them bilinearly at each pixel, as here. Differs from both: windows may overlap and are blended.

    Args:
        windows: the inferer whose windows are taken, for both passes.
    """

    def __init__(self, windows: SlidingWindowInferer) -> None:
        self.windows = windows

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Tensor:  # type: ignore[override]
        """Stain images.

        Args:
            inputs: (B, C, H, W) in [−1, 1].
            network: (1, C, h, w) → (1, C', h, w); is told places too where ``windows`` tells them.
            args: none.
            kwargs: none.

        Returns:
            (B, C', H, W).

        Raises:
            InputError: if the network has no instance norm.
        """
        if not instance_norms(network):
            raise InputError(WITHOUT_NORM.format("dense"))
        statistics, told = Statistics(), self.windows.with_coord
        self._stain(inputs, network, statistics.collect, lambda window, place: network(window))
        return self._stain(
            inputs,
            network,
            statistics.normalise,
            lambda window, place: network(window, [place]) if told else network(window),
        )

    def _stain(
        self, inputs: Tensor, network: nn.Module, hook: Hook, stain: Callable[[Tensor, Place], Tensor]
    ) -> Tensor:
        """One pass over all windows, each alone, with a hook at every norm."""

        def alone(item: tuple[Tensor, Place]) -> Tensor:
            window, _own.place = item
            return stain(*item)

        def together(batch: Tensor, places: Sequence[Place]) -> Tensor:
            items = list(zip(batch.as_subclass(Tensor).split(1), places, strict=True))
            on_cpu = batch.device.type == "cpu"
            return torch.cat(share_out(alone, items) if on_cpu else [alone(item) for item in items])

        windows = copy.copy(self.windows)
        windows.with_coord = True
        handles = [norm.register_forward_hook(partial(hook, name)) for norm, name in instance_norms(network).items()]
        try:
            return windows(inputs, together)  # type: ignore[return-value]
        finally:
            for handle in handles:
                handle.remove()


def normalised(
    windows: SlidingWindowInferer,
    normalisation: str,
    halo: int | None = None,
    network: nn.Module | None = None,
    sections: str | Path | None = None,
) -> Inferer:
    """Windows as they are, with :class:`DenseInferer`, or with :class:`bundle.networks.specimen_norm.SpecimenInferer`.

    Args:
        windows: the inferer.
        normalisation: one of ``NORMALISATIONS``.
        halo: of a network that has no instance norm, px; None for any other.
        network: a generator, of which is asked how far it looks.
        sections: file of what its norms met in training, where there is one.

    Raises:
        InputError: if ``normalisation`` is unknown, or one that the network cannot have, or the sections are broken.
    """
    if normalisation not in NORMALISATIONS:
        raise InputError(f"normalisation is {normalisation!r}; it must be one of {', '.join(NORMALISATIONS)}.")
    side = int(np.ravel(windows.roi_size)[0])
    if normalisation != "specimen" and halo is None and side >= LARGE and windows.overlap == 0:
        raise InputError(
            f"normalisation is {normalisation!r}, but windows of {side} px side by side are for 'specimen'; give those "
            "of the training too, such as --window 256 --step 64."
        )
    if normalisation == "window":
        return windows
    if halo is not None:
        raise InputError(WITHOUT_NORM.format(normalisation))
    if normalisation == "dense":
        return DenseInferer(windows)
    if network is None:
        raise InputError(
            "normalisation is 'specimen', but the bundle's inference.json is of an earlier version, which knows none; "
            "its training command with --resume changed writes it anew."
        )
    reach, multiple = (getattr(network, name, None) for name in ("reach", "multiple"))
    if reach is None or multiple is None:
        raise InputError(
            f"normalisation is 'specimen', but a {type(network).__name__} sees all of a window; leave it at 'window'."
        )
    known = None
    if sections is not None and Path(sections).is_file():
        known = Sections.load(sections, statistics_of(network))
    return SpecimenInferer(side, reach, multiple, known, windows.with_coord, windows.progress)
