"""Section to volume: the plane of a scan that a histological section shows, and what the section has suffered."""
