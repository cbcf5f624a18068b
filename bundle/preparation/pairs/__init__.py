"""Registered pairs to a dataset (§2.5, §2.8): masks, normalisation, checks."""
