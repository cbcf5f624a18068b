"""Slices through the network, window by window, without the windows where nothing is to be seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.inferers import Inferer
from monai.transforms import Compose
from torch import Tensor, nn

from bundle.common.errors import InputError
from bundle.networks.engines import engines
from bundle.networks.halo import HaloInferer
from bundle.networks.sections import Sections
from bundle.networks.specimen_norm import SpecimenInferer, SpecimenNetwork
from bundle.staining.error_map import error_of
from bundle.staining.model import as_integers, on_background, without_loading
from bundle.staining.trust import UNTOLD, Trust

FEW_BATCHES, RGB = 20, 3
Place = Sequence[slice]  # of a window: image, channels, rows, columns


class Seam:
    """What the network made of windows that reach beyond the right side of a block, for the block beside it.

    Args:
        top: where the blocks' images begin, px of what they are parts of.
        report: called with the number of windows that are done, or known, or left out, after each batch.
    """

    def __init__(self, top: int, report: Callable[[int], None] = lambda number: None) -> None:
        self.top, self.left, self.stop, self.report = top, 0, 0, report
        self._known: dict[tuple[int, int], Tensor] = {}
        self._kept: dict[tuple[int, int], Tensor] = {}

    def move(self, left: int, stop: int) -> None:
        """Go on to the next block, whose image begins at ``left``; what reaches beyond ``stop`` is kept."""
        self.left, self.stop = left, stop
        self._known, self._kept = self._kept, {}

    def known(self, places: Sequence[Place]) -> dict[int, Tensor]:
        """What is known of windows, by their number."""
        found = {number: self._known.get(self._key(place)) for number, place in enumerate(places)}
        return {number: made for number, made in found.items() if made is not None}

    def keep(self, place: Place, made: Tensor) -> None:
        """Keep what the network made of a window (C, H, W), if it is still needed."""
        if self.left + place[3].stop > self.stop:
            self._kept[self._key(place)] = made.clone()

    def _key(self, place: Place) -> tuple[int, int]:
        return self.top + place[2].start, self.left + place[3].start


class Windows(nn.Module):
    """A network as a sliding window calls it, that leaves out the windows without any of the sample.

    What it gives for those is never seen: no pixel of the sample lies in them, and all others become background.

    Args:
        network: (B, C, H, W) → (B, ``channels``, H, W).
        inside: (N, H, W), bool, where the sample is in each image; None for everywhere.
        channels: of the stain, and of its error map.
        seam: what is known of windows already; None for nothing.
    """

    def __init__(
        self, network: nn.Module, inside: np.ndarray | None = None, channels: int = RGB, seam: Seam | None = None
    ) -> None:
        super().__init__()
        self.network, self.inside, self.channels, self.seam = network, inside, channels, seam
        self.counts: list[tuple[int, int]] = []  # done, skipped of each batch so far; threads may add to it together

    @property
    def done(self) -> int:
        """Windows that went through the network."""
        return sum(done for done, _ in self.counts)

    @property
    def skipped(self) -> int:
        """Windows that were left out."""
        return sum(skipped for _, skipped in self.counts)

    def forward(self, batch: Tensor, places: Sequence[Place] | None = None) -> Tensor:
        """Stain windows; ``places`` says in which image and where each lies, as MONAI's ``with_coord`` gives it."""
        wanted = [True] * len(batch)
        if self.inside is not None and places is not None:
            wanted = [bool(self.inside[place[0], place[2], place[3]].any()) for place in places]
        known = {} if self.seam is None or places is None else self.seam.known(places)
        computed = [each and number not in known for number, each in enumerate(wanted)]
        self.counts.append((computed.count(True), wanted.count(False)))
        if all(computed):
            result = self.network(batch)
        else:
            result = torch.ones(len(batch), self.channels, *batch.shape[2:], device=batch.device)
            if any(computed):
                result[computed] = self.network(batch[computed]).to(result.dtype)
            for number, made in known.items():
                result[number] = made
        if self.seam is not None and places is not None:
            for place, made, kept in zip(places, result, wanted, strict=True):
                if kept:
                    self.seam.keep(place, made)
            self.seam.report(len(batch))
        return result


class Stained(NamedTuple):
    """What became of slices.

    Attributes:
        pixels: (N, H, W, C), uint8, or uint16 where a source of more than 8 bits is made.
        errors: expected, of cells of 4×4 px, (N, ⌈H/4⌉, ⌈W/4⌉), levels, NaN outside the sample; None without an error
            map.
    """

    pixels: np.ndarray
    errors: np.ndarray | None


