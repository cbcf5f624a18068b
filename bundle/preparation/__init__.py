"""From registered pairs to a dataset: regions, normalisation (§2.5), masks (§2.8), datalist."""
