"""Methods that learn from unpaired images: what they are trained on, and how they are measured."""
