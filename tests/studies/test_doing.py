"""What a study says of its cells while they are at work, and how long it goes on."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from bundle.studies import progress as progress_module
from bundle.studies.plan import Cell
from bundle.studies.progress import Progress, doing_of

BAR = "epoch 1/4:   0%|   | 0/40 [00:00<?, ?step/s]\repoch 3/4:  60%|## | 24/40 [00:10<00:06, loss=1]\r"
SLIDES = "evaluating:   0%|  | 0/20 [00:00<?]\revaluating:  25%|# | 5/20 [00:05<00:17]\r"


def begin(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "begun.json").write_text(json.dumps({"worker": ""}))
    os.utime(folder / "begun.json", (1e9, 1e9))


def prints(folder: Path, task: str, text: str, at: float) -> None:
    (folder / f"{task}.out").write_text(text)
    os.utime(folder / f"{task}.out", (at, at))


def test_a_cell_trains_and_then_is_measured(tmp_path):
    begin(tmp_path)
    assert doing_of(tmp_path) == ("training begins", 0.0)
    prints(tmp_path, "training", BAR, 1e9 + 1)
    words, share = doing_of(tmp_path)
    assert words == "training, epoch 3 of 4"
    assert share == pytest.approx(0.9 * 0.6)
    prints(tmp_path, "training", "epoch 1/4  loss 1\nepoch 2/4  loss 1\n", 1e9 + 1)  # a bar that was not drawn again
    assert doing_of(tmp_path)[1] == pytest.approx(0.9 * 0.25)
    prints(tmp_path, "evaluation", SLIDES, 1e9 + 2)
    words, share = doing_of(tmp_path)
    assert words == "evaluation, 5 of 20"
    assert share == pytest.approx(0.9 + 0.1 * 0.25)


def test_what_an_earlier_try_printed_is_not_taken_for_this_one(tmp_path):
    begin(tmp_path)
    prints(tmp_path, "training", BAR, 1e9 - 5)
    prints(tmp_path, "evaluation", SLIDES, 1e9 - 4)
    assert doing_of(tmp_path) == ("training begins", 0.0)


def test_a_line_says_it_now_and_then_and_reckons_with_what_is_half_done(tmp_path, monkeypatch, caplog):
    now = [1000.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    caplog.set_level(logging.INFO, logger="bundle")
    cells = [Cell(name, 0, 0, (), {}) for name in ("one", "two")]
    names = [cell.name for cell in cells]
    progress = Progress(tmp_path, cells)
    begin(tmp_path / "cells" / names[0])
    progress.look()
    prints(tmp_path / "cells" / names[0], "training", BAR, 1e9 + 1)
    now[0] += 324  # for 0.54 of 2 cells: 600 s each, so that 876 s are left
    progress.look()
    told = f"0 of 2 cells done; 2 left, about 15 min; {names[0]}: training, epoch 3 of 4"
    assert caplog.messages[-1] == told
    said = len(caplog.messages)
    now[0] += 10
    progress.look()
    assert len(caplog.messages) == said  # not again so soon
    progress.close()
