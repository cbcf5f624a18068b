"""Find a section in a scan, or bring two slides onto one grid; or do so with every line of a table.

``python -m scripts.register --volume SCAN --section SLIDE --output PAIR``, or
``python -m scripts.register --source SLIDE --target SLIDE --output PAIR``, or
``python -m scripts.register --table TABLE --output PAIRS``.
"""

from bundle.commands.main import script

if __name__ == "__main__":
    script("register")
