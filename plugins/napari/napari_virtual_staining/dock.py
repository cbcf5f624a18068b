"""The dock: choose a bundle, stain a layer, be told where not to believe it."""

from __future__ import annotations

import threading
from typing import Any

from napari.qt.threading import create_worker
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from bundle.common.errors import InputError
from bundle.common.verdicts import DOUBTFUL, LIKE, UNKNOWN, UNLIKE
from napari_virtual_staining.work import (
    PHANTOM,
    SHOWN_LEVELS,
    About,
    Loaded,
    Result,
    StoppedError,
    about,
    can_be_stained,
    numbers,
    packaged,
    placed,
    stain_array,
    stated_um,
)

VERDICTS = {  # in words, and the colours of their field, dark on light
    LIKE: ("LIKE the training data", "#d7f0d7"),
    DOUBTFUL: ("DOUBTFUL: the stain may be wrong in places", "#ffe9b8"),
    UNLIKE: ("UNLIKE the training data: do not believe this stain", "#ffd0cc"),
    UNKNOWN: ("NOT KNOWN whether it is like the training data", "#e4e4e4"),
}
RESEARCH = "For research only: a generated stain is a prediction, not a stain."


class StainDock(QWidget):
    """The dock's widget.

    Args:
        napari_viewer: the viewer that it stands beside.
    """

    told = Signal(str, int, int)  # from the thread that stains: what is done, how far, of how many

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer, self.about, self.worker = napari_viewer, None, None
        self._loaded, self._stop = Loaded(), threading.Event()
        self._make()
        self.told.connect(self._show_progress)
        for event in ("inserted", "removed", "reordered"):
            getattr(self.viewer.layers.events, event).connect(self._list_layers)
        self.viewer.layers.selection.events.active.connect(self._choose_active)
        self._list_layers()
        self._choose_active()
        if packaged():
            self.folder.setText(packaged())
            self.read_bundle()

    def _make(self) -> None:
        self.folder = QLineEdit(placeholderText="RUN/bundle")
        self.folder.editingFinished.connect(self.read_bundle)
        self.browse = QPushButton("Choose…")
        self.browse.clicked.connect(self._browse)
        row = QHBoxLayout()
        row.addWidget(self.folder)
        row.addWidget(self.browse)
        self.model, self.phantom = _words(), _words("#ffe9b8")
        self.layer = QComboBox()
        self.layer.currentIndexChanged.connect(self._show_layer)
        self.voxel_um = QLineEdit(placeholderText="must be filled in: 5, or 6, 5, 5 for z, y, x")
        self.bone = QLineEdit()
        self.background = QLineEdit()
        self.start, self.cancel = QPushButton("Stain this layer"), QPushButton("Cancel")
        self.start.clicked.connect(self.stain)
        self.cancel.clicked.connect(self._stop.set)
        self.cancel.setEnabled(False)
        buttons = QHBoxLayout()
        buttons.addWidget(self.start)
        buttons.addWidget(self.cancel)
        self.progress = QProgressBar()
        self.progress.hide()
        self.status, self.verdict, self.details = _words(), _words(), _words()
        form = QFormLayout()
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapAllRows)
        form.addRow("Trained bundle (a folder)", row)
        form.addRow(self.model)
        form.addRow(self.phantom)
        form.addRow("Layer", self.layer)
        form.addRow("Size of its voxels, µm", self.voxel_um)
        form.addRow("Grey value of bone in it", self.bone)
        form.addRow("Grey value of background in it", self.background)
        whole = QVBoxLayout(self)
        whole.addLayout(form)
        whole.addLayout(buttons)
        for each in (self.progress, self.status, self.verdict, self.details, _words(text=RESEARCH)):
            whole.addWidget(each)
        whole.addStretch()
        self._show_bundle(None, "Choose the folder of a trained bundle.")

    def _browse(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "A trained bundle, RUN/bundle", self.folder.text())
        if folder:
            self.folder.setText(folder)
            self.read_bundle()

    def read_bundle(self) -> None:
        """Show what the chosen bundle says of itself."""
        try:
            self._show_bundle(about(self.folder.text()), "")
        except InputError as error:
            self._show_bundle(None, str(error))

    def _show_bundle(self, found: About | None, fault: str) -> None:
        self.about = found
        _say(self.model, fault if found is None else found.words)
        _say(self.phantom, PHANTOM if found is not None and found.phantom else "")
        levels = None if found is None else found.levels
        for place, field in enumerate((self.bone, self.background)):
            field.setEnabled(levels is not None)
            unused = "not used by this bundle"
            hint = unused if levels is None else f"must be filled in; in its training {levels[place]:g}"
            field.setPlaceholderText(hint)
        self._allow()

    def _allow(self) -> None:
        self.start.setEnabled(self.worker is None and self.about is not None and self.layer.count() > 0)

    def _list_layers(self, event: Any = None) -> None:
        chosen = self.layer.currentData()
        self.layer.blockSignals(True)
        self.layer.clear()
        for layer in filter(can_be_stained, self.viewer.layers):
            self.layer.addItem(layer.name, layer)
        place = next((place for place in range(self.layer.count()) if self.layer.itemData(place) is chosen), 0)
        self.layer.setCurrentIndex(place if self.layer.count() else -1)
        self.layer.blockSignals(False)
        if self.layer.currentData() is not chosen:
            self._show_layer()
        self._allow()

    def _choose_active(self, event: Any = None) -> None:
        active = self.viewer.layers.selection.active
        for place in range(self.layer.count()):
            if self.layer.itemData(place) is active:
                self.layer.setCurrentIndex(place)

    def _show_layer(self) -> None:
        layer = self.layer.currentData()
        self.voxel_um.setText("" if layer is None else stated_um(layer))

    def stain(self) -> None:
        """Stain the chosen layer in a thread; its result comes as layers of its own."""
        layer, found = self.layer.currentData(), self.about
        if layer is None or found is None or self.worker is not None:
            return
        try:
            voxel_um = numbers(self.voxel_um.text(), "the size of the voxels", (1, layer.ndim))
            ids = {}
            if found.levels is not None:
                for name, field in (("bone", self.bone), ("background", self.background)):
                    ids[f"{name}_intensity"] = numbers(field.text(), f"the grey value of {name}")[0]
        except InputError as error:
            self._show_result(layer, Result(fault=str(error)))
            return
        data = layer.data[0] if layer.multiscale else layer.data
        self._stop.clear()
        for each in (self.verdict, self.details):
            _say(each, "")
        self.worker = create_worker(
            stain_array, self._loaded, found.root, ids, data, voxel_um, self._report, _start_thread=False
        )
        self.worker.returned.connect(lambda result: self._show_result(layer, result))
        self.worker.finished.connect(self._finished)
        self.cancel.setEnabled(True)
        self.progress.setRange(0, 0)
        self.progress.show()
        self._allow()
        self.worker.start()

    def _report(self, what: str, done: int, total: int) -> None:
        """Called in the thread that stains."""
        if self._stop.is_set():
            raise StoppedError
        self.told.emit(what, done, total)

    def _show_progress(self, what: str, done: int, total: int) -> None:
        self.progress.setRange(0, total)
        self.progress.setValue(done)
        _say(self.status, what)

    def _finished(self) -> None:
        self.worker = None
        self.cancel.setEnabled(False)
        self.progress.hide()
        self._allow()

    def _show_result(self, layer: Any, result: Result) -> None:
        _say(self.status, result.fault)
        if result.fault:
            return
        words, colour = VERDICTS[result.word]
        self.verdict.setStyleSheet(_style(colour))
        _say(self.verdict, words)
        told, cells = [result.told], False
        name = f"{layer.name}, stained"
        self.viewer.add_image(result.rgb, rgb=True, name=name, **placed(layer))
        if result.error is None:
            told.append("No error map: this bundle has none.")
        else:
            cells = tuple(result.error.shape) != tuple(result.rgb.shape[:-1])
            error = f"{layer.name}, expected error"
            self.viewer.add_image(
                result.error,
                name=error,
                colormap="magma",
                contrast_limits=(0.0, SHOWN_LEVELS),
                blending="translucent",
                visible=False,
                metadata={"units": "levels of 255; NaN: not known"},
                **placed(layer, cells),
            )
            span = f"black 0 to white {SHOWN_LEVELS:g} of 255 levels"
            told.append(f"Expected error, {span}: the hidden layer {error!r}; click its eye.")
        _say(self.details, "\n".join(filter(None, told)))


def _words(colour: str = "", text: str = "") -> QLabel:
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setVisible(bool(text))
    if colour:
        label.setStyleSheet(_style(colour))
    return label


def _style(colour: str) -> str:
    return f"background: {colour}; color: #202020; padding: 4px; font-weight: bold;"


def _say(label: QLabel, text: str) -> None:
    label.setText(text)
    label.setVisible(bool(text))
