"""Make a run's ``report.html`` again: ``python -m scripts.report --output_dir RUN``."""

from bundle.commands.main import script

if __name__ == "__main__":
    script("report")
