"""A trained bundle as a function on images in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.inferers import Inferer
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from torch import Tensor, nn

from bundle.common.config_text import as_path
from bundle.common.errors import InputError
from bundle.common.trained_bundle import no_bundle
from bundle.common.verdicts import Verdict
from bundle.data.datalist import Modality
from bundle.data.datalist import modality as read_modality
from bundle.staining.error_map import error_of
from bundle.staining.trust import Trust, known_of, statistics_of


def modality(declared: Any, side: str) -> Modality:
    """What ``inference.json`` says of the source or target.

    Args:
        declared: as it stands there.
        side: which of the two.

    Raises:
        InputError: if that is not enough.
    """
    faults: list[str] = []
    made = read_modality({side: declared}, side, "inference.json", faults)
    if made is None:
        raise InputError("\n".join(faults))
    return made


def window_faults(window: int | None, step: int | None) -> list[str]:
    """What is wrong with windows and the step between them, a line each."""
    if window is not None and (not isinstance(window, int) or window < 8):
        return [f"window is {window!r}; it must be at least 8 px, or None for the whole image at once."]
    if window is not None and step is not None and (not isinstance(step, int) or not 1 <= step <= window):
        return [f"step is {step!r}; it must be from 1 px to the window of {window} px, or None for no overlap."]
    return []


def without_loading(preprocessing: Compose) -> Compose:
    """The transforms after those that read a file, for images that are in memory."""
    loading = (LoadImaged, EnsureChannelFirstd)
    return Compose([step for step in preprocessing.transforms if not isinstance(step, loading)])


def as_integers(image: torch.Tensor) -> np.ndarray:
    """What ``postprocessing`` made, as uint8; as uint16 where the source has more than 8 bits."""
    pixels = image.detach().cpu().numpy()
    return pixels if pixels.dtype == np.uint8 else pixels.astype(np.uint16)


def on_background(pixels: np.ndarray, mask: np.ndarray, background_rgb: Sequence[float] | None) -> np.ndarray:
    """Set an image to one colour outside a mask (§2.8).

    Args:
        pixels: (C, H, W), uint8 or uint16.
        mask: (H, W), bool.
        background_rgb: the colour, a value a channel; None changes nothing.

    Returns:
        (C, H, W), of the same type.
    """
    if background_rgb is None:
        return pixels
    colour = np.rint(np.asarray(background_rgb)).astype(pixels.dtype).reshape(-1, 1, 1)
    return np.where(mask, pixels, colour)


@dataclass(frozen=True)
class TrainedModel:
    """A trained bundle, ready to stain images in memory exactly as its ``inference.json`` would.

    Attributes:
        source: what it was trained on.
        target: what it makes.
        background_rgb: mean training stain outside the masks, if any.
        window: side of the sliding window, px; None stains in one pass.
        step: between windows, px; None where they lie side by side.
        network: with its weights.
        accelerated: the same function as ``speed`` wants it.
        trust: what it knows of where to believe it.
    """

    source: Modality
    target: Modality
    background_rgb: list[float] | None
    window: int | None
    step: int | None
    preprocessing: Callable
    network: nn.Module
    accelerated: nn.Module
    inferer: Inferer
    postprocessing: Callable
    device: torch.device
    trust: Trust = field(default_factory=Trust)

    @torch.no_grad()
    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Stain one image, or in the direction ``reverse`` take the stain off.

        Args:
            pixels: (C, H, W) in the units of ``source``; of ``target`` in the other direction.

        Returns:
            (C', H, W), uint8, or uint16 where a source with more than 8 bits is made.
        """
        return self.with_error(pixels)[0]

    @torch.no_grad()
    def with_error(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Stain one image, as by calling it, and say what error is to be expected.

        Args:
            pixels: as there.

        Returns:
            The stain; and of cells of 4×4 px, (1, ⌈H/4⌉, ⌈W/4⌉), float32, the mean absolute error over its channels
            that is expected there, in levels of 255 (:mod:`bundle.networks.error_map`), or None without an error map.
        """
        pred = self.inferer(self.prepared(pixels)[None].to(self.device), self.accelerated)[0]
        made = self.postprocessing({"pred": pred})
        return as_integers(made["pred"]), error_of(made)

    def judged(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, Verdict | None]:
        """Stain one image, and say where to believe it.

        Args:
            pixels: as of :meth:`with_error`.

        Returns:
            Stain and expected error as there, which is NaN where the image is unlike the training; and how like it is,
            None where that cannot be said.
        """
        stain, error = self.with_error(pixels)
        verdict = self.trust.judge(self.prepared(pixels), statistics_of(self.inferer))
        return stain, None if error is None else known_of(error, verdict), verdict

    def prepared(self, pixels: np.ndarray) -> Tensor:
        """What the network is shown of an image (C, H, W), in the units of ``source``: the same in [−1, 1]."""
        return self.preprocessing({"image": torch.from_numpy(pixels.astype(np.float32))})["image"].as_tensor()


def load_model(bundle_root: str | Path, device: str | torch.device = "cpu", **ids: Any) -> TrainedModel:
    """Load a trained bundle.

    Args:
        bundle_root: the folder, as a run leaves it in ``output_dir/bundle``.
        device: where to run it.
        ids: other ids of its ``inference.json`` to set, for example ``window``.

    Raises:
        InputError: if the folder holds no trained model, or a corrupt one.
    """
    parser = open_configs(bundle_root)
    model = parsed_model(parser, device, bundle_root=as_path(str(Path(bundle_root))), **ids)
    return replace(model, trust=parser.get_parsed_content("trust")) if "trust" in parser else model


def open_configs(bundle_root: str | Path, *overlays: str) -> ConfigParser:
    """The ``inference.json`` of a trained bundle, of which nothing is made yet.

    Args:
        bundle_root: the folder.
        overlays: other configs of it to lay over that, ``volume.json`` for one.

    Raises:
        InputError: if the folder is no trained bundle, has no such config, or one is no JSON.
    """
    root = Path(bundle_root)
    if not (root / "configs" / "inference.json").is_file():
        raise InputError(no_bundle(root))
    parser, files = ConfigParser(), []
    for config in (root / "configs" / name for name in ("inference.json", *overlays)):
        if not config.is_file():
            raise InputError(
                f"{root} has no configs/{config.name}; its training command with --resume true writes the bundle anew."
            )
        files.append(str(config))
        try:
            parser.read_config(files)
        except (ValueError, AttributeError) as error:  # no JSON, or a list
            raise InputError(f"{config} is no JSON of a config ({error}); copy it from the run again.") from error
    return parser


def parsed_model(parser: ConfigParser, device: str | torch.device, **ids: Any) -> TrainedModel:
    """The model that an ``inference.json`` describes.

    Args:
        parser: with its content.
        device: where to run the model.
        ids: other ids to set.
    """
    parser.update({"device": torch.device(device), "sliding_window#progress": False, **ids})
    item = parser.get_parsed_content
    if faults := window_faults(item("window"), item("step")):
        raise InputError("\n".join(faults))
    return TrainedModel(
        modality(item("source"), "source"),
        modality(item("target"), "target"),
        item("background_rgb"),
        item("window"),
        item("step"),
        without_loading(item("preprocessing")),
        item("network"),
        item("accelerated"),
        item("inferer"),
        item("postprocessing"),
        torch.device(device),
    )


def model_in_memory(
    inference: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    device: str | torch.device,
    direction: str = "forward",
    error: nn.Module | None = None,
    **ids: Any,
) -> TrainedModel:
    """What a trained bundle with these weights would be, without its error map.

    Args:
        inference: content of its ``inference.json``.
        weights: of its network, or of ``g_yx`` in the direction ``reverse``; they are copied.
        device: where to run it.
        direction: ``forward`` or ``reverse``.
        error: takes the place of an error head; None makes the stain alone.
        ids: other ids of ``inference.json`` to set.
    """
    described = {**inference, "direction": direction}
    network = ConfigParser(described).get_parsed_content("network_def")
    network.load_state_dict(weights)
    if error is not None:
        network.error = error
    network.to(torch.device(device)).eval()
    parser = ConfigParser({**described, "network_def": network, "network": "@network_def"})
    return parsed_model(parser, device, **ids)
