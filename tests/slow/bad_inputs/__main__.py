"""All kinds, and what came of them: ``python -m tests.slow.bad_inputs [--only WORD] [--write docs/bad_inputs.md]``."""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.slow.bad_inputs.bench import Kind, Outcome, Shared, outcome
from tests.slow.bad_inputs.kinds import KINDS

TOLD = re.compile(r"^(error|note|wrong result|not done|warning)|^[\w.]+(Error|Exception|Exit|Interrupt)\b|Fatal")
COLUMNS = ("clean", "accepted", "monai", "traceback", "flat", "unclear")
TEXT = """# Bad inputs

`python -m tests.slow.bad_inputs --write docs/bad_inputs.md` gives each command inputs that are wrong, or look it, each of another
kind, and counts what a user sees. `tests/slow/test_bad_inputs.py` holds each kind to what is right for it.

- **one line**: refused in a line that names the thing, the value and the way out; nothing else is said.
- **accepted**: the input is good, if unusual, and its result is the right one.
- **MONAI's**: `monai.bundle` cannot read the config files themselves and stops before anything of ours runs, with a traceback of
  its own whose last line says why.
- **traceback**, **flat or empty** (a picture of one colour, or an empty file, with exit code 0), **unclear** (no answer in 90 s, a
  crash, or an exit code without a line): faults, of which there should be none.

| command | kinds | one line | accepted | MONAI's | traceback | flat or empty | unclear |
|---|---|---|---|---|---|---|---|
"""


def main() -> None:
    """Run, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="kinds whose command or name has this word")
    parser.add_argument("--write", type=Path, help="the page")
    options = parser.parse_args()
    found: list[tuple[Kind, Outcome]] = []
    with tempfile.TemporaryDirectory() as scratch:
        shared = Shared(Path(scratch, "shared"))
        for number, kind in enumerate(KINDS):
            if options.only not in f"{kind.command}: {kind.name}":
                continue
            began = time.monotonic()
            result = outcome(kind, shared, Path(scratch, str(number)))
            found.append((kind, result))
            mark = "" if result.right else "WRONG "
            print(f"{time.monotonic() - began:5.1f} s {mark}{kind.command}: {kind.name}: {result.what}", flush=True)
            if not result.right:
                errors = [line for line in result.said.splitlines() if TOLD.search(line)]
                print("    " + "\n    ".join(line[:400] for line in errors[:9]), flush=True)
    print(table(found))
    if options.write:
        options.write.write_text(TEXT + table(found) + "\n", encoding="utf-8")


def table(found: list[tuple[Kind, Outcome]]) -> str:
    """Counts by command."""
    rows = []
    commands = list(dict.fromkeys(kind.command for kind, _ in found))
    for name in [*commands, None]:
        counts = Counter(result.what for kind, result in found if name in (kind.command, None))
        head = f"`{name}`" if name else "**all**"
        cells = [head, str(sum(counts.values())), *(str(counts[what]) for what in COLUMNS)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
