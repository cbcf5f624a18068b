"""What a training run leaves behind: a complete MONAI bundle of the trained model."""

from __future__ import annotations

import json
import logging
import re
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import Tensor

from bundle.common.atomic import whole_folder
from bundle.common.config import current_parser, resolved
from bundle.common.config_text import as_text, write_config
from bundle.common.errors import InputError
from bundle.common.home import CONFIGS, HOME, PACKAGE
from bundle.common.run_folder import LATEST
from bundle.common.trained_bundle import ALL_AT_ONCE
from bundle.data.datalist import Datalist, Modality
from bundle.networks.checkpoints import check_finite, load_tensors, save_tensors
from bundle.networks.specimen_volume import SpecimenVolume
from bundle.training.error_map import error_map_of, likeness_of
from bundle.training.sections import sections_of
from bundle.training.weight_average import deployable

logger = logging.getLogger("bundle")
CARRIED = ("common", "images", "data", "networks", "staining")  # rooms that a trained bundle runs
PICTURE = re.compile(r"^!\[[^\n]*\]\([^\n]*\)\n", re.MULTILINE)  # of Markdown, on a line of its own
LARGE_WINDOW = 1024  # px a side, where windows lie side by side: see docs/performance.md
OF_VOLUMES = {  # of ``series.json``: all slices at once, since one region of the volume decides about each
    "inferer": ALL_AT_ONCE,
}


def publish(
    data: Datalist,
    output_dir: str,
    deploy_checkpoint: str,
    patch_size: int,
    invert_source: bool,
    sigma: float,
    method: str,
    normalisation: str = "window",
    device: str | torch.device = "cpu",
) -> None:
    """Write ``output_dir/bundle``: configs, code and weights that need nothing else of this repository.

    Args:
        data: the dataset it was trained on.
        output_dir: the run's folder.
        deploy_checkpoint: ``latest``, ``best_<term>`` or ``best_<metric>``.
        patch_size: side of the training patches, px.
        invert_source: the source was inverted in training.
        sigma: of the 3D Gaussian that volumes go through before this network stains them, voxels; what the bundle's
            ``volume.json`` and ``series.json`` say.
        method: what reports call it.
        normalisation: of the bundle's ``inference.json``, where nobody says otherwise.
        device: where what its norms meet in the training's sections is computed, and its error map.

    Raises:
        InputError: if there is no such checkpoint.
    """
    run = Path(output_dir)
    generators = load_generators(run, deploy_checkpoint)
    facts = described_facts(data, patch_size, invert_source, normalisation)
    sections = None
    if reach_of(resolved("g_xy")) is not None:
        sections = sections_of(data, own_inference() | facts, generators["g_xy"], device)
    likeness = likeness_of(data, own_inference() | facts, generators["g_xy"])
    error_map = error_map_of(data, own_inference() | facts, generators["g_xy"], device, run)
    with whole_folder(run / "bundle") as folder:
        write_config(folder / "configs" / "inference.json", own_inference(), facts)
        write_config(
            folder / "configs" / "metadata.json",
            _read_own("metadata.json"),
            described_metadata(data, method, deploy_checkpoint, max(own_inference()["window"], patch_size)),
        )
        shutil.copy(CONFIGS / "logging.conf", folder / "configs")
        by_specimen = normalisation == "specimen"
        for name in ("series.json", "volume.json"):
            own = _read_own(name) | (OF_VOLUMES if by_specimen and name == "series.json" else {})
            write_config(folder / "configs" / name, own, {"sigma": sigma})
        shutil.copy(CONFIGS / "slide.json", folder / "configs")
        copy_code(folder, CARRIED)
        for page in (HOME / "README.md", HOME / "CHANGELOG.md", *(HOME / "docs").glob("*.md")):
            copy_text(page, folder / page.relative_to(HOME))
        save_tensors(generators["g_xy"], folder / "models" / "model.pt")
        likeness.save(folder / "models" / "likeness.npz")
        if error_map is not None:
            error_map.save(folder / "models" / "error_map.pt")
        if sections is not None:
            sections.save(folder / "models" / "sections.npz")
        around = partial(SpecimenVolume, sections=sections) if sections is not None and by_specimen else None
        save_torchscript(resolved("g_xy"), generators["g_xy"], folder / "models" / "model.ts", around)
        if "g_yx" in generators:
            save_tensors(generators["g_yx"], folder / "reverse.pt")
    logger.info("the trained bundle is in %s", run / "bundle")


