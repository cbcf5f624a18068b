"""How good a translation without pairs is."""
