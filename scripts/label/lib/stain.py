"""The inference task: a trained bundle on a grey volume, answered in colour."""

from __future__ import annotations

import copy
import logging
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import psutil
import SimpleITK as sitk  # noqa: N813
from fastapi import HTTPException
from lib.answers import BROKEN
from lib.colour import WRITERS
from lib.question import LEVELS, number
from lib.sent import FORMATS
from monai.bundle import ConfigParser
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.tasks.infer.bundle import BundleInferTask
from monailabel.utils.others.generic import strtobool
from torch import nn

from bundle.common.errors import InputError
from bundle.common.trained_bundle import config_files, fingerprint, intensity_faults, read_stock_config, stock_settings
from bundle.common.verdicts import NEITHER
from bundle.images.finite import nan_faults
from bundle.networks.checkpoints import load_network
from bundle.networks.sections import Sections
from bundle.networks.specimen_norm import statistics_of
from bundle.networks.specimen_volume import SpecimenVolume
from bundle.networks.volume_likeness import VolumeLikeness, volume_likeness

logger = logging.getLogger(__name__)

GIB = 2**30
VOXEL_BYTES = 90  # of memory a voxel of the scan; measured 83 with 400×400×80

# (the bundle, image id, colour (3, X, Y, Z), settings, how like the training data) → what was stored where
Publish = Callable[[str, str, np.ndarray, Mapping[str, Any], VolumeLikeness], dict[str, Any]]


