"""The one command, ``virtual-staining``: a table of what it can do, and the short ways to train, stain and evaluate."""
