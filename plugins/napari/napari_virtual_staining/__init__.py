"""A dock for napari that stains layers with a trained bundle of virtual-staining."""
