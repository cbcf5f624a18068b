"""A real napari with the plugin's dock: stains a scan and takes a picture of the window.

Run by tests/napari/test_dock.py, and for docs/images/napari_dock.png:
``xvfb-run -a -s "-screen 0 1400x900x24" python -m tests.helpers.napari_dock BUNDLE PICTURE --phantom SCAN``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import napari
import nibabel
import npe2
import numpy as np
from qtpy.QtWidgets import QApplication

from tests.conftest import ROOT
from tests.helpers.volumes import make_voxels

MANIFEST = ROOT / "plugins" / "napari" / "napari_virtual_staining" / "napari.yaml"
SECONDS = 500


def main(bundle: str, picture: str, scan: str) -> None:
    """Stain ``scan``, or with ``0`` some blobs, and write the picture."""
    manager = npe2.PluginManager.instance()
    if "napari-virtual-staining" not in manager:  # else it is installed
        manager.register(npe2.PluginManifest.from_file(MANIFEST))
    voxels = make_voxels((12, 48, 40)) if scan == "0" else np.asarray(nibabel.load(scan).dataobj).T[96:160]
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1390, 880)
    viewer.add_image(voxels, name="scan", scale=(5, 5, 5), units=("um",) * 3)
    _, dock = viewer.window.add_plugin_dock_widget("napari-virtual-staining", "Stain this layer")
    dock.folder.setText(bundle)
    dock.read_bundle()
    dock.bone.setText("30000")
    dock.background.setText("10000")
    dock.stain()
    end = time.monotonic() + SECONDS
    while dock.worker is not None and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.05)
    print("layers: " + "; ".join(layer.name for layer in viewer.layers), dock.status.text())
    grid = viewer.canvas.grid if hasattr(viewer, "canvas") else viewer.grid  # since napari 0.9
    viewer.layers[-1].visible = grid.enabled = True
    grid.stride, grid.shape = 1, (1, 3)
    viewer.reset_view()
    for _ in range(20):
        QApplication.processEvents()
        time.sleep(0.05)
    viewer.window.screenshot(path=picture, canvas_only=False, flash=False)
    viewer.close()


if __name__ == "__main__":
    main(sys.argv[1], str(Path(sys.argv[2])), sys.argv[4])
