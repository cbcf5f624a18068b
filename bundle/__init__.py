"""Virtual staining: the parts that the configs of this MONAI bundle name."""

from bundle.common.old_names import install

install()
