"""Parts of the MONAI Label application.

Their code is this repository's, also where links to it are the application: the first ``bundle`` that is imported
stays, so a trained bundle's own copy of it, which MONAI Label puts on the path later, is not mixed in.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
