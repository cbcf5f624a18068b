"""How the operators of the Deploy application hang together."""

from __future__ import annotations

from monai.deploy.conditions import CountCondition
from monai.deploy.core import AppContext, Application
from monai.deploy.operators import DICOMDataLoaderOperator

from bundle.common.trained_bundle import read_stock_config, stock_settings
from bundle.hospital.objects.made import made
from scripts.deploy.operators import (
    IMAGE,
    JUDGED,
    SELECTED,
    SOURCE,
    STAINED,
    ColourWriter,
    SeriesCheck,
    SeriesSelector,
    SeriesToVolume,
    StainOperator,
)
from scripts.deploy.settings import Settings


class StainApplication(Application):
    """Loader → selector → check → volume → stain → writer."""

    def __init__(self, settings: Settings) -> None:
        """Make the application.

        Args:
            settings: what it is to do.
        """
        self.settings = settings
        super().__init__()

    def compose(self) -> None:
        """Make the operators and join their ports."""
        asked = self.settings
        context = AppContext({"input": str(asked.input), "output": str(asked.output), "model": str(asked.bundle_root)})
        context.models = None  # the SDK's guess at what a folder of files is; the operator reads the bundle itself
        levels = (asked.bone_intensity, asked.background_intensity)
        made_by = made(asked.bundle_root, stock_settings(read_stock_config(asked.bundle_root), *levels))

        # nothing feeds the loader, so without the count it would start anew for ever
        once = CountCondition(self, 1)
        load = DICOMDataLoaderOperator(self, once, input_folder=asked.input, must_load=False, name="load")
        select = SeriesSelector(self, settings=asked, name="select")
        check = SeriesCheck(self, settings=asked, made=made_by, name="check")
        volume = SeriesToVolume(self, name="volume")
        stain = StainOperator(self, app_context=context, settings=asked, name="stain")
        write = ColourWriter(self, settings=asked, made=made_by, name="write")

        self.add_flow(load, select, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(select, check, {(SELECTED, SELECTED)})
        self.add_flow(check, volume, {(SELECTED, SELECTED), (SOURCE, SOURCE)})
        self.add_flow(volume, stain, {(IMAGE, IMAGE)})
        self.add_flow(stain, write, {(STAINED, STAINED), (JUDGED, JUDGED)})
        self.add_flow(check, write, {(SOURCE, SOURCE)})
