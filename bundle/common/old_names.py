"""Names that trained bundles and records of earlier versions have on disk, and where they are now."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED: dict[str, tuple[str, ...]] = {  # old module: those that have its names now
    "acceleration": ("networks.accelerate",),
    "air": ("data.air",),
    "atomic": ("common.atomic",),
    "checkpoints": ("networks.checkpoints",),
    "data": ("data.load",),
    "dense_norm": ("networks.dense_norm",),
    "deployment": ("training.publish",),
    "distributed": ("common.processes", "data.sharing"),
    "evaluation": ("evaluation.paired",),
    "faults": ("training.faults",),
    "halo": ("networks.halo",),
    "handlers": ("training.displays",),
    "inference": ("staining.slides", "staining.model"),
    "keeper": ("training.run_state",),
    "loading": ("data.loader",),
    "losses": ("training.losses",),
    "networks.fast.accelerate": ("networks.accelerate",),
    "pair_terms": ("training.pair_terms",),
    "patches": ("data.patches",),
    "pool": ("training.image_buffer",),
    "report": ("report.run",),
    "runs": ("training.run", "common.run_folder"),
    "schedules": ("training.learning_rate",),
    "sources": ("data.sources",),
    "tracking": ("training.tracking",),
    "trainers": ("training.trainers", "training.data_checks"),
    "transforms": ("data.transforms",),
    "unpaired": (),
    "unpaired.evaluation": ("evaluation.unpaired.evaluation",),
    "unpaired.patches": ("data.unpaired_patches",),
    "unpaired.reconstruction": ("training.cycle_scores", "evaluation.unpaired.reconstruction"),
    "unpaired.stain_loss": ("training.stain_loss",),
    "validation": ("training.validation",),
    "workflow": ("common.config",),
}
AGAIN = ("data", "evaluation", "report")  # rooms of that name: each looks for its own old name


def names_now(name: str) -> list[str]:
    """What an old name may be called now, with its package; it alone if it is none."""
    package, _, rest = name.partition(".")
    module, _, attribute = rest.rpartition(".")
    places = MOVED.get(module, ()) if package == "bundle" else ()
    return [f"bundle.{place}.{attribute}" for place in places] or [name]


def found_for(module: str, *names: str) -> Callable[[str], Any]:
    """A module's ``__getattr__`` that looks for a name where it is now.

    Args:
        module: the old one, with its package.
        names: those that it had; none stand for any, which a package with modules of its own cannot ask for.
    """
    places = MOVED[module.partition(".")[2]]

    def get(name: str) -> Any:
        if not name.startswith("__") and (not names or name in names):
            for place in places:
                there = importlib.import_module(f"bundle.{place}")
                if name in vars(there):
                    return vars(there)[name]
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return get


class OldModules(MetaPathFinder, Loader):
    """Finds modules that are there no more; each is empty and looks for its names where they are now."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        """The spec of an old module; None for any other."""
        package, _, module = name.partition(".")
        if package != "bundle" or module not in MOVED or module in AGAIN:
            return None
        return ModuleSpec(name, self, is_package=any(other.startswith(f"{module}.") for other in MOVED))

    def exec_module(self, module: ModuleType) -> None:
        """Give it its ``__getattr__``."""
        vars(module)["__getattr__"] = found_for(module.__name__)


def install() -> None:
    """Make the old modules importable."""
    if not any(isinstance(finder, OldModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, OldModules())
