"""Where the files lie that a run needs besides its code: configs, pages of documentation, licence.

In a checkout that is the repository; an installed package carries copies (``setup.py``).
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
SHIPPED = PACKAGE / "shipped"
HOME = SHIPPED if SHIPPED.is_dir() else PACKAGE.parent
CONFIGS = HOME / "configs"
PRETRAINED = PACKAGE / "pretrained" / "phantom"  # a trained bundle, of phantoms alone: not for data
