"""Make a run's ``report.html`` again: ``python -m scripts.report --output_dir RUN``."""

import fire

from bundle.errors import plain_errors
from bundle.report import write

if __name__ == "__main__":
    plain_errors()
    fire.Fire(write, serialize=str)
