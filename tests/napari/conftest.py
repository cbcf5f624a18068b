"""The bundles of tests/staining."""

from tests.staining.conftest import levelled  # noqa: F401
