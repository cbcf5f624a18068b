"""Run in the Deploy environment: ``python -m tests.hospital.deploy_checks BUNDLE RULES FOLDER…``.

Loads, selects and checks the series in each folder with the application's operators, and prints what each gives, as
JSON; starting the whole application for each would take minutes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch  # noqa: F401  the SDK's libraries need what it loads
from monai.deploy.core import Application
from monai.deploy.operators import DICOMDataLoaderOperator

from bundle.common.errors import InputError
from scripts.deploy.operators import SeriesSelector, check_series
from scripts.deploy.settings import read_settings


def outcome(bundle: str, rules: str, folder: str) -> object:
    """The shape of a scan that passes, or what is said of one that does not."""
    settings = read_settings(["-i", folder, "-o", "unused", "-m", bundle, "--rules", rules])
    application = Application()
    try:
        loader = DICOMDataLoaderOperator(application, input_folder=Path(folder), must_load=False, name="load")
        studies = loader.load_data_to_studies(Path(folder))
        selector = SeriesSelector(application, settings=settings, name="select")
        (study,) = selector.filter({"selections": list(settings.rules.selections)}, studies)
        return check_series(study.selected_series[0].series, Path(folder)).shape
    except InputError as fault:
        return str(fault)


if __name__ == "__main__":
    first, second, *folders = sys.argv[1:]
    print(json.dumps({Path(folder).name: outcome(first, second, folder) for folder in folders}))
