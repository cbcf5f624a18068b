"""How much green a stained slide has: what landmark stars on a section leave in the generated stain."""

from __future__ import annotations

from pathlib import Path

import fire
import numpy as np

from bundle.images.slides import read_mask, read_slide

MARGIN = 16  # grey levels by which green must exceed red and blue; H&E has no such colour


def main(*slides: str, mask: str | None = None) -> None:
    """Print the share of pixels whose green exceeds red and blue by 16 of 255 levels.

    Args:
        slides: RGB images.
        mask: count only where this is not 0.
    """
    for slide in slides:
        r, g, b = read_slide(Path(slide)).pixels.astype(int)
        inside = read_mask(Path(mask)) if mask else np.ones(g.shape, bool)
        green = (g - np.maximum(r, b) >= MARGIN)[inside]
        print(f"{slide}: {100 * green.mean():.3f} % green")


if __name__ == "__main__":
    fire.Fire(main)
