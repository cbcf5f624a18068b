"""Scans of a folder, which is only read: what MONAI Label notes of them lies elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import HTTPException
from lib.answers import NOT_FOUND
from monailabel.datastore.local import LocalDatastore

EXTENSIONS = ("*.nii.gz", "*.nii", "*.nrrd", "*.nhdr", "*.mha", "*.mhd")


class FolderStore(LocalDatastore):
    """MONAI Label's store, with its notes apart from the scans.

    Args:
        studies: the folder of scans.
        notes: where MONAI Label's own files go.
    """

    def __init__(self, studies: str, notes: Path) -> None:
        home = str(Path(studies).resolve())
        own = notes / hashlib.sha256(home.encode()).hexdigest()[:12]  # notes name the folder they are of
        super().__init__(str(own), images_dir=home, extensions=EXTENSIONS)

    def list_images(self) -> list[str]:
        """Names of the scans, as the folder has them now."""
        self.refresh()
        return super().list_images()

    def get_image_uri(self, image_id: str) -> str:
        """Path of a scan.

        Raises:
            HTTPException: 404 if there is none of that name.
        """
        if image_id not in self.list_images():
            raise HTTPException(NOT_FOUND, f"the folder has no scan {image_id[:64]!r}; GET /datastore/ lists them.")
        return super().get_image_uri(image_id)

    def remove_image(self, image_id: str) -> None:
        """Refuse.

        Raises:
            HTTPException: 403, always.
        """
        raise HTTPException(403, "scans are not removed from here.")
