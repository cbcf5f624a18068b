"""Labelled images of cells, made by editing and translating."""
