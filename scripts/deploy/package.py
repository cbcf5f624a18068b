"""The build context of a MONAI Application Package: ``python -m scripts.deploy.package -m BUNDLE -o CONTEXT``."""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

from bundle.common.atomic import whole_folder, write_json
from bundle.common.command_line import command
from bundle.common.errors import InputError
from bundle.common.trained_bundle import LIKENESS, config_files, fingerprint, read_stock_config, refusal_faults
from scripts.deploy.context import APP, MODELS, check_context
from scripts.deploy.settings import RULES, check_levels, find_bundle, read_rules

HERE = Path(__file__).parent
HOME = HERE.parents[1]
START = "scripts/deploy/app.py"
MODEL = "virtual_staining"  # the bundle's folder in the package
TAG = "virtual-staining:latest"


def package(
    model: str,
    output: str,
    rules: str | None = None,
    bone_intensity: float | None = None,
    background_intensity: float | None = None,
) -> str:
    """Write all that ``docker build`` needs for a MONAI Application Package of a trained bundle; no docker is needed.

    Args:
        model: the trained bundle, output_dir/bundle of a run.
        output: the folder to make; an earlier context there is replaced.
        rules: JSON: which series may be stained; see scripts/deploy/rules.json.
        bone_intensity: mean grey value of bone in the series that the package will get.
        background_intensity: likewise, of background.

    Returns:
        What was written.

    Raises:
        InputError: if the bundle or the rules are not what they must be, or output holds something else.
    """
    bundle_root, target = find_bundle(Path(str(model))), Path(str(output))
    read_stock_config(bundle_root)  # says so if it stains slides alone
    earlier = (target / "map" / "pkg.json").is_file()
    if target.exists() and not earlier and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"--output {target} holds something other than a build context; choose another folder.")
    rules_file = Path(str(rules)) if rules else RULES
    read = read_rules(rules_file)
    content = json.loads(rules_file.read_text(encoding="utf-8"))
    levels = {"bone_intensity": read.bone_intensity, "background_intensity": read.background_intensity}
    given = {"bone_intensity": bone_intensity, "background_intensity": background_intensity}
    levels.update({name: value for name, value in given.items() if value is not None})
    if any(value is not None for value in levels.values()):
        check_levels(bundle_root, rules_file, **levels)
        content |= {name: value for name, value in levels.items() if value is not None}
    if faults := refusal_faults(bundle_root, read.refuse_unlike):
        raise InputError(faults[0])
    with whole_folder(target) as folder:
        write_context(folder, bundle_root, content)
        if faults := check_context(folder, bundle_root):
            raise InputError("\n".join(faults))
    told = "" if content.keys() & levels.keys() else "\nit has no reference intensities: give them at every run."
    return (
        f"{target}: the build context, checked; model {fingerprint(bundle_root)[:12]}.{told}\n"
        f"image not built: on a machine with docker, run docker build -t {TAG} {target}"
    )


