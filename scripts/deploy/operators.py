"""The operators of the Deploy application: the SDK's own, with as little changed as the result demands."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from monai.deploy.core import AppContext, Fragment, Image, IOType, Operator, OperatorSpec
from monai.deploy.core.domain.dicom_series import DICOMSeries
from monai.deploy.core.domain.dicom_series_selection import StudySelectedSeries
from monai.deploy.operators import (
    BundleConfigNames,
    DICOMSeriesSelectorOperator,
    DICOMSeriesToVolumeOperator,
    IOMapping,
    MonaiBundleInferenceOperator,
)

from bundle.common.errors import InputError
from bundle.common.trained_bundle import config_files
from bundle.common.verdicts import NEITHER
from bundle.hospital.objects.colour import KINDS, WRITERS
from bundle.hospital.objects.made import Made, judged_by
from bundle.images.dicom.source import Source, open_folder
from bundle.images.dicom.words import plain
from bundle.networks.volume_likeness import VolumeLikeness, volume_likeness
from scripts.deploy.settings import Settings

SELECTED, SOURCE, IMAGE, STAINED = "study_selected_series_list", "source", "image", "pred"
JUDGED = "likeness"
LISTED = 8  # series named in one message


class SeriesSelector(DICOMSeriesSelectorOperator):
    """The SDK's selection, and exactly one series of it: the SDK alone takes whichever comes first."""

    def __init__(self, fragment: Fragment, *args: Any, settings: Settings, **kwargs: Any) -> None:
        """Make the operator.

        Args:
            fragment: the application.
            args: for the SDK.
            settings: whose rules, and whose ``series_uid``, choose.
            kwargs: for the SDK.
        """
        self.settings = settings
        rules = json.dumps({"selections": settings.rules.selections})
        super().__init__(fragment, *args, rules=rules, all_matched=True, **kwargs)

    def filter(
        self,
        selection_rules: Any,
        dicom_study_list: list[Any],
        all_matched: bool = True,
        sort_by_sop_instance_count: bool = False,
    ) -> list[StudySelectedSeries]:
        """The one series to stain, in its study.

        Raises:
            InputError: if none meets the rules, or several do and none of them is named.
        """
        try:
            studies = super().filter(selection_rules, dicom_study_list, all_matched, sort_by_sop_instance_count)
        except (AttributeError, TypeError, ValueError, NotImplementedError) as error:
            raise InputError(
                f"a condition of {self.settings.rules_file} cannot be compared with what a series has ({error})."
            ) from error
        # two selections of the rules may choose the same series
        met = {each.series.SeriesInstanceUID: (study, each) for study in studies for each in study.selected_series}
        all_found = [series for study in dicom_study_list for series in study.get_all_series()]
        uid = self.settings.series_uid
        if uid is not None and uid not in met:
            there = any(series.SeriesInstanceUID == uid for series in all_found)
            why = f"does not meet {self.settings.rules_file}" if there else f"is not in {self.settings.input}"
            raise InputError(f"--series {plain(uid)} {why}; there are {listed(all_found)}.")
        if not all_found:
            raise InputError(f"{self.settings.input} holds no DICOM series; give the folder of one.")
        if not met:
            raise InputError(f"no series meets {self.settings.rules_file}; there are {listed(all_found)}.")
        if uid is None and len(met) > 1:
            series = listed([chosen.series for _, chosen in met.values()])
            raise InputError(f"{len(met)} series meet {self.settings.rules_file}, choose with --series UID: {series}.")
        study, chosen = met[uid] if uid is not None else next(iter(met.values()))
        alone = StudySelectedSeries(study.study)
        alone.add_selected_series(chosen)
        return [alone]


