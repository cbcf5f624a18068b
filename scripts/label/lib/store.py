"""A stained series into the PACS, over DICOMweb (STOW-RS), once."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from dicomweb_client import DICOMwebClient
from fastapi import HTTPException
from lib.answers import NO_PACS
from lib.series import instances_of

from bundle.hospital.objects.colour import write_frames
from bundle.hospital.objects.made import judged_by, made
from bundle.images.dicom.source import Source
from bundle.networks.volume_likeness import VolumeLikeness

logger = logging.getLogger(__name__)


def store(
    client: DICOMwebClient,
    bundle_root: str,
    source: Source,
    colour: np.ndarray,
    settings: Mapping[str, Any],
    judged: VolumeLikeness,
) -> dict[str, Any]:
    """Send a stain as Multi-frame True Color Secondary Capture, unless it is there already.

    The same model with the same settings on the same series has the same UIDs.

    Args:
        client: of the PACS.
        bundle_root: the model.
        source: the series that was stained.
        colour: (3, X, Y, Z) uint8.
        settings: what the stain depends on besides model and scan.
        judged: how like the training data the scan is.

    Returns:
        Study and series, and how many instances were sent and how many were there.

    Raises:
        HTTPException: 502 if the PACS refuses an object.
    """
    by_slice = colour.transpose(3, 2, 1, 0)
    with tempfile.TemporaryDirectory() as folder:
        made_by = judged_by(made(bundle_root, settings), judged)
        files = write_frames(Path(folder), source, lambda start, stop: by_slice[start:stop], made_by)
        headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
        study, series = headers[0].StudyInstanceUID, headers[0].SeriesInstanceUID
        there = set(instances_of(client, study, series))
        new = [file for file, header in zip(files, headers, strict=True) if header.SOPInstanceUID not in there]
        for file in new:
            _send(client, file)
    logger.info("stored %d of %d instances of series %s", len(new), len(files), series)
    return {
        "study_instance_uid": str(study),
        "series_instance_uid": str(series),
        "instances_sent": len(new),
        "instances_there_already": len(files) - len(new),
    }


def _send(client: DICOMwebClient, file: Path) -> None:
    answer = client.store_instances([pydicom.dcmread(file)])
    failed = answer.get("FailedSOPSequence", [])
    if failed:
        reason = getattr(failed[0], "FailureReason", None)
        code = "" if reason is None else f" (failure reason {reason:#06x})"
        raise HTTPException(NO_PACS, f"the PACS at {client.base_url} does not take the stained series{code}.")
