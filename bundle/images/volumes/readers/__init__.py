"""Scans by format: what a file or folder holds, and its slices when asked for; a module each, found by looking."""
