"""Virtual staining: the parts that the configs of this MONAI bundle name, and :func:`load` for use from Python."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bundle.common.old_names import install

if TYPE_CHECKING:
    from bundle.staining.loaded import Stain as Stain
    from bundle.staining.loaded import load as load

install()


def __getattr__(name: str) -> Any:
    """Load PyTorch and MONAI when they are first asked for: ``import bundle`` alone takes no time."""
    if name in ("Stain", "load"):
        # not an import statement: an application of MONAI Deploy takes along what those name, and has no use for it
        return getattr(import_module("bundle.staining.loaded"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
