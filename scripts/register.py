"""Find a section in a scan: ``python -m scripts.register --volume SCAN --section SLIDE --output PAIR``."""

from bundle.commands import command
from bundle.registration.run import register

if __name__ == "__main__":
    command(register)
