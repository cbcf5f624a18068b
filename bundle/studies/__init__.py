"""Several runs, compared; and one run, repeated."""
