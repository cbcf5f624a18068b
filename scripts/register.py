"""Find a section in a scan, or bring two slides onto one grid.

``python -m scripts.register --volume SCAN --section SLIDE --output PAIR``, or
``python -m scripts.register --source SLIDE --target SLIDE --output PAIR``.
"""

import sys

from bundle.common.command_line import command
from bundle.common.errors import plain_errors
from bundle.preparation.registration.forms import form_of

if __name__ == "__main__":
    plain_errors()
    command(form_of(sys.argv[1:]))
