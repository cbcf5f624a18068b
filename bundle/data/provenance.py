"""What made a result: data, config, versions, machine."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import time
from typing import Any

from bundle.common.machine import code_version, hardware, versions
from bundle.data.datalist import Datalist


def provenance(data: Datalist, config: dict[str, Any]) -> dict[str, Any]:
    """What a result came from: config, data, versions, machine, pixel size.

    Args:
        data: the checked dataset.
        config: the merged config.

    Returns:
        Plain JSON.
    """
    text = json.dumps(config, sort_keys=True, default=str)
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "code": code_version(),
        "dataset_dir": str(data.folder.resolve()),
        "description": data.description,
        "data_sha256": data.checksums,
        "pixel_um": data.pixel_um,
        "allow_same_specimen": data.allow_same_specimen,
        "versions": versions(),
        "machine": platform.platform(),
        **hardware(),
    }
