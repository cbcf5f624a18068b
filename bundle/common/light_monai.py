"""MONAI loaded without what no run of ours uses of it, which is most of the seconds that it takes.

``import monai`` tries every library that any part of it could use: MLflow, pandas, TensorBoard, torchvision, ITK. Each
is optional to it, so what it does not find it does without. Here it does not find them while it is being loaded;
whoever imports them afterwards, as our own modules do, gets them. ``python -m monai.bundle`` loads MONAI before any
code of ours, so it is as it always was.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

# Of MONAI what uses them is: its handlers of MLflow and TensorBoard, plots, readers and writers of ITK and of whole
# slides, networks and losses on torchvision's, an ultrasound transform, summaries of datasets. None is in a config of
# ours but series.json, which runs where MONAI was loaded as a whole.
UNUSED = (
    *("mlflow", "pandas", "matplotlib", "matplotlib.pyplot", "IPython", "sklearn"),
    *("tensorboard", "tensorboardX", "torch.utils.tensorboard", "torchvision", "lpips"),
    *("itk", "openslide", "tifffile", "zarr", "pydicom", "scipy.signal"),
    *("onnx", "onnx.reference", "onnxruntime", "transformers", "huggingface_hub", "cupy"),
)
# ignite's checkpoints ask whether an optimizer is one of these, and loading that loads PyTorch's compiler
IN_PARTS, OPTIMIZER = "torch.distributed.optim", "ZeroRedundancyOptimizer"


@contextmanager
def hidden(names: Sequence[str] = UNUSED) -> Iterator[None]:
    """Let imports of some modules fail; those that are loaded already are left alone.

    Args:
        names: of the modules.
    """
    away = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(away, None))  # type: ignore[arg-type]
    stand_in = ModuleType(IN_PARTS)
    setattr(stand_in, OPTIMIZER, type(OPTIMIZER, (), {"__doc__": "What no optimizer of ours is."}))
    sys.modules.setdefault(IN_PARTS, stand_in)
    try:
        yield
    finally:
        if sys.modules.get(IN_PARTS) is stand_in:
            del sys.modules[IN_PARTS]
        for name in away:
            if sys.modules.get(name, ...) is None:
                del sys.modules[name]


class _Light(Loader):
    """Loads as another loader does, while modules are hidden."""

    def __init__(self, loader: Any):
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self.loader  # so that all else sees it as ever
        with hidden():
            self.loader.exec_module(module)


class _Finder(MetaPathFinder):
    """Finds MONAI alone."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "monai":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Light(spec.loader)
        return spec


_FINDER = _Finder()


def load_lightly(wanted: bool = True) -> None:
    """From here on, if MONAI is imported at all, it is without :data:`UNUSED`.

    Args:
        wanted: False takes that back, for a config of which nobody knows what it uses.
    """
    if wanted and _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    if not wanted and _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)
