"""In-silico images: a stain translated to fluorescence, edited there, and translated back with its labels."""
