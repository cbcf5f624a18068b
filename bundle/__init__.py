"""Virtual staining: the parts that the configs of this MONAI bundle name."""
