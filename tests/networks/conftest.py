"""Networks of a few channels, on which Winograd is tried all the same."""

from __future__ import annotations

import pytest

from bundle.networks import engines


@pytest.fixture
def narrow_is_wide_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Winograd from 4 channels on, in place of those from which it pays."""
    monkeypatch.setattr(engines.fast, "LEAST_CHANNELS", 4)
    monkeypatch.setattr(engines.fast.half, "WINOGRAD_CHANNELS", 4)
