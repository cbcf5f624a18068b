"""Networks of a few channels, on which Winograd is tried all the same."""

from __future__ import annotations

import pytest

from bundle.networks.fast import inference


@pytest.fixture
def narrow_is_wide_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Winograd from 4 channels on, in place of those from which it pays."""
    monkeypatch.setattr(inference, "LEAST_CHANNELS", 4)
    monkeypatch.setattr(inference.half, "WINOGRAD_CHANNELS", 4)
