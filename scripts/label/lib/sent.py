"""Scans that clients send with a request, or earlier in a session: MONAI Label names their files in ``image``."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monailabel.utils.sessions import Sessions

from bundle.common.errors import InputError

FORMATS = (".nii.gz", ".nii")


def is_sent(image: str, sessions: Sessions | None) -> bool:
    """Whether ``image`` is such a file, rather than an id or another path of the server.

    Raises:
        InputError: if it is no NIfTI. The header of another format may name any file of the server as its data.
    """
    path = Path(image)
    in_session = sessions is not None and path.resolve().is_relative_to(Path(sessions.store_path).resolve())
    if not path.is_absolute() or not path.is_file() or not (in_session or _with_request(path)):
        return False
    if not path.name.endswith(FORMATS):
        raise InputError(f"the file that was sent is no NIfTI by its name; send {' or '.join(FORMATS)}.")
    return True


@contextmanager
def not_kept(image: str) -> Iterator[None]:
    """Remove what was sent with a request that fails; MONAI Label does so only after one that does not."""
    try:
        yield
    except BaseException:
        if _with_request(Path(image)):
            Path(image).unlink(missing_ok=True)
        raise


def _with_request(path: Path) -> bool:
    return path.parent == Path(tempfile.gettempdir()) and re.fullmatch(r"tmp\w{8}(\..*)?", path.name) is not None
