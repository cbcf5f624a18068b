"""Make a run's ``report.html`` again: ``python -m scripts.report --output_dir RUN``."""

from bundle.common.command_line import command
from bundle.report.run import remake

if __name__ == "__main__":
    command(remake)
