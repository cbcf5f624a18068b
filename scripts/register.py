"""Find a section in a scan: ``python -m scripts.register --volume SCAN --section SLIDE --output PAIR``."""

from bundle.common.command_line import command
from bundle.preparation.registration.run import register

if __name__ == "__main__":
    command(register)
