"""What a training on nuclei leaves behind: a bundle that segments."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bundle.common.atomic import whole_folder
from bundle.common.config import resolved
from bundle.common.config_text import write_config
from bundle.common.errors import InputError
from bundle.common.home import CONFIGS
from bundle.common.run_folder import LATEST, amend
from bundle.images.slides import read_slide
from bundle.networks.checkpoints import check_finite, load_tensors, save_tensors
from bundle.nuclei.dataset import NucleiList, read_nuclei
from bundle.nuclei.segmenter import load_segmenter, tuned
from bundle.training.publish import CARRIED as STAINING
from bundle.training.publish import copy_code, save_torchscript

CARRIED = (*STAINING, "training", "nuclei")  # rooms that a trained bundle runs

logger = logging.getLogger("bundle")


def publish(
    data: NucleiList,
    output_dir: str,
    deploy_checkpoint: str,
    segmentation: Mapping[str, Any],
    tune_thresholds: bool,
    device: str | torch.device,
) -> None:
    """Write ``output_dir/bundle``: config, code and weights that need nothing else of this repository.

    Args:
        data: the dataset it was trained on.
        output_dir: the run's folder.
        deploy_checkpoint: ``latest`` or ``best_<term>``.
        segmentation: ``grid``, ``unit_px``, ``multiple_of``, ``window`` and the thresholds, see
            :class:`bundle.nuclei.segmenter.Segmenter`.
        tune_thresholds: choose the thresholds on ``data.validation``, see :func:`bundle.nuclei.segmenter.tuned`.
        device: where to compute meanwhile.

    Raises:
        InputError: if there is no such checkpoint.
    """
    run = Path(output_dir)
    weights = _weights(run, deploy_checkpoint)
    inference, facts = own_inference(segmentation), described_facts(data)
    with whole_folder(run / "bundle") as folder:
        save_tensors(weights, folder / "models" / "model.pt")
        write_config(folder / "configs" / "inference.json", inference, facts)
        how = "as set"
        if tune_thresholds:
            fields = data.validation
            images = (read_slide(each.image).pixels for each in fields)
            labels = (read_nuclei(each.labels) for each in fields)
            segmenter = tuned(load_segmenter(folder, device), images, labels)
            inference["probability_threshold"] = round(segmenter.probability_threshold, 4)
            inference["nms_threshold"] = segmenter.nms_threshold
            whence = "held out of training" if data.held_out else "of the validation split"
            how = f"tuned on {len(fields)} images {whence}"
            write_config(folder / "configs" / "inference.json", inference, facts)
        thresholds = {name: inference[name] for name in ("probability_threshold", "nms_threshold")}
        amend(output_dir, thresholds={**thresholds, "how": how})
        metadata = described_metadata(data, deploy_checkpoint, how)
        write_config(folder / "configs" / "metadata.json", own_metadata(), metadata)
        shutil.copy(CONFIGS / "logging.conf", folder / "configs")
        copy_code(folder, CARRIED)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of annotations in MONAI's DynUNet
            save_torchscript(inference["network_def"], weights, folder / "models" / "model.ts")
    told = ", ".join(f"{name} {value:g}" for name, value in thresholds.items())
    logger.info("the trained bundle is in %s; %s (%s)", run / "bundle", told, how)


def _weights(run: Path, deploy_checkpoint: str) -> Any:
    path = run / LATEST.parent / f"{deploy_checkpoint}.pt"
    if not path.is_file():
        there = sorted(file.stem for file in path.parent.glob("*.pt"))
        raise InputError(f"deploy_checkpoint is {deploy_checkpoint!r}; this run has {', '.join(there) or 'none'}.")
    content = load_tensors(path)
    weights = content.get("parts", content)["network"]
    check_finite(weights, path)
    return weights


def described_facts(data: NucleiList) -> dict[str, Any]:
    """What of a trained bundle's ``inference.json`` comes of the dataset, by id."""
    names = ("name", "channels", "low", "high", "channel_names")
    return {f"segmenter#image#{name}": getattr(data.image, name) for name in names} | {
        "segmenter#pixel_um": data.pixel_um
    }


def own_inference(segmentation: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the trained bundle: the network that the current config trains, and how to use it.

    Args:
        segmentation: as in :func:`publish`.
    """
    return {
        "bundle_root": ".",
        "input": None,
        "input_pixel_um": None,
        "output_dir": "segmented",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        **segmentation,
        "imports": ["$import torch"],
        "network_def": resolved("network"),
        "network": {
            "_target_": "bundle.networks.checkpoints.load_network",
            "network": "@network_def",
            "path": "$@bundle_root + '/models/model.pt'",
            "device": "@device",
        },
        "segmenter": {
            "_target_": "bundle.nuclei.segmenter.Segmenter",
            "network": "@network",
            "image": {"_target_": "bundle.data.datalist.Modality"},
            **{name: f"@{name}" for name in (*segmentation, "device")},
        },
        "inference": [
            {"_target_": "bundle.common.config.start"},
            {
                "_target_": "bundle.nuclei.segmenting.segment",
                "input": "@input",
                "output_dir": "@output_dir",
                "segmenter": "@segmenter",
                "input_pixel_um": "@input_pixel_um",
            },
        ],
        "run": "%inference",
    }


def own_metadata() -> dict[str, Any]:
    """What the bundle's ``metadata.json`` has of this repository's."""
    metadata = json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))
    kept = ("version", "monai_version", "pytorch_version", "numpy_version", "authors", "copyright")
    return {name: metadata[name] for name in (*kept, "required_packages_version")} | {
        "name": "Nuclei as star-convex polygons",
        "description": "A StarDist network (Schmidt et al. 2018) in PyTorch.",
    }


def described_metadata(data: NucleiList, checkpoint: str, thresholds: str) -> dict[str, Any]:
    """What it has of the dataset and the training.

    Args:
        data: what it was trained on.
        checkpoint: whose weights it has.
        thresholds: how they were chosen.
    """
    return {
        "task": f"Instance segmentation of nuclei in {data.image.name}",
        "data_source": data.description or "images with labelled nuclei, given by the user",
        "pixel_um": data.pixel_um,
        "trained_on": {
            "images": len(data.training),
            "nuclei": sum(data.nuclei[each.label] for each in data.training),
            "checkpoint": checkpoint,
            "thresholds": thresholds,
            "caveat": data.caveat,
        },
    }
