"""Series of a PACS as volumes: fetched whole, checked, and cached until the PACS has others."""

from __future__ import annotations

import hashlib
import logging
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import requests
from dicomweb_client.session_utils import create_session, create_session_from_user_pass
from fastapi import HTTPException
from lib.answers import NO_PACS, NOT_FOUND
from lib.colour import write_grey
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMwebClientX, DICOMWebDatastore

from bundle.common.atomic import whole_folder
from bundle.images.dicom.source import Source, open_folder
from bundle.images.dicom.words import file_name, plain

logger = logging.getLogger(__name__)

PATIENCE_S = 60.0  # without a byte from the PACS; requests alone would wait for ever
ATTEMPTS, FIRST_PAUSE_MS = 4, 500  # each pause is twice the one before; a client waits, and so do all others
STUDY, SERIES, INSTANCE = "0020000D", "0020000E", "00080018"


class Patient(requests.adapters.HTTPAdapter):
    """HTTP that gives up after :data:`PATIENCE_S`."""

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """Send a request."""
        return super().send(request, *args, **{**options, "timeout": options.get("timeout") or PATIENCE_S})


def connect(address: str) -> DICOMwebClientX:
    """A client of a DICOMweb server; user and password are MONAI Label's ``MONAI_LABEL_DICOMWEB_…``.

    Args:
        address: such as ``http://127.0.0.1:8042/dicom-web``.
    """
    user, password = settings.MONAI_LABEL_DICOMWEB_USERNAME, settings.MONAI_LABEL_DICOMWEB_PASSWORD
    session = create_session_from_user_pass(user, password) if user and password else create_session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, Patient())
    client = DICOMwebClientX(
        url=address,
        session=session,
        qido_url_prefix=settings.MONAI_LABEL_QIDO_PREFIX,
        wado_url_prefix=settings.MONAI_LABEL_WADO_PREFIX,
        stow_url_prefix=settings.MONAI_LABEL_STOW_PREFIX,
    )
    client.set_http_retry_params(max_attempts=ATTEMPTS, wait_exponential_multiplier=FIRST_PAUSE_MS / 2)
    return client


class SeriesStore(DICOMWebDatastore):
    """MONAI Label's store, which would stain a series that came in half, or lacks a slice, without a word."""

    @property
    def client(self) -> DICOMwebClientX:
        """Of the PACS."""
        return self._client

    def list_images(self) -> list[str]:
        """Series Instance UIDs, as the PACS has them now."""
        found = self._client.search_for_series(search_filters=self._search_filter, get_remaining=True)
        return [series[SERIES]["Value"][0] for series in found]

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """All of them: a stain is no label that would make a series finished."""
        return self.list_images()

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """None."""
        return []

    def get_image_uri(self, image_id: str) -> str:
        """The series as an NRRD file.

        Args:
            image_id: its Series Instance UID.

        Raises:
            HTTPException: 404 if the PACS has no such series.
            InputError: if it is not one regular grey volume, a line per fault.
        """
        study, instances = self._instances(image_id)
        state = hashlib.sha256("\n".join(sorted(instances)).encode()).hexdigest()
        known = self._datastore.objects.get(image_id)
        path = self._volume(image_id)
        whole = path.exists() and self._folder(image_id).is_dir()
        if known is None or known.image.info.get("state") != state or not whole:
            self._fetch(study, image_id, instances)
            with tempfile.TemporaryDirectory() as folder:
                made = Path(folder) / "scan.nrrd"
                write_volume(made, self.source(image_id))
                self.add_image(image_id, str(made), {**self._dicom_info(image_id), "state": state})
        return str(path)

    def source(self, image_id: str) -> Source:
        """The headers of a series that was fetched.

        Raises:
            InputError: if it is not one regular grey volume, a line per fault.
        """
        return open_folder(self._folder(image_id))

    def _folder(self, image_id: str) -> Path:
        return Path(self._datastore.image_path()) / image_id

    def _volume(self, image_id: str) -> Path:
        return self._folder(image_id).with_name(f"{image_id}.nrrd")

    def _instances(self, series: str) -> tuple[str, list[str]]:
        """Study and SOP Instance UIDs of a series."""
        found: list[dict[str, Any]] = []
        if re.fullmatch(r"\d[\d.]{,63}", series):  # it becomes the name of a folder, too
            asked = {"SeriesInstanceUID": series}
            found = self._client.search_for_instances(search_filters=asked, get_remaining=True)
        found = [each for each in found if each[SERIES]["Value"] == [series]]
        if not found:
            raise HTTPException(NOT_FOUND, f"the PACS at {self._client.base_url} has no series {plain(series)}.")
        return found[0][STUDY]["Value"][0], [each[INSTANCE]["Value"][0] for each in found]

    def _fetch(self, study: str, series: str, instances: list[str]) -> None:
        came = set()
        with whole_folder(self._folder(series)) as folder:
            for instance in self._client.iter_series(study, series):
                instance.save_as(folder / f"{file_name(instance.SOPInstanceUID)}.dcm")
                came.add(str(instance.SOPInstanceUID))
            if came != set(instances):
                told = f"{len(came)} of the {len(instances)} instances of series {plain(series)}"
                raise HTTPException(NO_PACS, f"the PACS at {self._client.base_url} sent {told}; ask again.")


def write_volume(path: Path, source: Source) -> None:
    """Write a series as NRRD, (Z, Y, X) in the order of its slices, with its exact geometry."""
    affine = np.eye(4)
    affine[:3, :3] = source.direction * np.asarray(source.spacing_mm[::-1])
    affine[:3, 3] = source.origin_mm
    write_grey(path, source.read(0, source.shape[0]), affine)


def instances_of(client: DICOMwebClientX, study: str, series: str) -> Iterable[str]:
    """SOP Instance UIDs that the PACS has of a series; none if it does not know it."""
    found = client.search_for_instances(study, search_filters={"SeriesInstanceUID": series}, get_remaining=True)
    return [each[INSTANCE]["Value"][0] for each in found if each[SERIES]["Value"] == [series]]
