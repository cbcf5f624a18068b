"""A trained bundle at hand in Python: arrays in, stained arrays out, without files in between."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bundle.common.config import no_codec_notes
from bundle.common.config_text import as_path, as_text
from bundle.common.errors import InputError, input_error
from bundle.common.trained_bundle import levels_of, recalibrated, size_note, trained_pixel_um
from bundle.common.verdicts import DOUBTFUL, REFUSED, UNLIKE, Verdict
from bundle.images.volumes.channels import all_with_air
from bundle.images.volumes.volume import Volume
from bundle.networks.cells import at_pixels, cells_of
from bundle.staining.checks import flat_channels, pixel_faults, refuse_unlike, rgb_alone, values_taken
from bundle.staining.error_map import rounded
from bundle.staining.job import Settings, own_device, scan_faults, survey
from bundle.staining.judged import JudgedSlice, JudgedVolume
from bundle.staining.lazily import stained_lazily
from bundle.staining.model import TrainedModel, load_model, modality
from bundle.staining.reference import check_reference, reference_of, telling_slice
from bundle.staining.slabs import NAME, SlabStainer, channels_of, checked_config, made
from bundle.staining.slides import setting_faults
from bundle.staining.trust import tell

logger = logging.getLogger("bundle")

RGB = 3
SLICE, VOLUME = 2, 3  # axes, without that of channels
READING, LOOKING, STAINING = "reading the scan", "looking for a section", "staining"
Parts = tuple[Any, Any, dict[int, Verdict]]  # of a JudgedVolume
Report = Callable[[str, int, int], None]  # what is being done, how far, of how many slices


class Stain:
    """A trained bundle as a function, see :func:`load`.

    Attributes:
        bundle_root: its folder.
        pixel_um: size of the pixels that it was trained on, µm; None where that is not recorded.
        model: what it calls.
    """

    def __init__(self, bundle_root: str, model: TrainedModel, ids: Mapping[str, Any]) -> None:
        self.bundle_root, self.model, self._ids = bundle_root, model, dict(ids)
        self.pixel_um = trained_pixel_um(bundle_root)
        config = checked_config(bundle_root, [], **self._ids)
        self._source: dict[str, Any] = config["source"]
        self._target: dict[str, Any] = config["target"]
        self._normalisation = str(config.get("normalisation", "window"))
        self._given = (made(config, "bone_intensity"), made(config, "background_intensity"))

    def __repr__(self) -> str:
        """What it makes of what."""
        return f"Stain({self.bundle_root!r}: {self.model.target.name} from {self.model.source.name})"

    def __reduce__(self) -> Any:
        """Pickled it is where its files are, and loaded again."""
        return _loaded, (self.bundle_root, self._ids)

    def __call__(self, slice_2d: Any) -> np.ndarray:
        """Stain a slice, as ``inference.json`` does with the same in a file.

        Args:
            slice_2d: (H, W), the scan's own grey values; (C, H, W) of a model that takes several channels.

        Returns:
            (H, W, 3), uint8.

        Raises:
            InputError: if it is not a slice that this model can stain, with a line for each fault.
        """
        return self.judged(slice_2d).rgb

    def judged(self, slice_2d: Any, pixel_um: float | None = None) -> JudgedSlice:
        """The same, with what is known of where to believe it.

        Args:
            slice_2d: as there.
            pixel_um: size of its pixels, µm, to be told if the model was trained on others; None says nothing of it.

        Raises:
            InputError: as there; or if the slice is unlike the training and ``refuse_unlike`` was set.
        """
        pixels = self._with_channels(np.asarray(slice_2d), SLICE)
        if faults := pixel_faults("the slice", pixels, self._taken, levels_of(*self._given)):
            raise InputError("\n".join(faults))
        stain, cells, verdict = self.model.judged(pixels)
        if verdict is not None and verdict.word == UNLIKE and self.model.trust.refuse:
            raise InputError(f"the slice is {verdict}; it is refused, as {REFUSED}")
        tell("the slice", verdict)
        error = None
        if cells is not None:
            error = rounded(at_pixels(torch.from_numpy(cells), *pixels.shape[1:]).numpy())[0]
        notes = self._size_notes("the slice", pixel_um)
        return JudgedSlice(np.ascontiguousarray(stain.transpose(1, 2, 0)), error, verdict, _told(notes))

    def volume(self, scan: Any, voxel_um: float | Sequence[float], **options: Any) -> Any:
        """Stain a volume, as ``volume.json`` does along z with the same in a file.

        Args:
            scan: as of :meth:`judged_volume`.
            voxel_um: likewise.
            options: likewise.

        Returns:
            (Z, Y, X, 3), uint8: a NumPy array, or of a Dask array another one, of which nothing is stained yet.

        Raises:
            InputError: as there.
        """
        return self.judged_volume(scan, voxel_um, **options).rgb

    def judged_volume(
        self,
        scan: Any,
        voxel_um: float | Sequence[float],
        *,
        sigma: float | None = None,
        reference_slice: int | None = None,
        fill_nan: float | None = None,
        slices: int = 1,
        report: Report = lambda what, done, total: None,
    ) -> JudgedVolume:
        """The same, with what is known of where to believe it.

        The whole scan is read once, a few slices at a time, before the first is stained: its values are checked, and
        where one section decides about all of it, that is looked for.

        Args:
            scan: (Z, Y, X), the scan's own grey values; (C, Z, Y, X) of a model that takes several channels. A NumPy or
                Dask array, or whatever has a shape and a type and gives slices (Zarr, HDF5, a memory map).
            voxel_um: size of its voxels in µm, one number or (z, y, x).
            sigma: of the 3D Gaussian before the stain, voxels; None for the bundle's own.
            reference_slice: number of the slice whose statistics all is stained with, where one section decides; None
                to look for what is most like the training's.
            fill_nan: grey value in place of NaN outside the reconstruction circle; None refuses NaN there too.
            slices: of a Dask array, that are stained together: one to look at a few, more to compute all.
            report: called as the work goes on; what it raises ends the work. Of a Dask array, until staining begins.

        Raises:
            InputError: if it is not a scan that this model can stain, with a line for each fault.
        """
        array: Any = scan if hasattr(scan, "dtype") and hasattr(scan, "shape") else np.asarray(scan)
        self._check_shape(array, VOLUME)
        if np.dtype(array.dtype).kind not in "buif":
            raise InputError(f"{NAME} holds {array.dtype}; a scan is grey, of whole or real numbers, so convert it.")
        if voxel_um is None:
            raise InputError("voxel_um is None; give the size of the array's voxels in µm, one number or (z, y, x).")
        if not isinstance(slices, int) or slices < 1:
            raise InputError(f"slices is {slices!r}; it must be a whole number from 1 on.")
        rgb_alone(self._target)
        size, fill_nan = plain(voxel_um), plain(fill_nan)
        given = {"voxel_um": size, "reference_slice": plain(reference_slice), "fill_nan": fill_nan}
        own = {} if sigma is None else {"sigma": plain(sigma)}
        as_text({**given, **own})
        stainer = SlabStainer(self.bundle_root, {**self._ids, **given, **own})
        sizes = size if isinstance(size, list) else [size] * VOLUME
        settings = made(stainer.config, "settings")  # before what follows, as it checks voxel_um
        lazy = hasattr(array, "__dask_graph__")
        channels = channels_of(array, sizes, max(array.chunks[-3]) if lazy else 1)  # type: ignore[arg-type]
        channels, notes = self._surveyed(all_with_air(channels, fill_nan), settings, report)
        stainer, reference = self._decided(stainer, channels, reference_slice, report)
        if lazy:
            made_of = stained_lazily(stainer, array, channels, fill_nan, slices)
        else:
            made_of = self._at_once(stainer, channels, report)
        made_volume = JudgedVolume(*made_of, reference, notes)
        if made_volume.word in (DOUBTFUL, UNLIKE):
            _told(JudgedVolume(*made_of).told.split("\n"))  # of the reference and the rest it was told
        return made_volume

    def _check_shape(self, array: Any, axes: int) -> None:
        """Raise an :class:`InputError` if an array has not the axes that this model's source has."""
        if 0 in array.shape or any(side != side for side in array.shape):  # Dask's NaN
            raise InputError(
                f"the array is {'×'.join(map(str, array.shape))}; it must hold something, of a known size (of "
                "a Dask array compute_chunk_sizes() finds it)."
            )
        channels, what = self.model.source.channels, "a slice is (H, W)" if axes == SLICE else "a scan is (Z, Y, X)"
        found = "×".join(map(str, array.shape))
        if len(array.shape) == axes and channels == 1:
            return
        if len(array.shape) == axes + 1 and array.shape[0] == channels:
            return
        if channels > 1:
            what = f"{what}, with {channels} channels before"
        raise InputError(f"the array is {found or 'one number'}, but of this model's {self.model.source.name} {what}.")

    def _with_channels(self, array: np.ndarray, axes: int) -> np.ndarray:
        self._check_shape(array, axes)
        if array.dtype.kind not in "buif":
            raise InputError(f"the slice holds {array.dtype}; it must be of whole or real numbers, so convert it.")
        return array[None] if array.ndim == axes else array

    @property
    def _taken(self) -> Any:
        return values_taken(modality(self._source, "source"), recalibrated(self._source, *self._given))

    def _surveyed(
        self, channels: list[Volume], settings: Settings, report: Report
    ) -> tuple[list[Volume], tuple[str, ...]]:
        """Channels of a scan that has been read once and is such as can be stained, and what is to be noted of it."""
        if faults := scan_faults(channels[0], settings):
            raise InputError("\n".join(faults))
        levels, found = levels_of(*self._given), []
        for channel in channels:
            found.append(survey(channel, self._taken, levels, lambda done, total: report(READING, done, total)))
        scans, _, fills, flat = zip(*found, strict=True)
        filled = [] if fills[0] is None else [f"{NAME} holds {fills[0]}, stained as it is"]
        sizes = self._size_notes(str(NAME), max(channels[0].geometry.spacing_um[1:]))
        return channels, _told([*sizes, *flat_channels(channels, scans, flat), *filled])

    def _size_notes(self, what: str, pixel_um: float | None) -> list[str]:
        return [note.removeprefix("note: ") for note in size_note(what, pixel_um, self.pixel_um)]

    def _decided(
        self, stainer: SlabStainer, channels: list[Volume], reference_slice: int | None, report: Report
    ) -> tuple[SlabStainer, dict[str, Any] | None]:
        """What stains all slabs alike, with statistics and arithmetic if these are open; and whose they are."""
        inner, shape = stainer.stainer, channels[0].shape
        check_reference(inner, reference_slice, "z", shape, self._normalisation)
        refuse_unlike(channels, inner)
        sources, statistics, reference = stainer.smoothed(channels), None, None

        def read(axis: str, place: int) -> np.ndarray:
            return np.stack([source.slab(axis, place, place + 1)[0] for source in sources])

        if inner.by_specimen:
            look = lambda done, total: report(LOOKING, done, total)
            learnt, reference = reference_of(inner, read, "z", shape, reference_slice, look)
            statistics = learnt.numpy()
            inner.settle(learnt)
        name = inner.choose(telling_slice(read, "z", shape))["name"] if inner.undecided else None
        decided = SlabStainer(stainer.bundle_root, stainer.ids, statistics, name)
        vars(decided).update(config=stainer.config, stainer=inner)  # which are loaded already
        return decided, reference

    def _at_once(self, stainer: SlabStainer, channels: list[Volume], report: Report) -> Parts:
        shape = channels[0].shape
        rgb, verdicts = np.empty((*shape, RGB), np.uint8), []
        errors = None
        if stainer.stainer.trust.calibration is not None:
            errors = np.empty((shape[0], cells_of(shape[1]), cells_of(shape[2])), np.float32)
        for start, stop, slab in stainer.slabs(channels, lambda done: report(STAINING, done, shape[0])):
            rgb[start:stop] = slab.rgb
            if errors is not None:
                errors[start:stop] = slab.errors
            verdicts += slab.verdicts
        return rgb, errors, dict(enumerate(verdicts))


