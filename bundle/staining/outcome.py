"""What a user looks at when a volume is stained: pictures and a page."""

from __future__ import annotations

from bundle.common.run_folder import read_record
from bundle.common.verdicts import in_words
from bundle.images.stained.stored import open_stain
from bundle.staining.answer import stripes
from bundle.staining.crate import CRATE, write_crate
from bundle.staining.job import RECORD, map_of
from bundle.staining.page import PAGE, left, write_page
from bundle.staining.progress import bar
from bundle.staining.run import Run
from bundle.staining.seen import Grey


def show(run: Run, scan: Grey | None) -> None:
    """Make the pictures and the page of a finished run, unless they are there, and say what is where.

    Args:
        run: finished.
        scan: what is shown of its scan.
    """
    new = not (run.folder / PAGE).exists()
    if new:
        with bar("pictures", "slice", run.shown) as report:
            write_page(run.folder, open_stain(run.folder / run.result), scan, report)
    record = read_record(run.folder / RECORD)
    if new or not (run.folder / CRATE).exists():
        write_crate(run.folder / RECORD, record, left())
    spent = record["spent"]
    skipped = f", {spent['windows_skipped']} more lay outside the sample" if spent["windows_skipped"] else ""
    if new:
        print(f"{spent['windows']} windows in {spent['seconds']:.0f} s of computing, summed over processes{skipped}")
    for axis, told in record.get("likeness", {}).items():
        print(f"across {axis}, {in_words(told)}")
    for warning in stripes(record):
        print(f"note: {warning}")
    for path in (run.folder / run.result, map_of(run.folder / run.result), run.folder / PAGE):
        if path.exists():
            print(path)
