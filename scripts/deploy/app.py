"""Stain a CT series with MONAI Deploy: ``.venv-deploy/bin/python -m scripts.deploy.app -i IN -o OUT -m BUNDLE``."""

from __future__ import annotations

import logging
import os
import resource
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from bundle.common.atomic import check_writable
from bundle.common.errors import InputError, full_disk, input_error, plain_errors
from scripts.deploy.settings import Settings, read_settings

LOUDNESS = "HOLOSCAN_LOG_LEVEL"  # Holoscan's own; OFF unless it is set
STACK_BYTES = 32 << 20  # what Holoscan asks for, and says so at every start if it is less


def main(words: Sequence[str]) -> None:
    """Read a command line and stain one series.

    Args:
        words: what stands after ``python -m scripts.deploy.app``.

    Raises:
        InputError: on any fault; nothing half-written is left.
    """
    settings = read_settings(words)
    check_sdk()
    check_writable(settings.output)
    quiet = os.environ.setdefault(LOUDNESS, "OFF") == "OFF"
    if quiet:
        # what it logs quotes tags as they are, control characters and all
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
    grow_stack()
    try:
        run(settings)
    except Exception as error:
        if not quiet or input_error(error) or full_disk(error):
            raise
        words_of_error = " ".join(str(error).split())
        raise InputError(
            f"MONAI Deploy stopped with {type(error).__name__}: {words_of_error[:300]} ({LOUDNESS}=INFO says more)."
        ) from error


def check_sdk() -> None:
    """See that this Python has the SDK, without the seconds that importing it takes.

    Raises:
        InputError: if not.
    """
    if not any((Path(folder or ".") / "monai" / "deploy" / "core").is_dir() for folder in sys.path):
        raise InputError(
            f"{sys.executable} has no MONAI Deploy App SDK; `make deploy` makes an environment that has it: "
            ".venv-deploy/bin/python -m scripts.deploy.app …"
        )


def grow_stack() -> None:
    """Allow this process the stack that Holoscan wants, where the machine allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    enough = hard == resource.RLIM_INFINITY or hard >= STACK_BYTES
    if soft != resource.RLIM_INFINITY and soft < STACK_BYTES and enough:
        resource.setrlimit(resource.RLIMIT_STACK, (STACK_BYTES, hard))


def run(settings: Settings) -> None:
    """Check the model, and run the application.

    Raises:
        InputError: if the model, or the series, is not what it must be.
    """
    # torch comes first: Holoscan's libraries need the CUDA runtime that PyTorch loads
    from scripts.deploy.weights import check_weights

    check_weights(settings.bundle_root)
    from scripts.deploy.pipeline import StainApplication

    StainApplication(settings).run()


if __name__ == "__main__":
    plain_errors()
    main(sys.argv[1:])
