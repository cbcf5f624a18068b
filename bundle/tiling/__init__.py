"""From slides of two stains to a dataset of unpaired tiles: reading, tissue, positions, splits, datalist."""
