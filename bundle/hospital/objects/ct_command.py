"""A scan made a CT series, as typed."""

from __future__ import annotations

from pathlib import Path

from bundle.common.atomic import check_writable
from bundle.common.errors import InputError
from bundle.hospital.objects.ct import DESCRIPTION, write_series
from bundle.images.volumes.fill import some_slices
from bundle.images.volumes.volume import described, open_volume


def series(
    input: str,  # noqa: A002 - the option's name in all commands
    output: str,
    patient_id: str | None = None,
    description: str = DESCRIPTION,
    voxel_um: float | tuple[float, float, float] | None = None,
) -> str:
    """Write a scan as a DICOM CT series with its geometry; patient, study and all identifiers are made up.

    Args:
        input: the scan, of any format that volumes are read in, of whole numbers that fit 16 bits.
        output: folder for the files, one per slice; empty or new.
        patient_id: of the patient; made up if not given.
        description: of the series.
        voxel_um: voxel size in µm, (z, y, x) or one, in place of what the scan states.

    Raises:
        InputError: if the scan cannot be read or does not fit, or the folder is not empty.
    """
    folder = Path(output)
    check_writable(folder)
    if any(folder.iterdir()):
        raise InputError(f"output {folder} is not empty; give a new folder, or there will be two series in it.")
    volume = open_volume(Path(input), voxel_um, "--voxel_um")
    slices, places = some_slices(volume)
    print(described(volume, float(slices.min()), float(slices.max()), len(places)))
    identity = None if patient_id is None else str(patient_id)
    files = write_series(folder, volume, identity, str(description))
    return f"{len(files)} slices are in {folder}. Patient, study and all identifiers in them are made up."
