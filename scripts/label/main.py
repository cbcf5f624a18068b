"""The MONAI Label application that ``monailabel start_server --app scripts/label`` runs; see ``__main__.py``."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException
from lib.answers import NOT_FOUND, told
from lib.folder import FolderStore
from lib.question import LEVELS, checked
from lib.sent import is_sent, not_kept
from lib.series import SeriesStore, connect
from lib.stain import StainTask
from lib.store import store
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.utils.others.generic import strtobool

from bundle.common.errors import InputError
from bundle.networks.volume_likeness import VolumeLikeness


class VirtualStaining(MONAILabelApp):
    """Stains grey volumes of a folder or of a PACS.

    Args:
        app_dir: the application's folder, with the bundle in ``model/NAME``.
        studies: a folder, or the address of a DICOMweb server.
        conf: ``models``: NAME; ``bone_intensity`` and ``background_intensity``: for requests that give none;
            ``refuse_unlike``: whether scans that are unlike the training data are refused; ``stow``: whether results go
            into the PACS.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.one_at_a_time = threading.Lock()
        super().__init__(
            app_dir,
            studies,
            conf,
            name="Virtual staining",
            description="RESEARCH ONLY: grey X-ray volumes as stained histology. Synthetic, not for diagnosis.",
            version="0.1.0",
        )

    def init_infers(self) -> dict[str, InferTask]:
        """The bundles in ``model/``."""
        publish = self._publish if strtobool(self.conf.get("stow", "false")) else None
        names = [name.strip() for name in self.conf.get("models", "").split(",") if name.strip()]
        return {name: StainTask(str(Path(self.app_dir) / "model" / name), self.conf, publish) for name in names}

    def init_datastore(self) -> Datastore:
        """The folder or the PACS."""
        if not self.studies.startswith(("http://", "https://")):
            return FolderStore(self.studies, Path(self.app_dir) / "datastore")
        self.studies = self.studies.rstrip("/")
        self._download_dcmqi_tools()  # it downloads nothing where dcmqi is on PATH
        return SeriesStore(
            connect(self.studies),
            settings.MONAI_LABEL_DICOMWEB_SEARCH_FILTER,
            settings.MONAI_LABEL_DICOMWEB_CACHE_PATH or str(Path(self.app_dir) / "cache"),
        )

    def info(self) -> dict[str, Any]:
        """What clients are told of the application."""
        with told(self.studies):
            return super().info()

    def model_file(self, model: str, validate: bool = True) -> None:
        """None: clients neither replace nor remove the weights of a trained bundle."""
        return

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Stain one image.

        Args:
            request: with ``model`` and ``image``: an id of the store, or a file that the client sent.
            datastore: the store, if it is not the application's.

        Raises:
            HTTPException: with one line that says what is wrong.
        """
        with told(self.studies), not_kept(str(request["image"])), self.one_at_a_time:
            datastore = datastore or self.datastore()
            task = self._infers.get(request["model"])
            if task is None:
                raise HTTPException(NOT_FOUND, f"there is no such model; there is {', '.join(self._infers)}.")
            asked = checked(request, self.conf_levels())
            task.check(tuple(asked[name] for name in LEVELS))  # before a series is fetched
            image = request["image"]
            if not isinstance(image, str):
                raise InputError("image is none; give the id of an image, or send a file.")
            if is_sent(image, self.sessions()):
                asked["image"] = image
            else:
                asked |= {"image": datastore.get_image_uri(image), "image_id": image}
            file, params = task({"model": request["model"], "description": task.description, **asked})
            label = file
            if request.get("save_label") and "image_id" in asked:
                tag = request.get("label_tag", DefaultLabelTag.ORIGINAL)
                label = datastore.save_label(image, file, tag, {"model": request["model"], "params": params})
            return {"label": label, "tag": DefaultLabelTag.ORIGINAL, "file": file, "params": params}

    def conf_levels(self) -> dict[str, str | None]:
        """The intensities of the server, for requests that give none."""
        return {name: self.conf.get(name) for name in LEVELS}

    def _publish(
        self, model: str, image: str, colour: np.ndarray, settings: dict[str, Any], judged: VolumeLikeness
    ) -> dict[str, Any]:
        series = self.datastore()
        if not isinstance(series, SeriesStore):
            raise InputError("results are to be stored, but scans come from a folder; give the address of a PACS.")
        return store(series.client, model, series.source(image), colour, settings, judged)
