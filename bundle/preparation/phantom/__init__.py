"""Specimens whose truth is known."""