def plain(value: Any) -> Any:
    """The same number, or list of numbers, as Python's own: a config's checks take no other."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    return [plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _told(lines: Sequence[str]) -> tuple[str, ...]:
    """Lines that have been told as warnings; empty ones are left out."""
    for line in filter(None, lines):
        logger.warning("%s", line)
    return tuple(lines)


def load(bundle_root: str | Path, device: str | torch.device | None = None, **ids: Any) -> Stain:
    """Load a trained bundle, to stain arrays with.

    Args:
        bundle_root: the folder, as a run leaves it in ``RUN/bundle``.
        device: where to compute; None for the GPU if there is one.
        ids: others of its ``configs/inference.json``: ``bone_intensity`` and ``background_intensity`` of the scan if
            they are not those of the training, ``speed``, ``refuse_unlike``, …

    Raises:
        InputError: if the folder is no trained bundle, or an id is none that it has, or not what it may be.
    """
    no_codec_notes()
    root, chosen = as_path(str(bundle_root)), _device(device)
    ids = {name: as_text(plain(value), name) for name, value in ids.items()} | {"device": str(chosen)}
    config = checked_config(root, [], **ids)
    names = ("direction", "window", "step", "speed", "source", "bone_intensity", "background_intensity")
    given = {name: made(config, name) for name in names}
    faults = setting_faults(**given, normalisation=config.get("normalisation", "window"))
    if given["direction"] == "reverse":
        faults.append("direction is 'reverse'; from Python a bundle stains forward only.")
    if faults:
        raise InputError("\n".join(faults))
    try:
        model = load_model(root, chosen, **{name: value for name, value in ids.items() if name != "device"})
    except Exception as error:
        fault = input_error(error)
        if fault is None:
            raise
        raise InputError(str(fault)) from error
    if model.trust.missing:
        logger.warning(model.trust.missing)
    return Stain(root, model, ids)


def _loaded(bundle_root: str, ids: Mapping[str, Any]) -> Stain:
    return load(bundle_root, **ids)


def _device(name: str | torch.device | None) -> torch.device:
    try:
        return torch.device(own_device() if name is None else name)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device is {name!r}; it must be cpu, cuda, or cuda with a number, cuda:0.") from error
