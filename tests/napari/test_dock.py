"""The napari plugin: its manifest, its dock on layers in memory, and in a real napari on a screen of its own."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bundle import load
from tests.conftest import ROOT
from tests.helpers.believed import make_believed
from tests.helpers.volumes import make_voxels

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
napari = pytest.importorskip("napari", reason="napari is not installed: pip install -e '.[viewers]'")
QtWidgets = pytest.importorskip(
    "qtpy.QtWidgets", reason="no Qt for napari is installed: pip install -e '.[viewers]'", exc_type=ImportError
)
PLUGIN = ROOT / "plugins" / "napari"
sys.path.insert(0, str(PLUGIN))
LEVELS = {"bone": "30000", "background": "10000"}
VOXELS = make_voxels((12, 48, 40))


@pytest.fixture(scope="module")
def believed(levelled, tmp_path_factory) -> Path:
    """A bundle with grey values of bone and background, an error map and a likeness."""
    return make_believed(levelled, tmp_path_factory.mktemp("believed") / "bundle")


@pytest.fixture
def viewer():
    from napari.components import ViewerModel

    return ViewerModel()


@pytest.fixture
def dock(viewer):
    from napari_virtual_staining.dock import StainDock

    app = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    made = StainDock(viewer)
    yield made
    made.close()
    app.processEvents()


def choose(dock, bundle, **fields):
    dock.folder.setText(str(bundle))
    dock.read_bundle()
    for name, text in fields.items():
        getattr(dock, name).setText(text)


def wait(dock, seconds=120):
    end = time.monotonic() + seconds
    while dock.worker is not None:
        QtWidgets.QApplication.processEvents()
        assert time.monotonic() < end
        time.sleep(0.01)


def shown(label):
    return "" if label.isHidden() else label.text()


def test_the_manifest_is_what_napari_wants():
    npe2 = pytest.importorskip("npe2")
    done = subprocess.run(
        [sys.executable, "-m", "npe2", "validate", str(PLUGIN / "napari_virtual_staining/napari.yaml")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{PLUGIN}"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Manifest for 'Virtual staining' valid" in done.stdout
    manifest = npe2.PluginManifest.from_file(PLUGIN / "napari_virtual_staining/napari.yaml")
    (command,), (widget,) = manifest.contributions.commands, manifest.contributions.widgets
    assert widget.command == command.id
    module, _, name = command.python_name.partition(":")
    assert issubclass(getattr(importlib.import_module(module), name), QtWidgets.QWidget)


def test_a_volume_comes_back_in_colour_where_it_lay_with_its_error_beside(dock, viewer, believed):
    layer = viewer.add_image(VOXELS, name="scan", scale=(6, 5, 5), translate=(60, 50, 5), units=("um",) * 3)
    choose(dock, believed, **LEVELS)
    assert dock.voxel_um.text() == "6, 5, 5"
    assert "toluidine blue from µCT, pixels of 5 µm" in shown(dock.model)
    assert shown(dock.phantom) == ""
    dock.stain()
    assert dock.cancel.isEnabled()
    assert not dock.start.isEnabled()
    wait(dock)
    assert [each.name for each in viewer.layers] == ["scan", "scan, stained", "scan, expected error"]
    _, stained, error = viewer.layers
    expected = load(believed, "cpu", bone_intensity=30000, background_intensity=10000)
    made = expected.judged_volume(VOXELS, voxel_um=[6, 5, 5])
    assert stained.rgb
    assert np.array_equal(stained.data, made.rgb)
    assert np.array_equal(error.data, made.expected_error, equal_nan=True)
    for each in (stained, error):  # the corners of both are the scan's
        assert tuple(each.units) == tuple(layer.units)
        for corner in (np.zeros(3), np.ones(3)):
            place = [corner * each_layer.data.shape[:3] - 0.5 for each_layer in (each, layer)]
            np.testing.assert_allclose(each.data_to_world(place[0]), layer.data_to_world(place[1]))
    assert (error.colormap.name, error.visible) == ("magma", False)
    assert "the training data" in shown(dock.verdict)
    assert made.told in shown(dock.details)
    assert "'scan, expected error'; click its eye" in shown(dock.details)


def test_a_turned_slice_is_stained_where_it_lies(dock, viewer, believed):
    layer = viewer.add_image(VOXELS[3], name="slice", scale=(5, 5), rotate=30, translate=(7, 9), units=("um",) * 2)
    choose(dock, believed, **LEVELS)
    dock.stain()
    wait(dock)
    _, stained, error = viewer.layers
    assert stained.data.shape == (48, 40, 3)
    assert error.data.shape == (48, 40)
    for each in (stained, error):
        np.testing.assert_allclose(each.data_to_world((11, 17)), layer.data_to_world((11, 17)))


def test_what_is_in_cells_lies_in_the_middle_of_its_voxels(viewer):
    from napari_virtual_staining.work import placed

    layer = viewer.add_image(VOXELS, scale=(6, 5, 5), rotate=(10, 20, 30), shear=(0.1, 0, 0.2), translate=(1, 2, 3))
    cells = viewer.add_image(np.zeros((12, 12, 10)), **placed(layer, cells=True))
    np.testing.assert_allclose(cells.data_to_world((3, 2, 1)), layer.data_to_world((3, 9.5, 5.5)))


def test_a_phantoms_model_says_so(dock, believed, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(believed, bundle)
    path = bundle / "configs" / "inference.json"
    path.write_text(path.read_text().replace('"name": "toluidine blue"', '"name": "toluidine blue (phantom)"'))
    choose(dock, bundle)
    assert shown(dock.phantom) == "phantom-trained, not for data"


def test_nothing_is_guessed(dock, viewer, believed, trained):
    choose(dock, trained)
    assert "is the folder of a run; its trained bundle is" in shown(dock.model)
    assert not dock.start.isEnabled()
    viewer.add_image(VOXELS, name="no units", scale=(5, 5, 5))
    choose(dock, believed, **LEVELS)
    assert dock.voxel_um.text() == ""
    dock.stain()
    assert shown(dock.status) == "the size of the voxels is not filled in; it is not guessed."
    dock.voxel_um.setText("5 µm")
    dock.stain()
    assert "the size of the voxels is '5 µm'; write a number such as 5" in shown(dock.status)
    choose(dock, believed, voxel_um="5", bone="")
    dock.stain()
    assert shown(dock.status) == "the grey value of bone is not filled in; it is not guessed."
    choose(dock, believed, bone="10000", background="30000")
    dock.stain()
    wait(dock)
    assert "the other way round than in" in shown(dock.status)
    assert len(viewer.layers) == 1
    viewer.add_image(VOXELS, name="a scale of one", units=("um",) * 3)
    assert dock.voxel_um.text() == ""
    viewer.add_image(VOXELS, name="mm", scale=(0.005,) * 3, units=("mm",) * 3)
    assert dock.voxel_um.text() == "5"


def test_the_list_is_of_grey_images_and_follows_the_viewer(dock, viewer):
    names = lambda: [dock.layer.itemText(place) for place in range(dock.layer.count())]
    grey = viewer.add_image(VOXELS, name="grey")
    viewer.add_image(np.zeros((9, 9, 3), np.uint8), rgb=True, name="colours")
    viewer.add_labels(np.zeros((9, 9), int), name="labels")
    viewer.add_image(np.zeros((2, 9, 9, 9)), name="four axes")
    viewer.add_image(VOXELS[0], name="slice")
    assert names() == ["grey", "slice"]
    viewer.layers.selection.active = grey
    assert dock.layer.currentText() == "grey"
    viewer.layers.remove(grey)
    assert names() == ["slice"]


def test_cancel_ends_it_and_adds_nothing(dock, viewer, believed, monkeypatch):
    viewer.add_image(VOXELS, name="scan", scale=(5, 5, 5), units=("um",) * 3)
    choose(dock, believed, **LEVELS)
    dock.told.connect(lambda what, done, total: dock.cancel.click() if what == "reading the scan" else None)
    stained: list[int] = []
    monkeypatch.setattr(
        "bundle.staining.slabs.SlabStainer.slab", lambda _, sources, start, *rest: stained.append(start)
    )
    report = dock._report

    def slowly(what, done, total):
        time.sleep(0.2)  # so that the click comes before the next
        report(what, done, total)

    monkeypatch.setattr(dock, "_report", slowly)
    dock.stain()
    wait(dock)
    assert shown(dock.status) == "cancelled; nothing was added."
    assert not stained
    assert [each.name for each in viewer.layers] == ["scan"]
    assert dock.start.isEnabled()


@pytest.mark.skipif(shutil.which("xvfb-run") is None, reason="xvfb-run is not installed: apt-get install xvfb")
def test_in_a_real_napari_the_dock_is_found_by_its_manifest_and_stains(believed, tmp_path):
    from PIL import Image

    picture = tmp_path / "napari.png"
    command = ["xvfb-run", "-a", "-s", "-screen 0 1400x900x24", sys.executable, "-m", "tests.helpers.napari_dock"]
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{PLUGIN}", "QT_QPA_PLATFORM": "xcb", "LIBGL_ALWAYS_SOFTWARE": "1"}
    words = [str(believed), str(picture), "--phantom", "0"]
    done = subprocess.run([*command, *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "layers: scan; scan, stained; scan, expected error" in done.stdout
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    assert pixels.shape[0] > 600
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 200  # a picture, and no empty screen
