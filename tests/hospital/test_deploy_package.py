"""The build context of a MONAI Application Package: whole, checked, and its application runs by itself."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bundle.common.errors import InputError
from bundle.common.trained_bundle import LIKENESS
from scripts.deploy.context import check_context
from scripts.deploy.package import package
from tests.hospital.conftest import needs
from tests.hospital.deploy_parts import hard_slices, level_words, make_bundle, run_app, stained
from tests.hospital.series import save

# at a stranger's: who imports what is not in the package's requirements is told that it is not there
ALONE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def not_required(context: Path) -> set[str]:
    """Modules of the training environment, which the Deploy one sees, that a package's requirements do not bring."""
    lines = [line for path in (context / "pip").iterdir() for line in path.read_text().splitlines()]
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines if "==" in line}
    waiting, brought = [*pinned], set[str]()
    while waiting:
        name = waiting.pop()
        if name in brought:
            continue
        brought.add(name)
        with suppress(metadata.PackageNotFoundError):
            needed = [Requirement(line) for line in metadata.distribution(name).requires or []]
            here = [each for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
            waiting += [canonicalize_name(each.name) for each in here]
    modules = metadata.packages_distributions().items()
    strange = {module for module, names in modules if not {canonicalize_name(name) for name in names} & brought}
    return strange - {"bundle", "scripts"}  # the application's own, under the same names


@pytest.fixture(scope="module")
def bundle(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose dataset declared reference intensities."""
    return make_bundle(trained, tmp_path_factory.mktemp("deploy") / "bundle")


@pytest.fixture
def context(bundle: Path, tmp_path: Path) -> Path:
    """A build context that has reference intensities."""
    told = package(str(bundle), str(tmp_path / "context"), bone_intensity=28000, background_intensity=9000)
    assert "image not built" in told
    return tmp_path / "context"


def test_a_context_holds_what_its_files_name_and_no_data(bundle: Path, context: Path) -> None:
    assert check_context(context, bundle) == []
    sums = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=context, capture_output=True, text=True)
    assert sums.returncode == 0, sums.stdout
    manifest, pkg = (json.loads((context / "map" / name).read_text()) for name in ("app.json", "pkg.json"))
    assert json.loads(manifest["command"]) == ["python3", "-m", "scripts.deploy.app"]
    held = context / "models" / next(iter(pkg["models"]))
    weights = (bundle / "models" / "model.pt").read_bytes()
    assert (held / "models" / "model.pt").read_bytes() == weights
    assert hashlib.sha256(weights).hexdigest() in (context / "Dockerfile").read_text()
    assert json.loads((context / "app/scripts/deploy/rules.json").read_text())["bone_intensity"] == 28000
    assert (held / LIKENESS).read_bytes() == (bundle / LIKENESS).read_bytes()
    assert not {path.suffix for path in context.rglob("*") if path.is_file() and path != held / LIKENESS} - {
        *("", ".py", ".json", ".txt", ".pt", ".ts", ".yaml")
    }


def test_the_same_bundle_gives_the_same_context_and_a_fault_leaves_the_earlier_one(
    bundle: Path, context: Path, tmp_path: Path
) -> None:
    first = (context / "SHA256SUMS").read_bytes()
    package(str(bundle), str(context), bone_intensity=28000, background_intensity=9000)
    assert (context / "SHA256SUMS").read_bytes() == first
    shutil.copytree(bundle, tmp_path / "broken")
    (tmp_path / "broken" / "models" / "model.ts").unlink()
    with pytest.raises(InputError, match=r"model\.ts does not exist"):
        package(str(tmp_path / "broken"), str(context))
    assert (context / "SHA256SUMS").read_bytes() == first
    with pytest.raises(InputError, match="something other"):
        package(str(bundle), str(tmp_path))
    with pytest.raises(InputError, match="nothing is assumed"):
        package(str(bundle), str(context), bone_intensity=28000)


def test_what_is_wrong_with_a_context_is_found(bundle: Path, context: Path) -> None:
    (context / "map" / "app.json").write_text('{"command": 3}')
    (context / "pip" / "runtime.txt").unlink()
    faults = "\n".join(check_context(context, bundle))
    for said in (
        "app.json has no sdkVersion",
        "command is 3",
        "copies ./pip/runtime.txt",
        "app.json is not what SHA256",
    ):
        assert said in faults


def test_a_picture_in_a_models_folder_is_found(bundle: Path, context: Path) -> None:
    picture = context / "models" / "virtual_staining" / "ct.tif"
    picture.write_bytes(b"a scan")
    lines = (context / "SHA256SUMS").read_text()
    digest = hashlib.sha256(b"a scan").hexdigest()
    (context / "SHA256SUMS").write_text(f"{lines}{digest}  models/virtual_staining/ct.tif\n")
    assert check_context(context, bundle) == ["models/virtual_staining/ct.tif has no place in a package."]


def test_the_command_line_packages(bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts.deploy.package", "-m", bundle, "-o", tmp_path / "context"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "give them at every run" in done.stdout
    assert "image not built" in done.stdout


@pytest.mark.slow
def test_the_packaged_application_runs_without_this_repository(bundle: Path, context: Path, tmp_path: Path) -> None:
    needs("deploy")
    scan = save(tmp_path / "ct", hard_slices())
    (alone := tmp_path / "alone").mkdir()
    absent = not_required(context)
    assert {"itk", "fire", "ignite", "tifffile", "zarr", "pynetdicom"} <= absent
    (alone / "sitecustomize.py").write_text(ALONE.format(names=absent))
    (empty := tmp_path / "empty").mkdir()
    places = {"INPUT": scan, "OUTPUT": tmp_path / "packaged", "MODEL": context / "models"}
    variables = {f"HOLOSCAN_{name}_PATH": str(path) for name, path in places.items()}
    variables |= {"HOLOSCAN_CONFIG_PATH": str(context / "app.yaml"), "PYTHONDONTWRITEBYTECODE": "1", "PWD": str(empty)}
    done = run_app(PYTHONPATH=f"{alone}:{context / 'app'}", **variables)
    assert done.returncode == 0, done.stderr
    here = run_app("-i", scan, "-o", tmp_path / "here", "-m", bundle, *level_words())
    assert here.returncode == 0, here.stderr
    np.testing.assert_array_equal(stained(tmp_path / "packaged"), stained(tmp_path / "here"))
    assert [path.name for path in (tmp_path / "packaged").iterdir()] == [
        path.name for path in (tmp_path / "here").iterdir()
    ]
    assert not list(empty.iterdir())
    assert check_context(context, bundle) == []
