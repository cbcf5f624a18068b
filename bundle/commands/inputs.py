"""What a file or folder to be stained is, told by its header; what a header does not say is asked, never guessed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.commands.monai_run import wanted_path
from bundle.common.errors import InputError
from bundle.common.places import LINK, SCHEME

SLIDES, VOLUME, SLIDE = KINDS = ("slides", "volume", "slide")
WHAT = {
    SLIDES: "single 2D images",
    VOLUME: "a volume",
    SLIDE: "a whole slide",
}
WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"  # SOP class, VL Whole Slide Microscopy Image
HEADERS = (".mha", ".mhd")  # of volumes alone


def kind_of(given: str | list[str], channels: int) -> str:
    """What is to be stained: one of :data:`KINDS`.

    Args:
        given: a file, a folder, a URL, or a list of files, a channel each.
        channels: that the model takes.

    Raises:
        InputError: if there is none, or what it is does not show.
    """
    if isinstance(given, list):
        return _kind_of_list(given)
    if SCHEME.match(given) or given.lower().endswith(LINK):
        return VOLUME  # what slides and their readers do not take
    from bundle.images.volumes.readers.hdf5 import split_dataset

    file, _ = split_dataset(Path(given))
    path = wanted_path(str(file), "input")
    return _kind_of_folder(path, given) if path.is_dir() else _kind_of_file(path, given, channels)


def _kind_of_list(given: list[str]) -> str:
    kinds = {kind_of(each, 1) for each in given}
    if kinds != {VOLUME}:
        raise InputError(
            f"input {given} is a list, which is a volume's, a scan for each channel; these are "
            f"{' and '.join(WHAT[each] for each in sorted(kinds))}: put 2D images into a folder and name that."
        )
    return VOLUME


def _kind_of_file(path: Path, given: str, channels: int) -> str:
    from bundle.images.slides import NIFTI, TIFF, reading
    from bundle.images.volumes.readers.hdf5 import HDF5
    from bundle.images.whole_slides import VENDOR

    name = path.name.lower()
    with reading(f"input {given}"):
        if name.endswith(".dcm"):
            return _kind_of_dicom(path)
        if name.endswith(VENDOR):
            return SLIDE
        if name.endswith((*HDF5, *HEADERS)):
            return VOLUME
        if name.endswith(".png"):
            return SLIDES
        if name.endswith(TIFF):
            return _kind_of_tiff(path, given, channels)
        if name.endswith(NIFTI):
            import nibabel

            return _by_sides(nibabel.load(path).shape[:3])  # type: ignore[attr-defined]
        if name.endswith((".nrrd", ".nhdr")):
            import nrrd

            header = nrrd.read_header(str(path))
            kinds = header.get("kinds", ["domain"])
            return _by_sides(header["sizes"][0 if kinds[0] in ("domain", "space") else 1 :])
    readable = ", ".join((".png", *TIFF, *NIFTI, ".nrrd", *HEADERS, *HDF5, *VENDOR))
    raise InputError(f"input {given} is no image, volume or slide that this program reads ({readable}, OME-Zarr).")


def _by_sides(sides: Any) -> str:
    return VOLUME if sum(int(size) > 1 for size in sides) > 2 else SLIDES


def _kind_of_tiff(path: Path, given: str, channels: int) -> str:
    import tifffile

    from bundle.images.slides import PAGES, TIFF_AXES
    from bundle.images.whole_slides import is_level

    with tifffile.TiffFile(path) as file:
        full: Any = file.series[0]
        flat = full.axes in TIFF_AXES
        if flat and (len(full.levels) > 1 or any(is_level(each, full) for each in file.series[1:])):
            return SLIDE
        if flat:
            return SLIDES
        if full.axes in PAGES and channels > 1:
            raise InputError(
                f"input {given} has {full.shape[0]} grey pages, and does not say whether they are channels of an image "
                f"or slices of a volume; say --kind {SLIDES} or --kind {VOLUME}."
            )
        return VOLUME


def _kind_of_dicom(path: Path) -> str:
    if _sop_class(path) == WHOLE_SLIDE:
        return SLIDE
    raise InputError(f"input {path} is one DICOM file; a scan is a series: name its folder, {path.parent}.")


def _sop_class(path: Path) -> str:
    import pydicom

    found = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"], force=True)
    return str(found.get("SOPClassUID", ""))


def _kind_of_folder(path: Path, given: str) -> str:
    from bundle.images.slides import suffix_of
    from bundle.images.volumes.readers.dicom import holds_dicom
    from bundle.images.volumes.readers.ome_zarr import is_zarr

    if is_zarr(path):
        return _kind_of_zarr(path, given)
    images = [each for each in path.iterdir() if suffix_of(each) and not each.name.startswith(".")]
    if not images and holds_dicom(path):
        from bundle.images.dicom.folder import may_be_dicom

        files = [each for each in sorted(path.rglob("*")) if may_be_dicom(each)]
        if _sop_class(files[0]) == WHOLE_SLIDE:
            raise InputError(f"input {given} holds a whole slide in DICOM; name one of its files, such as {files[0]}.")
        return VOLUME
    if not images:
        inside = sorted(each.name for each in path.iterdir() if each.is_dir())
        hint = f"; its folders are not searched, name one of them: {', '.join(inside[:9])}" if inside else "."
        raise InputError(f"input {given} holds no image{hint}")
    if len(images) == 1:
        return SLIDES
    raise InputError(
        f"input {given} holds {len(images)} images, which may be single ones or the slices of one volume; say "
        f"--kind {SLIDES} (each is stained by itself) or --kind {VOLUME}."
    )


def _kind_of_zarr(path: Path, given: str) -> str:
    axes = [str(each.get("name")).lower() for each in _axes(path) if isinstance(each, Mapping)]
    if axes and "z" not in axes:
        raise InputError(
            f"input {given} is an OME-Zarr without z, so a slide; slides are read from TIFF and scanners' formats: "
            "convert it to OME-TIFF."
        )
    return VOLUME


def _axes(path: Path) -> list[Any]:
    """The axes of an OME-Zarr's first image; none if it does not say."""
    for name in (".zattrs", "zarr.json"):
        if (path / name).is_file():
            try:
                content = json.loads((path / name).read_text(encoding="utf-8"))
                content = content.get("attributes", content)
                return list(content.get("ome", content)["multiscales"][0]["axes"])
            except (ValueError, LookupError, TypeError, AttributeError):
                continue
    return []