class StainTask(BundleInferTask):
    """A bundle as MONAI Label serves it, with the parts of ``configs/series.json``.

    Weights are ``models/model.pt``, never ``model.ts``: they are read as tensors alone, and their checksum is what
    the DICOM objects name. The network's class is this repository's (``lib/__init__.py``).

    Args:
        path: the trained bundle.
        conf: of the server: the intensities, for requests that give none; ``refuse_unlike``.
        publish: puts a result into the PACS; None for a server that does not.
    """

    def __init__(self, path: str, conf: Mapping[str, str], publish: Publish | None = None) -> None:
        self.levels: tuple[Any, Any] = (None, None)
        self.sha256 = ""  # of the weights that are loaded
        self.judged = VolumeLikeness(None)  # the scan in hand
        self.refuse_unlike = strtobool(conf.get("refuse_unlike", "false"))
        self.publish = publish
        self.source = read_stock_config(path)["source"]
        # OTHERS, for the viewers would show what a segmentation gives as a mask
        super().__init__(
            path, dict(conf), type=InferType.OTHERS, extend_load_image=False, add_post_restore=False, load_strict=True
        )
        self.labels = {}  # `channel_def` has colours, not structures
        self.dimension = 3
        self.description = f"RESEARCH ONLY, synthetic: {self.description}"
        self._config.pop("model_filename")  # else a client chooses the file
        self._config |= {name: number(name, conf.get(name)) for name in LEVELS}
        self._config["result_extension"] = list(WRITERS)

    def _load_bundle_config(self, path: str, config: str) -> ConfigParser:
        parser = ConfigParser()
        parser.read_config([str(file) for file in config_files(path)])
        ids = dict(zip(LEVELS, self.levels, strict=True))
        parser.config.update({self.const.key_bundle_root(): path, **ids})
        return parser

    def check(self, levels: tuple[float | None, float | None]) -> None:
        """See that the intensities of a request are enough to go by.

        Raises:
            InputError: if not; nothing is guessed.
        """
        faults = intensity_faults(self.source, *levels)
        if faults:
            raise InputError("\n".join(faults))

    def pre_transforms(self, data: Mapping[str, Any]) -> Any:
        """The bundle's pre-processing for the intensities of this request."""
        self.levels = tuple(data[name] for name in LEVELS)
        self.check(self.levels)
        check_scan(data["image"])
        self.bundle_config = self._load_bundle_config(self.bundle_path, self.bundle_config_path)
        return super().pre_transforms(data)

    def run_inferer(self, data: dict[str, Any], convert_to_batch: bool = True, device: str = "cuda") -> dict[str, Any]:
        """Judge a prepared scan, ``image`` (C, Z, Y, X), and stain it.

        Raises:
            InputError: if it is unlike the training data, where such are refused.
        """
        self.judged = volume_likeness(self.bundle_path, data["image"].as_tensor(), self.refuse_unlike)
        logger.info("%s", self.judged.words or NEITHER)
        return super().run_inferer(data, convert_to_batch, device)

    def _get_network(self, device: str, data: Mapping[str, Any]) -> nn.Module:
        path = Path(self.bundle_path) / "models" / self.const.model_pytorch()
        written = path.stat().st_mtime_ns if path.exists() else None
        if written is None or self._networks.get(device, (None, None))[1] != written:
            try:
                self.sha256 = fingerprint(self.bundle_path)
                self._networks[device] = self._loaded(path, device), written
            except InputError as error:
                raise HTTPException(BROKEN, str(error)) from error
        return self._networks[device][0]

    def _loaded(self, path: Path, device: str) -> nn.Module:
        network = load_network(copy.deepcopy(self.network), str(path), device)
        if read_stock_config(self.bundle_path).get("normalisation") != "specimen":
            return network
        sections = Sections.load(path.with_name("sections.npz"), statistics_of(network))
        return SpecimenVolume(network, sections).to(device).eval()

    def writer(self, data: Mapping[str, Any], extension: str | None = None, dtype: Any = None) -> tuple[str, Any]:
        """Write colour.

        Args:
            data: with ``pred``, (3, X, Y, Z) uint8, and ``result_extension``.
            extension: not used.
            dtype: not used.

        Returns:
            The file, and what a client is told of it.
        """
        if fingerprint(self.bundle_path) != self.sha256:
            raise HTTPException(BROKEN, "models/model.pt was replaced while it was in use; ask again.")
        colour, affine = np.asarray(data["pred"], np.uint8), np.asarray(data["image"].meta["original_affine"])
        settings = stock_settings(read_stock_config(self.bundle_path), *self.levels)
        told = {
            "intended_use": "research only: a generated stain is a prediction, not a stain; not for diagnosis",
            "model_sha256": self.sha256,
            "settings": settings,
            "likeness": {"told": self.judged.words or NEITHER, **(self.judged.told or {})},
        }
        if self.publish is not None and data.get("image_id"):
            told["stored"] = self.publish(self.bundle_path, data["image_id"], colour, settings, self.judged)
        suffix = data["result_extension"]
        handle, name = tempfile.mkstemp(suffix=suffix)
        os.close(handle)
        try:
            WRITERS[suffix](Path(name), colour, affine)
        except BaseException:
            Path(name).unlink()
            raise
        return name, told


def check_scan(path: str) -> None:
    """Read the header of a scan, and its values if they may be none, before anything is computed.

    Raises:
        InputError: if it is no grey volume, one that does not fit into memory, or has NaN or infinite values.
    """
    name = Path(path).name
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(f"{name} cannot be read as an image; send a grey volume as NIfTI.") from error
    size, channels = reader.GetSize(), reader.GetNumberOfComponents()
    shown = "×".join(map(str, size))
    if len(size) != 3 or min(size) < 2 or channels != 1:
        raise InputError(f"{name} is {shown} with {channels} channels; a grey volume is needed.")
    needed, free = math.prod(size) * VOXEL_BYTES, psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"{name} is {shown}, for which MONAI's own parts need some {needed / GIB:.0f} GiB of memory, and "
            f"{free / GIB:.0f} GiB are free; configs/volume.json and python -m scripts.pacs need little."
        )
    if reader.GetPixelID() in (sitk.sitkFloat32, sitk.sitkFloat64):
        # ITK reads a NaN of a NIfTI as 0
        nifti = path.endswith(FORMATS)
        values = nibabel.load(path).dataobj if nifti else sitk.GetArrayViewFromImage(reader.Execute())
        faults = nan_faults(name, np.asarray(values))
        if faults:
            raise InputError(faults[0])
