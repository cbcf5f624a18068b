"""What a dataset must have for the networks that are trained on it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from bundle.common.errors import InputError
from bundle.data.datalist import Datalist


def check_channels(data: Datalist, networks: Mapping[str, nn.Module]) -> None:
    """See that the networks take and make what the dataset has.

    Args:
        data: the checked dataset.
        networks: by id; of a discriminator that judges pairs, the source's channels come first.

    Raises:
        InputError: with a line for each network that does not.
    """
    source, target = data.source, data.target
    x, y = source.shown_channels, target.channels
    wanted = {"g_xy": (x, y), "g_yx": (y, x), "d_x": (x,), "d_y": (y, x + y)}
    faults = []
    for name, network in networks.items():
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
        takes = getattr(network, "in_channels", layers[0].in_channels)  # a first layer may take squares of pixels
        makes = layers[-1].out_channels
        if name.startswith("g_") and (takes, makes) != wanted[name]:
            faults.append(
                f"{name} takes {takes} channels and makes {makes}, but the dataset needs {wanted[name][0]} and "
                f"{wanted[name][1]}: {source} and {target}."
            )
        elif name.startswith("d_") and takes not in wanted[name]:
            faults.append(
                f"{name} takes {takes} channels, but the dataset needs {wanted[name][0]}: {source}, {target}."
            )
    if faults:
        faults.append(
            "choose the method for such images (docs/configuration.md), or correct channels in datalist.json."
        )
        raise InputError("\n".join(faults))


def scaled_background(data: Datalist, side: str, inverted: bool = False) -> list[float] | None:
    """The mean background outside the training masks, as the networks see it.

    Args:
        data: the checked dataset.
        side: ``source`` or ``target``.
        inverted: the images are inverted when they are normalised.

    Returns:
        A value per channel in [−1, 1]; None where nothing lies outside a mask.
    """
    modality, colour = (data.source, data.source_background) if side == "source" else (data.target, data.background_rgb)
    if colour is None:
        return None
    sign = -1.0 if inverted else 1.0
    return [sign * (2 * (value - modality.low) / (modality.high - modality.low) - 1) for value in colour]
