"""A tag's value, whatever it is, without a word of pydicom's."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pydicom
from pydicom import Dataset


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Read tags as they are: pydicom would warn of each invalid one, and log it, in the tag's own words."""
    log = logging.getLogger("pydicom")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before


def value_of(dataset: Dataset, keyword: str) -> Any:
    """A tag's value; None if it is absent or empty; its bytes as they are if they mean nothing in its VR."""
    try:
        value = dataset.get(keyword)
    except Exception:  # pydicom converts when asked, and what is no number raises a dozen kinds
        value = dataset.get_item(keyword).value  # type: ignore[union-attr]
    empty = value is None or (isinstance(value, (str, bytes)) and not value.strip())
    return None if empty else value
