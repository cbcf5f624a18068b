"""The page of a run."""

from bundle.common.old_names import found_for

__getattr__ = found_for(__name__, "write")
