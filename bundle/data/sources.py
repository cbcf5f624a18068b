"""What grey values the training sources have, as a network sees them."""

from __future__ import annotations

import numpy as np

from bundle.common.errors import InputError
from bundle.data.datalist import Datalist
from bundle.data.patches import load_pair

PLACES = 4  # decimals: the trained bundle's config repeats them


def statistics(data: Datalist, inverted: bool = False) -> tuple[float, float]:
    """Mean and standard deviation of the training sources inside their masks, over all channels and pairs.

    Args:
        data: the checked dataset.
        inverted: the images are inverted when they are normalised.

    Returns:
        In [−1, 1], rounded to four decimals.

    Raises:
        InputError: if there is no pair, or all sources together are of one value.
    """
    if not data.training:
        raise InputError("there is no training pair, so the mean of the sources is not known; list pairs in training.")
    count, total, squares = 0, 0.0, 0.0
    for pair in data.training:
        images = load_pair(pair)
        values = images["source"][:, images["mask"][0]].astype(np.float64)
        values = 2 * (values - data.source.low) / (data.source.high - data.source.low) - 1
        count, total, squares = count + values.size, total + values.sum(), squares + np.square(values).sum()
    mean = total / count
    deviation = round(float(np.sqrt(max(squares / count - mean**2, 0.0))), PLACES)
    if not deviation:
        raise InputError(f"all training sources are of one grey value ({data.source.name}); check their files.")
    return round(float(-mean if inverted else mean), PLACES), deviation
