"""Modules of a package found by looking, so that what registers itself needs no list of names."""

from __future__ import annotations

import importlib
import pkgutil


def import_modules(package: str) -> None:
    """Import every module that lies in a package, in alphabetical order; those of packages in it are left alone.

    Args:
        package: its full name, as ``bundle.images.stained``.
    """
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        if not module.ispkg:
            importlib.import_module(module.name)
