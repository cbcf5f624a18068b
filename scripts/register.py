"""Find a section in a scan, or bring two slides onto one grid.

``python -m scripts.register --volume SCAN --section SLIDE --output PAIR``, or
``python -m scripts.register --source SLIDE --target SLIDE --output PAIR``.
"""

import sys

from bundle.common.command_line import command
from bundle.common.errors import plain_errors
from bundle.preparation.registration.forms import is_of_slides
from bundle.preparation.registration.run import register
from bundle.preparation.registration.two_slides.run import register_slides

if __name__ == "__main__":
    plain_errors()
    slides = is_of_slides(sys.argv[1:])
    command(register_slides if slides else register)
