"""Small scans, and staining them as a user does it, but without starting Python anew each time."""

from __future__ import annotations

from pathlib import Path

import monai.bundle
import nibabel
import numpy as np
from scipy.ndimage import gaussian_filter

from bundle.common.errors import InputError, input_error
from bundle.images.stained.stored import open_stain
from bundle.staining.model import load_model
from tests.conftest import ROOT

SHAPE = (70, 48, 40)  # two whole slabs and the beginning of a third


def write_scan(path: Path, voxels: np.ndarray, voxel_um: float = 5.0) -> Path:
    """Write (Z, Y, X) as NIfTI."""
    step = voxel_um / 1000
    image = nibabel.Nifti1Image(np.transpose(voxels), np.diag([-step, -step, step, 1]))
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def make_voxels(shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> np.ndarray:
    """Smooth blobs, some noise: 16 bits."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=shape), 4)
    return np.clip(20000 + smooth / smooth.std() * 9000 + rng.normal(0, 800, shape), 0, 65535).astype(np.uint16)


def result(folder: Path, name: str = "stained.ome.zarr") -> np.ndarray:
    """What was stained, whole."""
    return open_stain(folder / name).read((slice(None),) * 3)


def stain(bundle: Path, scan: Path | str | list[str], output_dir: Path, config: str = "volume.json", **ids) -> None:
    """Run ``configs/volume.json``, or another, over a trained bundle's ``inference.json``.

    Raises:
        InputError: what a user would read as one line.
    """
    configs = [str(bundle / "configs" / "inference.json"), str(ROOT / "configs" / config)]
    given = {
        "bundle_root": str(bundle),
        "input": scan if isinstance(scan, list) else str(scan),
        "output_dir": str(output_dir),
        "device": "cpu",
        **ids,
    }
    given = {name: "null" if value is None else value for name, value in given.items()}  # MONAI drops None
    logging_file = str(bundle / "configs" / "logging.conf")
    try:
        monai.bundle.run(run_id="inference", config_file=configs, logging_file=logging_file, **given)
    except Exception as error:
        fault = input_error(error)
        if fault is None:
            raise
        raise InputError(str(fault)) from error


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, or a file itself, with its content."""
    files = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def stained_whole(bundle: Path, voxels: np.ndarray, axis: int, sigma: float = 1.0, **ids) -> np.ndarray:
    """The Gaussian over the whole volume, then each slice on its own: (Z, Y, X, 3)."""
    model = load_model(bundle, **ids)
    smooth = gaussian_filter(voxels.astype(np.float32), sigma, mode="nearest") if sigma else voxels
    slices = [model(each[None]).transpose(1, 2, 0) for each in np.moveaxis(smooth, axis, 0)]
    return np.moveaxis(np.stack(slices), 0, axis)
