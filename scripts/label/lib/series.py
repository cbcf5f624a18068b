"""Series of a PACS as volumes: fetched whole, checked, and cached until the PACS has others."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import count
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
from urllib3.util import Retry

from bundle.common.atomic import whole_folder
from bundle.hospital.pacs.faults import LaterError
from bundle.hospital.pacs.limits import MOST_LIST_BYTES, MOST_OBJECT_BYTES, check_count
from bundle.hospital.pacs.line import Line
from bundle.images.dicom.source import Source, open_folder
from bundle.images.dicom.words import file_name, plain

logger = logging.getLogger(__name__)

PATIENCE_S = 60.0  # without a byte from the PACS; requests alone would wait for ever
LONGEST_S = 300.0  # for one answer, all attempts together, as a client waits for it
RETRIES = Retry(3, backoff_factor=0.5, status_forcelist=(408, 429, 503, 504), raise_on_status=False)  # never a POST
PAGE = 500  # answers asked for at once
STUDY, SERIES, INSTANCE = "0020000D", "0020000E", "00080018"


class Patient(Line):
    """HTTP that gives up, one request after the other."""

    def __init__(self, peer: str) -> None:
        super().__init__(peer)
        self.max_retries = RETRIES
        self.doing, self.longest_s = "answering", LONGEST_S
        self.turn = threading.Lock()

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """Send a request, and read all of its answer."""
        with self.turn:
            listed = "json" in request.headers.get("Accept", "")
            self.most_bytes = MOST_LIST_BYTES if listed else MOST_OBJECT_BYTES
            return super().send(request, *args, **{**options, "timeout": options.get("timeout") or PATIENCE_S})


def connect(address: str) -> DICOMwebClientX:
    """A client of a DICOMweb server; user and password are MONAI Label's ``MONAI_LABEL_DICOMWEB_…``.

    Args:
        address: such as ``http://127.0.0.1:8042/dicom-web``.
    """
    user, password = settings.MONAI_LABEL_DICOMWEB_USERNAME, settings.MONAI_LABEL_DICOMWEB_PASSWORD
    session = create_session_from_user_pass(user, password) if user and password else create_session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, Patient(address))
    client = DICOMwebClientX(
        url=address,
        session=session,
        qido_url_prefix=settings.MONAI_LABEL_QIDO_PREFIX,
        wado_url_prefix=settings.MONAI_LABEL_WADO_PREFIX,
        stow_url_prefix=settings.MONAI_LABEL_STOW_PREFIX,
    )
    client.set_http_retry_params(retry=False)  # it would try again what took too long
    return client


class SeriesStore(DICOMWebDatastore):
    """MONAI Label's store, which would stain a series that came in half, or lacks a slice, without a word."""

    @property
    def client(self) -> DICOMwebClientX:
        """Of the PACS."""
        return self._client

    def list_images(self) -> list[str]:
        """Series Instance UIDs, as the PACS has them now."""
        found = all_of(self._client, self._client.search_for_series, self._search_filter)
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
            found = all_of(self._client, self._client.search_for_instances, {"SeriesInstanceUID": series})
        found = [each for each in found if each[SERIES]["Value"] == [series]]
        if not found:
            raise HTTPException(NOT_FOUND, f"the PACS at {self._client.base_url} has no series {plain(series)}.")
        return found[0][STUDY]["Value"][0], [each[INSTANCE]["Value"][0] for each in found]

    def _fetch(self, study: str, series: str, instances: list[str]) -> None:
        came = set()
        with whole_folder(self._folder(series)) as folder:
            for uid in instances:
                instance = self._client.retrieve_instance(study, series, uid)
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
    search = partial(client.search_for_instances, study)
    found = all_of(client, search, {"SeriesInstanceUID": series})
    return [each[INSTANCE]["Value"][0] for each in found if each[SERIES]["Value"] == [series]]


def all_of(client: DICOMwebClientX, search: Callable[..., list[Any]], filters: Mapping[str, str]) -> list[Any]:
    """All answers to a query, page by page, up to a page with nothing new.

    Raises:
        LaterError: if they take too long.
        PacsError: if there is no end of them.
    """
    found: dict[str, Any] = {}
    end = time.monotonic() + LONGEST_S
    for pages in count(1):
        page = search(search_filters=dict(filters), offset=len(found), limit=PAGE)
        new = {json.dumps(each, sort_keys=True): each for each in page}
        if new.keys() <= found.keys():
            return list(found.values())
        found |= new
        check_count(client.base_url, len(found), pages)
        if time.monotonic() > end:
            raise LaterError(f"{client.base_url} was not done after {LONGEST_S:g} s while answering a query.")
    raise AssertionError
