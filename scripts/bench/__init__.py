"""What docs/performance.md quotes, one script a figure."""
