"""What is not installed is told by the line that installs it, and that line is one of the package's own extras."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bundle.common.errors import line_of
from bundle.common.extras import EXTRAS, OF_MODULE, install_line, missing_extra

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "pyproject.toml"


def missing(name):
    return ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize(("module", "extra"), sorted(OF_MODULE.items()))
def test_a_missing_module_names_its_extra(module, extra):
    told = line_of(missing(f"{module}.inner"))
    assert told == f"this needs {module}, which is not installed; pip install 'virtual-staining[{extra}]'"


def test_a_reader_that_monai_lacks_is_told():
    code = "import sys; sys.modules['itk'] = None; from bundle.common.errors import line_of\n"
    code += "from monai.data import ITKReader\n"
    code += "try:\n    ITKReader()\nexcept ImportError as error:\n    print(line_of(error))"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said == "this needs itk, which is not installed; pip install 'virtual-staining[elastix]'\n"


def test_what_monai_wraps_is_told_too():
    wrapped = RuntimeError("Failed to instantiate component")
    wrapped.__cause__ = missing("stardist")
    assert "virtual-staining[nuclei]" in line_of(wrapped)


@pytest.mark.parametrize("error", [missing("no_such_thing"), ModuleNotFoundError("nameless"), ImportError("itk")])
def test_other_imports_keep_their_traceback(error):
    assert missing_extra(error) is None


def test_every_extra_is_one_of_the_package():
    declared = re.findall(r"^(\w+) = \[", PROJECT.read_text().partition("[project.optional-dependencies]")[2], re.M)
    assert set(EXTRAS) <= set(declared)
    assert install_line("slides") == "pip install 'virtual-staining[slides]'"