def listed(series: Sequence[DICOMSeries]) -> str:
    """Series for a message: what is in a tag is made safe to print."""
    words = [
        f"{plain(str(each.SeriesInstanceUID))} ({plain(str(each.Modality or '?'))}, "
        f"{plain(str(each.SeriesDescription or 'no description'))!r}, {len(each.get_sop_instances())} files)"
        for each in series
    ]
    more = [f"{len(words) - LISTED} more"] if len(words) > LISTED else []
    return "; ".join(words[:LISTED] + more) or "none"


class SeriesCheck(Operator):
    """Lets a series pass if it is one regular grid, before anything is computed; gives its headers in order."""

    def __init__(self, fragment: Fragment, *args: Any, settings: Settings, made: Made, **kwargs: Any) -> None:
        """Make the operator.

        Args:
            fragment: the application.
            args: for the SDK.
            settings: whose folders are read and written.
            made: what will make the stain.
            kwargs: for the SDK.
        """
        self.settings, self.made = settings, made
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports: a selection in, the same and its :class:`Source` out."""
        spec.input(SELECTED)
        spec.output(SELECTED)
        spec.output(SOURCE)

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Check the selected series; what is stained already goes no further, and the application ends.

        Raises:
            InputError: if it is not one regular grid.
        """
        selected = op_input.receive(SELECTED)
        asked = self.settings
        source = check_series(selected[0].selected_series[0].series, asked.input)
        z, y, x = source.shape
        print(f"series {plain(source.series_uid)}: {z} slices of {x} × {y} px", flush=True)
        if is_stained(asked.output, self.made.series_uid(source, KINDS[asked.frames]), z):
            print(f"its stain by this model is in {asked.output} already; nothing to do", flush=True)
            return
        op_output.emit(selected, SELECTED)
        op_output.emit(source, SOURCE)


def is_stained(folder: Path, series_uid: str, slices: int) -> bool:
    """Whether a folder holds all frames of a stained series: the same model and scan give the same UIDs.

    Written a second time they would be other objects, of another time, under the same UIDs.
    """
    frames = 0
    for path in folder.glob("[!.]*.dcm"):  # one with a dot is what a killed run was in the middle of
        header = pydicom.dcmread(path, force=True, specific_tags=["SeriesInstanceUID", "NumberOfFrames"])
        if header.get("SeriesInstanceUID") == series_uid:
            frames += int(header.get("NumberOfFrames", 1))
    return frames == slices


def check_series(series: DICOMSeries, folder: Path) -> Source:
    """The headers of a series in order, once all of it is seen to be one regular grid.

    They are read from the files again: of two slices in one place the SDK's loader keeps one, and one that it cannot
    read it leaves out, both without a word.

    Raises:
        InputError: if it is none, or if the SDK loaded something else.
    """
    source = open_folder(folder, str(series.SeriesInstanceUID))
    loaded = {str(each.get_native_sop_instance().SOPInstanceUID) for each in series.get_sop_instances()}
    if loaded != set(source.instance_uids):
        raise InputError(
            f"series {plain(source.series_uid)} has {source.shape[0]} slices, but the SDK loaded {len(loaded)} objects"
            f" of it; take what is no slice out of {folder}, and give files with a preamble (dcmconv)."
        )
    for each in series.get_sop_instances():
        each.get_native_sop_instance().pop("PixelData", None)  # SeriesToVolume reads from the files; 2 bytes per voxel
    return source


