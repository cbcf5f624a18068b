"""What a run's page was made from, to be read and changed."""

from __future__ import annotations

import csv
from pathlib import Path

from bundle.report.run import write


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def written(folder: Path) -> str:
    return write(folder).read_text(encoding="utf-8")
