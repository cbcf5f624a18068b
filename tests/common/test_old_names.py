"""What the version before the rooms left on disk, ``tests/files/earlier``, still stains and repeats.

It was made by that version from :func:`tests.conftest.make_dataset`'s pairs with ``tests.conftest.TINY``.
"""

import json
import shutil

import numpy as np
import pytest
import torch

from bundle.common.errors import InputError
from bundle.common.old_names import names_now
from bundle.images.slides import read_slide
from bundle.studies.repeating import repeat
from tests.conftest import ROOT, run_bundle

EARLIER = ROOT / "tests/files/earlier"


def test_a_trained_bundle_stains_as_it_did(tmp_path):
    bundle = shutil.copytree(EARLIER / "bundle", tmp_path / "bundle")
    done = run_bundle(
        "inference",
        str(bundle / "configs/inference.json"),
        bundle_root=bundle,
        input=EARLIER / "data/source/02.png",
        output_dir=tmp_path,
        device="cpu",
    )
    assert done.returncode == 0, done.stderr
    was, made = (read_slide(path).pixels.astype(int) for path in (EARLIER / "stained.png", tmp_path / "02_stained.png"))
    # the norm of the fast kernels rounds otherwise since white glass gives it exact zeros
    assert np.abs(was - made).max() <= 1
    assert (was != made).mean() < 1e-3


def test_a_record_repeats_to_the_same_weights(tmp_path):
    repeat(str(EARLIER / "provenance.json"), str(tmp_path / "run"), str(EARLIER / "data"))
    was, made = (
        torch.load(folder / "bundle/models/model.pt", weights_only=True) for folder in (EARLIER, tmp_path / "run")
    )
    for name, weights in was.items():
        torch.testing.assert_close(made[name], weights, rtol=0, atol=1e-3)  # another CPU may round otherwise


def test_code_that_neither_version_has_is_still_refused(tmp_path):
    record = json.loads((EARLIER / "provenance.json").read_text())
    record["config"]["train"]["trainer"]["_target_"] = "bundle.losses.system"
    (tmp_path / "provenance.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"bundle\.losses\.system"):
        repeat(str(tmp_path / "provenance.json"), str(tmp_path / "run"), str(EARLIER / "data"))


def test_a_name_is_told_where_it_may_be_now():
    assert names_now("bundle.runs.check") == ["bundle.training.run.check", "bundle.common.run_folder.check"]
    assert names_now("bundle.nuclei.trainer.NucleiTrainer") == ["bundle.nuclei.trainer.NucleiTrainer"]
    assert names_now("os.system") == ["os.system"]
