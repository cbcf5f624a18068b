"""Arithmetic for CPUs that PyTorch has not, behind two doors: ``inference`` and ``training``; can be taken out."""