def copy_code(folder: Path, rooms: Sequence[str]) -> None:
    """Copy rooms of this package into a trained bundle, with its licence and how to cite it.

    Args:
        folder: the bundle.
        rooms: those that its configs name, and what these import.
    """
    for name in ("LICENSE", "CITATION.cff"):
        shutil.copy(HOME / name, folder)
    for room in rooms:
        shutil.copytree(PACKAGE / room, folder / "bundle" / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PACKAGE / "__init__.py", folder / "bundle")


def copy_text(page: Path, copy: Path) -> None:
    """Copy a page of Markdown without its pictures, which stay in the repository."""
    copy.parent.mkdir(exist_ok=True)
    copy.write_text(PICTURE.sub("", page.read_text(encoding="utf-8")), encoding="utf-8")


def _read_own(name: str) -> dict[str, Any]:
    """A config of this package."""
    return json.loads((CONFIGS / name).read_text(encoding="utf-8"))


def described_metadata(data: Datalist, method: str, checkpoint: str, window: int) -> dict[str, Any]:
    """What a trained bundle's ``metadata.json`` has that this repository's has not.

    Args:
        data: the dataset it was trained on.
        method: what reports call it.
        checkpoint: whose weights it has.
        window: of its ``inference.json``, px.
    """
    slices = "slices of " if data.source.channels == 1 else ""
    halo = halo_of(resolved("g_xy"))
    formats = _read_own("metadata.json")["network_data_format"]
    for tensor, modality in (("inputs", data.source), ("outputs", data.target)):
        for entry in formats[tensor].values():
            entry["spatial_shape"] = [window] * 2 if halo is None else [f"{halo['multiple']}*n"] * 2
            if modality.channels != 1 or tensor == "outputs":  # a grey source is repeated to three
                entry |= {"num_channels": modality.channels, "channel_def": channel_def(modality)}
    return {
        "pixel_um": data.pixel_um,
        "trained_on": {
            "method": method,
            **({"pairs": len(data.training)} if data.paired else {"images": data.counted("training")}),
            "checkpoint": checkpoint,
            "caveat": data.caveat,
        },
        "description": f"{data.target.name} predicted from {slices}{data.source.name}: {method}",
        "task": f"Virtual staining: {data.target.name} from {data.source.name}",
        "network_data_format": formats,
        **(halo or {}),
    }


def described_inference(
    data: Datalist, patch_size: int, invert_source: bool, normalisation: str = "window"
) -> dict[str, Any]:
    """This repository's ``inference.json`` with the values of the network that the current config trains.

    Args:
        data: the dataset it is trained on.
        patch_size: side of the training patches, px.
        invert_source: the source is inverted in training.
        normalisation: of the trained bundle.
    """
    return own_inference() | described_facts(data, patch_size, invert_source, normalisation)


def own_inference() -> dict[str, Any]:
    """This repository's ``inference.json`` with the network of the current config."""
    return _read_own("inference.json") | {"network_def": network_of_both_directions()}


