"""Stained volumes: one writer a format, restartable."""
