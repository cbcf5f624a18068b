"""Bone-implant blocks with known truth: labels, tomogram, stain, and sections spoiled as real ones are."""