def described_facts(
    data: Datalist, patch_size: int, invert_source: bool, normalisation: str = "window"
) -> dict[str, Any]:
    """What depends on the dataset and on the sizes of a training in ``inference.json``; as :func:`described_inference`.

    Windows are never smaller than the training patches, nor than the 256 px of §2.9: instance norm wants to see
    more than one tissue (docs/results.md). Where nothing depends on windows they do not overlap, and are large.
    """
    source, target = described(data.source), described(data.target)
    window = max(_read_own("inference.json")["window"], patch_size)
    halo = halo_of(resolved("g_xy"))
    if normalisation == "specimen" and reach_of(resolved("g_xy")) is None:
        network = resolved("g_xy")["_target_"].rpartition(".")[2]
        raise InputError(f"normalisation is 'specimen', but a {network} cannot be stained so; leave it at 'window'.")
    side_by_side = halo is not None or normalisation == "specimen"
    return {
        **({"window": LARGE_WINDOW, "step": None} if side_by_side else {"window": window, "step": window // 4}),
        **(halo or {}),
        "normalisation": normalisation,
        "bone_intensity": source["bone_intensity"],
        "background_intensity": source["background_intensity"],
        "background_rgb": data.background_rgb,
        "invert_source": invert_source,
        "source": source,
        "target": target,
    }


def halo_of(network_def: Mapping[str, Any]) -> dict[str, int] | None:
    """``halo`` and ``multiple`` of a network whose stain of a pixel depends on a field alone; None for any other.

    Args:
        network_def: its ``_target_`` and arguments.
    """
    with torch.device("meta"):  # no weights are drawn
        network = ConfigParser({"network_def": dict(network_def)}).get_parsed_content("network_def")
    return {name: getattr(network, name) for name in ("halo", "multiple")} if hasattr(network, "halo") else None


def reach_of(network_def: Mapping[str, Any]) -> int | None:
    """``reach`` of a network with instance norm, see :mod:`bundle.networks.specimen_norm`; None for any other."""
    with torch.device("meta"):
        network = ConfigParser({"network_def": dict(network_def)}).get_parsed_content("network_def")
    return getattr(network, "reach", None)


def network_of_both_directions() -> dict[str, Any]:
    """``network_def`` of ``inference.json``: ``g_xy`` of the current config, or ``g_yx`` in the direction ``reverse``.

    They differ where source and target have other numbers of channels; what differs is an expression then.

    Raises:
        InputError: if one of them is described by other arguments than the other.
    """
    forward = resolved("g_xy")
    if "g_yx" not in current_parser().get("train#networks"):
        return forward
    reverse = resolved("g_yx")
    if set(forward) != set(reverse) or forward["_target_"] != reverse["_target_"]:
        alone = sorted(set(forward) ^ set(reverse)) or ["_target_"]
        raise InputError(f"g_xy and g_yx differ in {', '.join(alone)}; set it in both, they are described together.")
    return {
        key: value if reverse[key] == value else f"${value!r} if @forward else {reverse[key]!r}"
        for key, value in forward.items()
    }


def channel_def(modality: Modality) -> dict[str, str]:
    """What each channel shows, as ``metadata.json`` has it."""
    rgb = ("red", "green", "blue") if modality.channels == 3 else ()
    names = modality.channel_names or rgb or [f"channel {place}" for place in range(modality.channels)]
    return {str(place): name for place, name in enumerate(names)}


def load_generators(run: Path, deploy_checkpoint: str) -> dict[str, Any]:
    """The generators' weights of a checkpoint, by id.

    Raises:
        InputError: if there is no such checkpoint in the run, or its weights are not finite.
    """
    path = run / LATEST.parent / f"{deploy_checkpoint}.pt"
    if not path.is_file():
        there = sorted(file.stem for file in path.parent.glob("*.pt"))
        raise InputError(f"deploy_checkpoint is {deploy_checkpoint!r}; this run has {', '.join(there) or 'none'}.")
    content = load_tensors(path)
    content = content.get("parts", content)
    generators = deployable(content)
    for name, weights in generators.items():
        check_finite({f"{name}.{layer}": value for layer, value in weights.items()}, path)
    return generators


def save_torchscript(
    network_def: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    path: Path,
    around: Callable[[torch.nn.Module], torch.nn.Module] | None = None,
) -> None:
    """Write a network that runs where this repository's code is not installed, as MONAI Deploy and Label want it.

    Args:
        network_def: its ``_target_`` and arguments.
        weights: its state dict.
        path: ``model.ts``; not written, with a warning, if TorchScript cannot express the network, for what is
            trained is not to be lost for that.
        around: makes what is written of the network; None writes it itself.
    """
    network = ConfigParser({"network_def": dict(network_def)}).get_parsed_content("network_def")
    network.load_state_dict(weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # upstream would have torch.export, which neither reads
        try:
            script = torch.jit.script((around(network) if around else network).eval())
        except (RuntimeError, NotImplementedError) as error:
            reason = str(error).strip().splitlines()[0]
            logger.warning("%s is not written, TorchScript cannot express the network: %s", path.name, reason)
            return
        script.save(str(path))


def described(modality: Modality) -> dict[str, Any]:
    """A modality as ``inference.json`` writes it.

    Raises:
        InputError: if its text is code to MONAI.
    """
    facts = {
        "name": modality.name,
        "channels": modality.channels,
        "range": [modality.low, modality.high],
        "bone_intensity": modality.bone_intensity,
        "background_intensity": modality.background_intensity,
        **({"channel_names": list(modality.channel_names)} if modality.channel_names else {}),
    }
    return as_text(facts, "modality")
