"""Arithmetic for CPUs that PyTorch has not: one door for inference, one for training."""
