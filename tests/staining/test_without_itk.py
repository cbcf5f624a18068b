"""Staining slides in a Python that has no ITK, as the base install is: the same bytes, and no word about readers."""

import subprocess
import sys
import textwrap

from tests.conftest import ROOT, run_bundle

WITHOUT = """
    import runpy, sys
    sys.modules["itk"] = None
    sys.argv = sys.argv[1:]
    runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
"""


def test_slides_are_stained_alike_and_silently(trained, tmp_path):
    slide, bundle = trained.parent / "data" / "source" / "02.png", trained / "bundle"
    ids = {"bundle_root": bundle, "input": slide}
    config = str(bundle / "configs" / "inference.json")
    with_it = run_bundle("inference", config, **ids, output_dir=tmp_path / "with")
    assert with_it.returncode == 0, with_it.stderr
    words = ["monai.bundle", "run", "inference", "--config_file", config, "--output_dir", str(tmp_path / "without")]
    words += [word for name, value in ids.items() for word in (f"--{name}", str(value))]
    script = tmp_path / "without_itk.py"
    script.write_text(textwrap.dedent(WITHOUT))
    without = subprocess.run(
        [sys.executable, str(script), *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert without.returncode == 0, without.stderr
    one, other = ((tmp_path / name / "02_stained.png").read_bytes() for name in ("with", "without"))
    assert one == other
    said = (without.stdout + without.stderr).lower()
    assert "reader" not in said
    assert "itk" not in said.replace("without_itk", "")
