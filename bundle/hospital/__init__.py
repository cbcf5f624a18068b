"""Where a stain meets a PACS."""
