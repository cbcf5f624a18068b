"""A dataset: its list, its checks, its folds and its patches."""

from bundle.common.old_names import found_for

__getattr__ = found_for(__name__, "load_datalist")
