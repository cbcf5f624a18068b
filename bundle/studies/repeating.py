"""A run repeated from its record, as typed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from bundle.common.command_line import as_bool
from bundle.common.errors import InputError
from bundle.common.home import HOME
from bundle.common.run_folder import PROVENANCE
from bundle.studies import repetition

DIFFERENT = 3  # exit code if the weights are not those on record


def repeat(provenance: str, output_dir: str, dataset_dir: str | None = None, trust: bool = False) -> None:
    """Train again what a ``provenance.json`` records, and say whether the same weights came out.

    Data that is not the run's is refused; other versions, code or hardware are warned of. Exit code 0 if the weights
    are equal or none are on record, 3 if they differ, the training's if it fails.

    Args:
        provenance: the record of the run; nothing else of it is needed.
        output_dir: a new folder for the repeated run.
        dataset_dir: where the dataset is now; by default where it was.
        trust: also run code of the record that no config of this package has: it can do all that you can.
    """
    record = repetition.read_record(Path(provenance))
    folder, data = Path(output_dir).resolve(), Path(dataset_dir or record["dataset_dir"]).resolve()
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"output_dir {folder} is not empty; name a new folder.")
    changed = repetition.changed_files(record["data_sha256"], data)
    if changed:
        raise InputError("\n".join(changed))
    for line in repetition.differences(record):
        print("warning: " + "".join(sign if sign.isprintable() else "?" for sign in line), file=sys.stderr)
    with tempfile.TemporaryDirectory() as scratch:
        config = repetition.write_config(record, Path(scratch), as_bool("trust", trust))
        words = repetition.command(record, config, data, folder)
        code = subprocess.run(words, cwd=HOME, env=repetition.environment(record)).returncode
    if code:
        sys.exit(code)
    same, sentence = repetition.verdict(record, repetition.read_record(folder / PROVENANCE))
    print(sentence)
    if not same:
        sys.exit(DIFFERENT)
