"""Training: objective, steps, state, validation, what is published."""
