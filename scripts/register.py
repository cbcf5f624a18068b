"""Find a section in a scan, or bring two slides onto one grid; or do so with every line of a table.

``python -m scripts.register --volume SCAN --section SLIDE --output PAIR``, or
``python -m scripts.register --source SLIDE --target SLIDE --output PAIR``, or
``python -m scripts.register --table TABLE --output PAIRS``.
"""

import sys

from bundle.common.command_line import command
from bundle.common.errors import plain_errors
from bundle.preparation.registration.forms import is_of_slides, is_of_table
from bundle.preparation.registration.many import register_many
from bundle.preparation.registration.run import register
from bundle.preparation.registration.two_slides.run import register_slides

if __name__ == "__main__":
    plain_errors()
    words = sys.argv[1:]
    command(register_many if is_of_table(words) else register_slides if is_of_slides(words) else register)
