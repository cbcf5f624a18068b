"""Stained whole slides: their pyramid while it is made, and the formats that it is given out in."""
