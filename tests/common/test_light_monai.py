"""MONAI loaded lightly does all that a run of ours asks of it, and hides nothing from anyone afterwards."""

from __future__ import annotations

import subprocess
import sys

from bundle.common.light_monai import IN_PARTS, UNUSED, hidden
from tests.conftest import ROOT

LOADED = """
import sys
from bundle.common.light_monai import UNUSED, load_lightly
load_lightly()
import monai.bundle
from monai.engines import SupervisedEvaluator, Trainer
from monai.inferers import SlidingWindowInferer
from monai.transforms import LoadImaged
there = [name for name in UNUSED if name in sys.modules]
import torch, torchvision, pandas, scipy.signal
from torch.distributed.optim import ZeroRedundancyOptimizer
assert ZeroRedundancyOptimizer.__module__.startswith("torch."), ZeroRedundancyOptimizer
data = torch.ones(1, 1, 8, 8)
evaluator = SupervisedEvaluator(
    device=torch.device("cpu"), val_data_loader=[{"image": data, "label": data}], network=torch.nn.Conv2d(1, 1, 1)
)
evaluator.run()
print(evaluator.state.iteration, there, monai.__spec__.loader.__class__.__name__)
"""


def test_monai_works_and_the_rest_is_there_when_it_is_asked_for():
    done = subprocess.run(
        [sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "1"
    assert done.stdout.split()[1] == "[]"
    assert done.stdout.split()[2] == "SourceFileLoader"


def test_what_is_loaded_is_left_alone_and_nothing_stays_hidden():
    import json.tool as tool

    before = dict(sys.modules)
    with hidden(("json.tool", "colorsys_that_is_not", *UNUSED)):
        assert sys.modules["json.tool"] is tool
        assert sys.modules["colorsys_that_is_not"] is None
        assert IN_PARTS in sys.modules
    assert {name for name, module in sys.modules.items() if module is None} == {
        name for name, module in before.items() if module is None
    }
    assert ("colorsys_that_is_not" in sys.modules, sys.modules.get(IN_PARTS)) == (False, before.get(IN_PARTS))
