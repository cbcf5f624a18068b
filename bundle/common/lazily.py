"""A module that is loaded when something of it is first asked for."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any


class Later:
    """Stands for a module; what is asked of it, or set, is that of the module, which is loaded for it.

    It is in no table of modules, as ``importlib.util.LazyLoader`` has it: whoever looks through that, as PyTorch does
    when it is loaded, would load it.
    """

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "name", name)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(object.__getattribute__(self, "name")), attribute)

    def __setattr__(self, attribute: str, value: Any) -> None:
        setattr(import_module(object.__getattribute__(self, "name")), attribute, value)


def lazily(name: str) -> Any:
    """A module, not loaded yet; None where it is missing.

    Args:
        name: of the module; the package that it is in is loaded.
    """
    try:
        found = find_spec(name)
    except ModuleNotFoundError as error:
        if not name.startswith(error.name or "."):
            raise
        return None
    return Later(name) if found else None


def is_loaded(name: str) -> bool:
    """Whether a module has been loaded."""
    return name in sys.modules