class SeriesToVolume(DICOMSeriesToVolumeOperator):
    """The SDK's volume with the grey values that plain bundle inference reads from the same files.

    The SDK's own differ: it takes the first slice's type for all, so that a slice with other values wraps round; it
    inverts MONOCHROME1; and it keeps integers, which the Gaussian filter would round to integers again.
    """

    source: Source

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the SDK's ports, and one for the headers."""
        super().setup(spec)
        spec.input(SOURCE)

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Make the volume of the selected series."""
        self.source = op_input.receive(SOURCE)
        super().compute(op_input, op_output, context)

    def generate_voxel_data(self, series: DICOMSeries) -> np.ndarray:
        """Rescaled grey values (Z, Y, X), float32, in the order of :class:`Source`."""
        return np.asarray(self.source.read(0, self.source.shape[0]), dtype=np.float32)


class StainOperator(MonaiBundleInferenceOperator):
    """The SDK's bundle inference, for a bundle that makes colour and is told the grey values of a scan.

    Before it stains it says how like the training data the scan is.
    """

    judged: VolumeLikeness

    def __init__(
        self, fragment: Fragment, *args: Any, app_context: AppContext, settings: Settings, **kwargs: Any
    ) -> None:
        """Make the operator.

        Args:
            fragment: the application.
            args: for the SDK.
            app_context: of the application.
            settings: whose bundle and reference intensities stain.
            kwargs: for the SDK.
        """
        self.settings = settings
        super().__init__(
            fragment,
            *args,
            app_context=app_context,
            input_mapping=[IOMapping(IMAGE, Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping(STAINED, Image, IOType.IN_MEMORY)],
            bundle_path=settings.bundle_root,
            bundle_config_names=BundleConfigNames(
                config_names=[file.stem for file in config_files(settings.bundle_root)]
            ),
            **kwargs,
        )

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the SDK's ports, and one for how like the training data the scan is."""
        super().setup(spec)
        spec.output(JUDGED)

    def predict(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """Judge a prepared scan (1, C, Z, Y, X), and stain it.

        Raises:
            InputError: if it is unlike the training data, where such are refused.
        """
        self.judged = volume_likeness(self.settings.bundle_root, data[0].as_tensor(), self.settings.refuse_unlike)
        print(self.judged.words or NEITHER, flush=True)
        return super().predict(data, *args, **kwargs)

    def _init_config(self, config_names: Sequence[str]) -> None:
        super()._init_config(config_names)
        self._inferer.progress = sys.stderr.isatty()

    def _get_compose(self, obj_name: str, disallowed_prefixes: Sequence[str]) -> Any:
        # The SDK takes a config as it stands; these two are the scan's. They are numbers, so no expression gets in.
        for name in ("bone_intensity", "background_intensity"):
            self._parser[name] = getattr(self.settings, name)
        # The SDK makes steps that load and save, and then drops them; ITK would have to be here for that.
        for step in self._parser[obj_name]["transforms"]:
            if isinstance(step, dict) and any(name in step.get("_target_", "") for name in disallowed_prefixes):
                step["_disabled_"] = True
        self._parser.parse()
        return super()._get_compose(obj_name, disallowed_prefixes)

    def _send_output(self, value: Any, name: str, metadata: dict[str, Any], op_output: Any, context: Any) -> None:
        # the SDK's drops a channel axis of length 1, which colour has not
        op_output.emit(np.asarray(value.cpu()).transpose(3, 2, 1, 0), name)
        op_output.emit(self.judged, JUDGED)


class ColourWriter(Operator):
    """Writes the stained series as DICOM, with the source's patient, study and geometry."""

    def __init__(self, fragment: Fragment, *args: Any, settings: Settings, made: Made, **kwargs: Any) -> None:
        """Make the operator.

        Args:
            fragment: the application.
            args: for the SDK.
            settings: whose output gets the objects, of the kind it asks for.
            made: what made the stain.
            kwargs: for the SDK.
        """
        self.folder, self.write, self.made = settings.output, WRITERS[settings.frames], made
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports: the colours, what is known of them, and the source's headers in."""
        spec.input(STAINED)
        spec.input(JUDGED)
        spec.input(SOURCE)

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Write the objects, each whole or not at all."""
        stained, judged, source = (op_input.receive(port) for port in (STAINED, JUDGED, SOURCE))
        made = judged_by(self.made, judged)
        paths = self.write(self.folder, source, lambda start, stop: stained[start:stop], made)
        print(f"wrote the stained series to {self.folder}: {len(paths)} DICOM file{'s' * (len(paths) > 1)}", flush=True)