def write_context(folder: Path, bundle_root: Path, rules: dict[str, Any]) -> None:
    """Write a build context.

    Args:
        folder: where, empty.
        bundle_root: the trained bundle.
        rules: content of the rules file.
    """
    for path in sorted(imported(START)):
        _copy(HOME / path, folder / "app" / path)
    write_json(folder / "app" / "scripts" / "deploy" / RULES.name, rules)
    weights = [bundle_root / "models" / name for name in ("model.pt", "model.ts")]
    metadata = bundle_root / "configs" / "metadata.json"
    for path in [*config_files(bundle_root), metadata, *weights, bundle_root / "LICENSE"]:
        if not path.is_file():
            raise InputError(f"{path} does not exist; give RUN/bundle of a run.")
        _copy(path, folder / "models" / MODEL / path.relative_to(bundle_root))
    if (bundle_root / LIKENESS).is_file():  # bundles of before there was any have none
        _copy(bundle_root / LIKENESS, folder / "models" / MODEL / LIKENESS)
    for name in ("requirements.txt", "runtime.txt"):
        _copy(HERE / name, folder / "pip" / name)
    _copy(HERE / "tools.sh", folder / "tools")
    (folder / "tools").chmod(0o755)

    described = json.loads(metadata.read_text(encoding="utf-8"))
    values = {
        "tag": TAG,
        "title": " ".join(str(described["name"]).replace('"', "").split()),
        "version": str(described["version"]),
        "sdk_version": _pinned("monai-deploy-app-sdk"),
        "sha256": fingerprint(bundle_root),
    }
    write_json(folder / "map" / "app.json", app_manifest(values))
    write_json(folder / "map" / "pkg.json", package_manifest(values))
    # JSON is YAML; holoscan-cli reads the same from it
    described_app = {"title": values["title"], "version": values["version"], **FORMATS}
    write_json(folder / "app.yaml", {"application": described_app, "resources": RESOURCES})
    template = Template((HERE / "Dockerfile.template").read_text(encoding="utf-8"))
    (folder / "Dockerfile").write_text(template.substitute(values), encoding="utf-8")
    (folder / ".dockerignore").write_text("**/__pycache__\n**/*.pyc\nSHA256SUMS\n", encoding="utf-8")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = [f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")


FORMATS = {"input-formats": ["DICOM"], "output-formats": ["DICOM"]}
RESOURCES = {"cpu": 2, "gpu": 0, "memory": "8Gi", "gpuMemory": "0Gi"}


def app_manifest(values: dict[str, str]) -> dict[str, Any]:
    """What a MAP says of its application: ``app.json``, with the fields of holoscan-cli 4.2."""
    variables = {
        "HOLOSCAN_APPLICATION": APP,
        "HOLOSCAN_INPUT_PATH": "input/",
        "HOLOSCAN_OUTPUT_PATH": "output/",
        "HOLOSCAN_WORKDIR": "/var/holoscan",
        "HOLOSCAN_MODEL_PATH": MODELS,
        "HOLOSCAN_CONFIG_PATH": "/var/holoscan/app.yaml",
        "HOLOSCAN_APP_MANIFEST_PATH": "/etc/holoscan/app.json",
        "HOLOSCAN_PKG_MANIFEST_PATH": "/etc/holoscan/pkg.json",
    }
    return {
        "apiVersion": "1.0.0",
        # a string that holds JSON, as holoscan-cli has it
        "command": json.dumps(["python3", "-m", "scripts.deploy.app"]),
        "environment": variables,
        "input": {"path": "input/", "formats": FORMATS["input-formats"]},
        "liveness": None,
        "output": {"path": "output/", "formats": FORMATS["output-formats"]},
        "readiness": None,
        "sdk": "monai-deploy",
        "sdkVersion": values["sdk_version"],
        "timeout": 0,
        "version": values["version"],
        "workingDirectory": "/var/holoscan",
    }


def package_manifest(values: dict[str, str]) -> dict[str, Any]:
    """What a MAP says of its container: ``pkg.json``, likewise."""
    return {
        "apiVersion": "1.0.0",
        "applicationRoot": APP,
        "modelRoot": MODELS,
        "models": {MODEL: f"{MODELS}/{MODEL}"},
        "resources": RESOURCES,
        "version": values["version"],
        "platformConfig": "cpu",
    }


def imported(start: str) -> set[str]:
    """The files of this repository that a Python file needs: what it imports, and so on, and the packages around them.

    Args:
        start: of which file, from the repository's root.
    """
    found: set[str] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        parents = [folder / "__init__.py" for folder in Path(path).parents if (HOME / folder / "__init__.py").is_file()]
        waiting += [parent.as_posix() for parent in parents]
        for name in _imports(ast.parse((HOME / path).read_text(encoding="utf-8"))):
            base = Path(*name.split("."))
            waiting += [
                each.as_posix()
                for each in (base.with_suffix(".py"), base / "__init__.py")
                if name and (HOME / each).is_file()
            ]
    return found


def _imports(tree: ast.AST) -> Iterator[str]:
    """What a module imports when it runs: what stands there for its types alone is left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)  # the name may be a module
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield from _imports(node)


def _pinned(name: str) -> str:
    lines = (HERE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return next(line.split("==")[1] for line in lines if line.startswith(f"{name}=="))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    command(package)
