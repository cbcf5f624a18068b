"""Images as they lie in files, and what their numbers mean."""
