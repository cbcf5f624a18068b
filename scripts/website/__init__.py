"""What the pages need to become a website."""
