"""What only some uses need and is installed for them alone: the extras of ``pyproject.toml``."""

from __future__ import annotations

import re

PACKAGE = "virtual-staining"
EXTRAS = {  # modules, as they are imported
    "hospital": ("pynetdicom", "highdicom", "dicomweb_client", "urllib3"),
    "slides": ("openslide",),
    "elastix": ("itk",),
    "nuclei": ("stardist", "csbdeep"),
    "cluster": ("distributed", "dask", "cryptography", "dask_jobqueue", "bokeh"),
    "cloud": ("s3fs", "gcsfs"),
    "export": ("onnx", "onnxruntime", "onnxscript"),
    "mlflow": ("mlflow",),
}
OF_MONAI = re.compile(r"required package `(\w+)` is not installed")  # of a reader of images
OF_MODULE = {module: extra for extra, modules in EXTRAS.items() for module in modules}


def install_line(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install '{PACKAGE}[{extra}]'"


def missing_extra(error: BaseException) -> str | None:
    """What to tell of an import that failed since an extra is not installed; None of any other error."""
    said = OF_MONAI.match(str(error)) if isinstance(error, ImportError) else None
    name = said[1] if said else error.name if isinstance(error, ModuleNotFoundError) else None
    module = (name or "").partition(".")[0]
    extra = OF_MODULE.get(module)
    return extra and f"this needs {module}, which is not installed; {install_line(extra)}"
