"""Staining whole volumes: slabs in, slices out, chunks joined from them, shared by any number of processes."""
