"""Make a run's ``report.html`` again: ``python -m scripts.report --output_dir RUN``."""

from bundle.commands import command
from bundle.report import remake

if __name__ == "__main__":
    command(remake)
