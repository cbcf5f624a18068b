"""A trained bundle as MONAI's model zoo and the hub want it, tried in an empty folder."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from bundle.common.atomic import check_writable, whole_file, whole_folder
from bundle.common.config_text import write_config
from bundle.common.errors import InputError
from bundle.common.extras import install_line
from bundle.common.run_folder import read_record
from bundle.common.trained_bundle import config_files, fingerprint, read_config
from bundle.training.export_readme import readme
from bundle.training.hub import LARGE_BYTES, fill_hub, hub_faults

NAME = re.compile(r"[a-z][a-z0-9_]*")
EXACT = re.compile(r"\d+(\.\d+)*")
NEEDED = (
    *("LICENSE", "docs/README.md", "configs/inference.json", "configs/metadata.json", "configs/logging.conf"),
    *("models/model.pt", "models/model.ts"),
)
FIELDS = (
    *("schema", "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version"),
    *("changelog", "task", "description", "authors", "copyright", "network_data_format"),
)
EPOCH = (1980, 1, 1, 0, 0, 0)  # of every file in the zip, so that the same bundle gives the same zip
CHILD_SECONDS = 600
BESIDE = ("models/sections.npz", "models/likeness.npz", "models/error_map.pt")  # the weights, where they are


def export(
    bundle: str,
    output: str | None = None,
    name: str = "virtual_staining",
    version: str | None = None,
    change: str | None = None,
    onnx: bool = True,
    schema: str | None = None,
    hub: str | None = None,
) -> str:
    """Pack a trained bundle for MONAI's model zoo or a hub, and try what was packed in an empty folder.

    In it, ``configs/inference.json`` stains a volume with MONAI's own parts and ``models/model.ts``;
    ``configs/slides.json`` is what stained slides in the trained bundle, ``configs/volume.json`` its overlay.

    Args:
        bundle: the trained bundle, ``RUN/bundle``.
        output: the zip to make, ``NAME.zip``; none makes none.
        name: of the folder in it, and in the zoo: lower-case letters, digits and underscores.
        version: of the model in ``metadata.json``; None for what is there.
        change: what is new in that version.
        onnx: add ``models/model.onnx``.
        schema: MONAI's metadata schema, a file; None leaves the check against it out.
        hub: a folder to make with the same content, a model card and a list of large files: to upload.

    Returns:
        What was made and checked, a line each.

    Raises:
        InputError: if the bundle is not whole, or a check fails; then nothing is written.
    """
    root = Path(str(bundle))
    path, place = (None if wish is None else Path(str(wish)) for wish in (output, hub))
    _check_wishes(root, path, place, str(name), version, change, onnx)
    if schema is not None and not Path(str(schema)).is_file():
        raise InputError(f"schema {schema} is no file; name MONAI's metadata schema, or leave it out.")
    for made, option in ((path, "output"), (place, "hub")):
        if made is not None:
            check_writable(made.parent, f"the folder of {option}")
    with _scratch() as scratch:
        folder = Path(scratch) / "made" / str(name)
        _lay_out(root, folder, str(name), version, change)
        if onnx:
            _add_onnx(folder)
        zipped = Path(scratch) / "made.zip"
        pack(folder, zipped)
        said = check(zipped, None if schema is None else Path(str(schema)), Path(scratch))
        told: list[str] = []
        if place is not None:
            with whole_folder(place) as partial:
                told += [*fill_hub(folder, partial, root), str(place)]
        if path is not None:
            with whole_file(path) as partial:
                shutil.copy(zipped, partial)
            told += [*(_large(folder) if place is None else []), str(path)]
    return "\n".join([*(f"checked: {line}" for line in said), *told])


def _large(folder: Path) -> list[str]:
    """A line for each file that the zoo wants elsewhere."""
    return [
        f"{file.relative_to(folder)} has {file.stat().st_size / 1e6:.0f} MB: for the zoo, upload it and list it in "
        "large_files.yml, which --hub FOLDER writes"
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.stat().st_size > LARGE_BYTES
    ]


def _check_wishes(
    root: Path, path: Path | None, hub: Path | None, name: str, version: Any, change: Any, onnx: Any
) -> None:
    faults = hub_faults(hub)
    if path is None and hub is None:
        faults.append("nothing is to be made; pass --output NAME.zip, --hub FOLDER, or both.")
    if not NAME.fullmatch(name):
        faults.append(f"name is {name!r}; it must be lower-case letters, digits and underscores, a letter first.")
    if path is not None and path.suffix != ".zip":
        faults.append(f"output is {path}; it must end in .zip.")
    if version is not None and not EXACT.fullmatch(str(version)):
        faults.append(f"version is {version!r}; it must be numbers and dots, such as 0.2.0.")
    if version is not None and not change:
        faults.append(f"version {version} is given without what is new in it; add --change TEXT.")
    if not isinstance(onnx, bool):
        faults.append(f"onnx is {onnx!r}; it must be true or false.")
    if onnx is True and not all(find_spec(package) for package in ("onnx", "onnxscript", "onnxruntime")):
        faults.append(f"ONNX needs packages that are not there; {install_line('export')}, or pass --onnx false.")
    if find_spec("itk") is None:
        faults.append(f"what is packed is tried with MONAI's own readers; {install_line('export')}.")
    if not config_files(root)[1:]:
        faults.append(
            f"{root} has no configs/series.json; it is exported already, or of an earlier version, whose training "
            "command with --resume true writes it anew."
        )
    fingerprint(root)  # says so if there is no model
    read_record(root / "configs" / "metadata.json")  # likewise
    if not (root / "models" / "model.ts").is_file():
        faults.append(f"{root}/models/model.ts does not exist: TorchScript could not express this network.")
    if faults:
        raise InputError("\n".join(faults))


def _lay_out(root: Path, folder: Path, name: str, version: str | None, change: str | None) -> None:
    """Fill the folder that is zipped, but for the ONNX model."""
    hidden = shutil.ignore_patterns("__pycache__", ".*")
    for part in ("bundle", "docs"):
        shutil.copytree(root / part, folder / part, ignore=hidden)
    for file in (
        "README.md",
        "LICENSE",
        "models/model.pt",
        "models/model.ts",
        *(file for file in BESIDE if (root / file).is_file()),
        "configs/volume.json",
        *(file for file in ("configs/slide.json",) if (root / file).is_file()),  # bundles of before have none
        "configs/logging.conf",
    ):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / file, folder / file)
    config = read_config(root)
    shutil.copyfile(root / "configs" / "inference.json", folder / "configs" / "slides.json")
    write_config(folder / "configs" / "inference.json", merged(root))
    metadata = read_record(root / "configs" / "metadata.json")
    new: dict[str, Any] = {}
    if version is not None:
        new = {"version": str(version), "changelog": {str(version): change, **metadata["changelog"]}}
    write_config(folder / "configs" / "metadata.json", metadata, new)
    metadata |= new
    (folder / "docs" / "README.md").write_text(readme(name, config, metadata, root), encoding="utf-8")


def merged(bundle_root: Path) -> dict[str, Any]:
    """``inference.json`` and ``series.json`` of a trained bundle as one config, without what only slides need."""
    from monai.bundle import ConfigParser  # here, as it takes seconds

    parser = ConfigParser()
    parser.read_config([str(path) for path in config_files(bundle_root)])
    config = {key: value for key, value in parser.get().items() if key != "_meta_"}
    slides = ("mask", "output_format", "files", "whole_image", "accelerated", "speed", "background_rgb", "model")
    for key in (*slides, "windows", "side_by_side", "trust", "refuse_unlike"):
        config.pop(key, None)
    config["windows_apart"] = "@step"
    config["direction"] = "forward"
    return config


def _add_onnx(folder: Path) -> None:
    from monai.bundle.scripts import onnx_export  # here, as it takes seconds

    with _quietly():
        onnx_export(
            "network_def",
            str(folder / "models" / "model.onnx"),
            ckpt_file=str(folder / "models" / "model.pt"),
            meta_file=str(folder / "configs" / "metadata.json"),
            config_file=str(folder / "configs" / "inference.json"),
            input_shape=_input_shape(folder),
        )


@contextmanager
def _scratch() -> Iterator[str]:
    """A folder for temporary files, those too that the ONNX exporter makes of the weights and leaves behind."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory() as scratch:
        tempfile.tempdir = scratch
        try:
            yield scratch
        finally:
            tempfile.tempdir = before


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what exporters tell of each of their steps, and of TorchScript's being deprecated upstream."""
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def pack(folder: Path, path: Path) -> None:
    """Zip a folder under its own name; the same content gives the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                entry = zipfile.ZipInfo(str(Path(folder.name) / file.relative_to(folder)), EPOCH)
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                archive.writestr(entry, file.read_bytes())


def check(path: Path, schema: Path | None, scratch: Path) -> list[str]:
    """What the model zoo's CI checks of a bundle, and that it stains a volume, all in an empty folder.

    Args:
        path: the zip.
        schema: MONAI's metadata schema; None leaves that check out.
        scratch: an empty place to unpack it in.

    Returns:
        What holds, a line each.

    Raises:
        InputError: naming the first check that fails.
    """
    with zipfile.ZipFile(path) as archive:
        archive.extractall(scratch / "unpacked")
    (root,) = (scratch / "unpacked").iterdir()
    missing = [name for name in NEEDED if not (root / name).is_file()]
    if missing:
        raise InputError(f"the zip has no {', no '.join(missing)}.")
    metadata = read_record(root / "configs" / "metadata.json")
    faults = metadata_faults(metadata)
    if faults:
        raise InputError("\n".join(faults))
    files = ["--meta_file", "configs/metadata.json", "--config_file", "configs/inference.json"]
    said = ["every file is there", "metadata has every field, a version with its changelog, exact versions of packages"]
    if schema is None:
        said.append("(not against MONAI's metadata schema: pass --schema FILE)")
    else:
        _child(root, "verify_metadata", "--meta_file", "configs/metadata.json", "--filepath", str(schema.absolute()))
        said.append("metadata fits MONAI's schema")
    _child(root, "verify_net_in_out", "--net_id", "network_def", "--device", "cpu", *files)
    said.append("the network takes and gives what the metadata says")
    again = ["--filepath", str(scratch / "again.ts"), "--ckpt_file", "models/model.pt"]
    _child(root, "ckpt_export", "--net_id", "network_def", *again, *files)
    said += _same_image(root, scratch / "again.ts")
    scan = _ramp(scratch, root)
    given = scan[0] if len(scan) == 1 else str(scan)
    _child(root, "run", "inference", *files[2:], "--input", given, "--output_dir", str(scratch / "out"))
    if not list((scratch / "out").glob("*.nrrd")):
        raise InputError("the zip's configs/inference.json ran, but left no stained volume.")
    said.append("configs/inference.json stained a volume, from an empty folder")
    return said


def metadata_faults(metadata: Mapping[str, Any]) -> list[str]:
    """What is wrong with a ``metadata.json`` by the rules of the zoo that its schema does not hold, a line each."""
    faults = [f"metadata.json has no {field}." for field in FIELDS if not metadata.get(field)]
    if metadata.get("version") not in metadata.get("changelog", {}):
        faults.append(
            f"metadata.json has version {metadata.get('version')}, but its changelog does not say what is new."
        )
    pins = {name: metadata.get(f"{name}_version") for name in ("monai", "pytorch", "numpy")}
    for package, version in {**pins, **metadata.get("required_packages_version", {})}.items():
        if not EXACT.fullmatch(str(version)):
            faults.append(f"metadata.json wants {package} {version}; the zoo wants one exact version.")
    return faults


def _same_image(root: Path, again: Path) -> list[str]:
    """Compare the networks of a bundle on one window of noise."""
    import torch  # here, as it takes seconds

    x = torch.rand(_input_shape(root), generator=torch.Generator().manual_seed(0)) * 2 - 1
    with _quietly(), torch.no_grad():
        made, anew = (torch.jit.load(str(script)).eval()(x) for script in (root / "models" / "model.ts", again))
    if not torch.equal(made, anew):
        raise InputError("models/model.ts gives another image than models/model.pt; train again, or copy both anew.")
    said = ["models/model.ts gives the image of models/model.pt"]
    onnx = root / "models" / "model.onnx"
    if onnx.is_file():
        import onnxruntime  # of the extra ``export``

        session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
        (other,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        largest = float(np.abs(other - made.numpy()).max()) * 127.5
        if largest > 1:
            raise InputError(f"models/model.onnx differs from models/model.pt by {largest:.1f} of 255 grey levels.")
        said.append(f"models/model.onnx gives it within {largest:.2g} of 255 grey levels")
    return said


def _input_shape(folder: Path) -> list[int]:
    """Of a window, as the network takes it."""
    formats = read_record(folder / "configs" / "metadata.json")["network_data_format"]
    return [1, formats["inputs"]["image"]["num_channels"], *[read_config(folder)["window"] or 256] * 2]


def _ramp(scratch: Path, root: Path) -> list[str]:
    """A small scan from the darkest to the brightest value that the model takes, as a NIfTI a channel."""
    source = read_config(root)["source"]
    low, high = source["range"]
    voxels = np.linspace(low, high, 40 * 36 * 3, dtype=np.float32).reshape(40, 36, 3)
    paths = [str(scratch / f"scan_{channel}.nii.gz") for channel in range(source["channels"])]
    for path in paths:
        nibabel.Nifti1Image(voxels, np.eye(4)).to_filename(path)
    return paths


def _child(root: Path, *words: str) -> None:
    """``python -m monai.bundle`` in a bundle's folder, without this repository.

    Raises:
        InputError: with its last line, if it fails.
    """
    command = [sys.executable, "-m", "monai.bundle", *words]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=CHILD_SECONDS, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise InputError(f"check {words[0]} failed in the unpacked zip: {lines[-1]}")