@dataclass
class Stainer:
    """Stains slices as ``inference.json`` would, and counts the windows.

    Attributes:
        preprocessing: of the config; its steps that read a file are left out.
        network: with its weights, on its device.
        inferer: sliding windows, or the whole slice.
        postprocessing: of the config.
        device: of the network.
        window: side of a window, px; None for whole slices.
        step: between windows, px; None where they lie side by side.
        batch: windows that the device computes at once.
        background_rgb: what is outside the sample becomes.
        trust: what the model knows of where to believe it.
        channels: of what it makes.
        done: windows that went through the network.
        skipped: windows that were left out.
    """

    preprocessing: Compose
    network: nn.Module
    inferer: Inferer
    postprocessing: Compose
    device: torch.device
    window: int | None
    step: int | None
    batch: int
    background_rgb: Sequence[float] | None = None
    trust: Trust = UNTOLD
    channels: int = RGB
    done: int = field(default=0, init=False)
    skipped: int = field(default=0, init=False)
    _specimen: SpecimenNetwork | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.preprocessing = without_loading(self.preprocessing)

    def at_once(self, shape: Sequence[int]) -> int:
        """How many slices (H, W) are best stained together, so that their windows fill whole batches."""
        if self.window is None:
            return max(1, self.batch * 256**2 // math.prod(shape))
        windows = math.prod(1 + max(0, math.ceil((side - self.window) / (self.step or self.window))) for side in shape)
        few = windows < FEW_BATCHES * self.batch  # otherwise one batch that is not full makes no difference
        return self.batch // math.gcd(windows, self.batch) if few else 1

    @property
    def by_specimen(self) -> bool:
        """Whether one region of a scan gives the statistics for all of it, which :meth:`settle` takes."""
        return isinstance(self.inferer, SpecimenInferer)

    @property
    def sections(self) -> Sections | None:
        """Of the training, where the trained bundle has them."""
        return self.inferer.sections if isinstance(self.inferer, SpecimenInferer) else None

    @torch.inference_mode()
    def learn(self, pixels: np.ndarray) -> Tensor:
        """What instance norm meets in a region of a slice (C, H, W), in the scan's units: (F)."""
        if self._specimen is None:
            self._specimen = SpecimenNetwork(self.network)
        return self._specimen.learn(self._prepared(pixels)[None].to(self.device))

    def distances(self, slices: np.ndarray) -> list[float]:
        """Of slices (N, C, H, W), in the scan's units, from the training's sources; none where that is not known."""
        likeness, values = self.trust.likeness, slices.astype(np.float32)
        return [] if likeness is None else [likeness.distance(self._prepared(each)) for each in values]

    def settle(self, statistics: Tensor) -> None:
        """Stain with these from now on, in windows that need not overlap."""
        if not isinstance(self.inferer, SpecimenInferer):
            raise InputError("statistics are given, but normalisation is not 'specimen'; leave one of them out.")
        network = self._specimen or SpecimenNetwork(self.network)
        network.settle(statistics)
        self.network, self.inferer, self._specimen = network, self.inferer.settled(), None

    @property
    def undecided(self) -> bool:
        """Whether the arithmetic is still to be chosen."""
        choice = getattr(self.network, "choice", None)
        return choice is not None and not choice.name

    def choose(self, pixels: np.ndarray) -> dict[str, Any]:
        """Choose the arithmetic by a slice (C, H, W), in the scan's units: its name, what it is, what each took."""
        network: Any = self.network
        network.choose(self._prepared(pixels)[None])
        return {**vars(network.choice), "device": str(self.device), "arithmetic": network.arithmetic}

    def take(self, name: str) -> None:
        """Compute in an arithmetic that another process has chosen.

        Raises:
            InputError: if this machine has none of that name.
        """
        network: Any = self.network
        device = network.choice.device
        if name not in engines(getattr(network, "given", network), device):
            raise InputError(
                f"the volume was begun in {name!r}, which this {device.type} has not; go on where it was begun, or "
                "choose another --output_dir."
            )
        network.choice.name = name

    def _prepared(self, pixels: np.ndarray) -> Tensor:
        return self.preprocessing({"image": torch.from_numpy(pixels)})["image"].as_tensor()

    @torch.inference_mode()
    def __call__(self, slices: np.ndarray, inside: np.ndarray | None = None) -> Stained:
        """Stain slices; each comes out the same whatever is stained with it.

        Args:
            slices: (N, C, H, W), in the scan's units.
            inside: (N, H, W), bool, where the sample is; None for everywhere.
        """
        return self._stained(slices, inside, None, None)

    @torch.inference_mode()
    def block(
        self, source: np.ndarray, cut: tuple[slice, slice], inside: np.ndarray | None = None, seam: Seam | None = None
    ) -> Stained:
        """Stain a part of an image: the pixels that they would be in all of it.

        Args:
            source: (C, H, W), the part and as much around it as its pixels depend on.
            cut: rows and columns of the part in ``source``.
            inside: (H, W), bool, where there is anything to stain; None for everywhere.
            seam: what is known of windows already from the block to its left.

        Returns:
            Of the part alone, one of each.
        """
        return self._stained(source[None], None if inside is None else inside[None], cut, seam)

    def _stained(
        self, slices: np.ndarray, inside: np.ndarray | None, cut: tuple[slice, slice] | None, seam: Seam | None
    ) -> Stained:
        # a slice smaller than a window is padded, so places in it would not be the slice's
        by_halo = isinstance(self.inferer, HaloInferer)  # whose windows are not what the network is shown
        padded = not by_halo and min(slices.shape[2:]) < (self.window or 0)
        channels = self.channels + (self.trust.calibration is not None)
        windows = Windows(self.network, None if padded else inside, channels, None if padded or by_halo else seam)
        images = torch.stack([self._prepared(each) for each in slices]).to(self.device)
        if cut is None:
            made = self.inferer(images, windows)
        else:
            made = self.inferer(images, windows, kept=cut) if by_halo else self.inferer(images, windows)[(..., *cut)]
            inside = None if inside is None else inside[(..., *cut)]
        self.done += windows.done
        self.skipped += windows.skipped
        processed = [self.postprocessing({"pred": each}) for each in made]
        stained = [as_integers(each["pred"]) for each in processed]
        if inside is not None:
            stained = [
                on_background(each, where, self.background_rgb) for each, where in zip(stained, inside, strict=True)
            ]
        where = [None] * len(processed) if inside is None else inside
        errors = [
            error[0] for each, own in zip(processed, where, strict=True) if (error := error_of(each, own)) is not None
        ]
        return Stained(np.stack(stained).transpose(0, 2, 3, 1), np.stack(errors) if errors else None)
