"""What a person types around the bundle."""
