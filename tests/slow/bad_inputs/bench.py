"""Bad inputs by kind: how one is made, run, and judged by what a user sees."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image, UnidentifiedImageError

from bundle.common.errors import InputError
from tests.conftest import ROOT, TINY, make_dataset
from tests.helpers import forked
from tests.helpers.nuclei import TINY as TINY_NUCLEI
from tests.helpers.nuclei import make_nuclei
from tests.helpers.registered_pairs import Truth, write_pair
from tests.helpers.stain_models import cells, untrained_bundle
from tests.helpers.volumes import make_voxels, write_scan

ROOMS = ["training.trainers", "staining.command", "preparation.registration.run", "preparation.pairs.dataset"]
ROOMS += ["preparation.tiles.command", "nuclei.trainer", "nuclei.insilico.command", "evaluation.paired"]
ROOMS += ["hospital.pacs.commands", "training.export", "preparation.phantom.dataset", "images.whole_slides"]
LIMIT = 90  # seconds
PICTURES = (".png", ".tif")
LEVELS = "--bone_intensity 49149 --background_intensity 16383"

Make = Callable[["Place"], Any]


@dataclass(frozen=True)
class Kind:
    """One kind of bad input.

    Attributes:
        command: which it is given to.
        name: what is wrong with it, in words.
        line: what is typed; ``<scan>`` and the like stand for what :class:`Place` has.
        says: words that the refusal must hold; none if the input is to be accepted.
        make: makes or spoils the input.
        check: for what is accepted, raises if the result is not the right one.
        monai: MONAI stops before anything of ours runs, and says it in the last line of its traceback.
    """

    command: str
    name: str
    line: str
    says: tuple[str, ...] = ()
    make: Make = lambda place: None
    check: Make = lambda place: None
    monai: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a kind: ``clean``, ``traceback``, ``accepted``, ``flat`` or ``unclear``; and what was said."""

    what: str
    said: str
    right: bool


@dataclass
class Shared:
    """What kinds have in common, made once: see :class:`Place`."""

    folder: Path
    known: dict[str, Path] = field(default_factory=dict)

    def get(self, name: str) -> Path:
        """One of the things below by name."""
        if name not in self.known:
            self.known[name] = getattr(self, f"make_{name}")(self.folder / name)
        return self.known[name]

    def make_data(self, folder: Path) -> Path:
        """Two pairs and one to test on."""
        return make_dataset(folder)

    def make_run(self, folder: Path) -> Path:
        """A finished training on them."""
        configs = "['configs/train.json','configs/profiles/demo.json']"
        return _finished(folder, configs, dataset_dir=self.get("data"), **TINY)

    def make_nuclei(self, folder: Path) -> Path:
        """Labelled nuclei."""
        return make_nuclei(folder)

    def make_segmenter(self, folder: Path) -> Path:
        """A finished training on them."""
        return _finished(folder, "configs/nuclei.json", dataset_dir=self.get("nuclei"), **TINY_NUCLEI)

    def make_restain(self, folder: Path) -> Path:
        """A bundle that stains in fluorescence and back."""
        return untrained_bundle(folder)

    def make_tiles(self, folder: Path) -> Path:
        """Images of cells, with labels beside."""
        from bundle.images.slides import write_slide

        for number in range(2):
            image, labels = cells(number)
            write_slide(folder / f"t{number}.png", image, 0.5)
            write_slide(folder / f"t{number}_labels.png", labels)
        return folder

    def make_slides(self, folder: Path) -> Path:
        """Two slides of each of two stains."""
        from tests.helpers.tiling import stained, write

        for number in (1, 2):
            write(folder / f"he/s{number}.tif", stained(seed=number))
            write(folder / f"ki67/s{number}.tif", stained(seed=number + 10))
        return folder

    def make_scan(self, folder: Path) -> Path:
        """A scan of 40 × 48 × 40 voxels of 5 µm."""
        return write_scan(folder / "scan.nii.gz", make_voxels((40, 48, 40))).parent

    def make_pairs(self, folder: Path) -> Path:
        """One registered pair."""
        from bundle.images.slides import read_labels, read_mask, read_slide
        from bundle.preparation.pairs.dataset import prepare
        from bundle.preparation.phantom.dataset import make_dataset as make_phantom

        made = make_phantom(
            str(self.folder / "phantom"), 1, seed=1, size=160, voxel_um=8.0, material="Mg", spoiling={"partial": 0}
        )
        stain, mask = read_slide(made / "stain/01.png").pixels, read_mask(made / "mask/01.png")
        write_pair(
            folder / "01",
            Truth(read_slide(made / "ct/01.png").pixels[0], stain, mask, read_labels(made / "labels/01.png")),
        )
        with contextlib.suppress(InputError):  # regions are proposed, to be looked at
            prepare(str(folder), str(self.folder / "prepared"))
        return folder

    def make_phantom(self, folder: Path) -> Path:
        """A phantom with its volumes."""
        self.get("pairs")
        return folder

    def make_stained(self, folder: Path) -> Path:
        """A stained volume: the phantom's own stain."""
        folder.mkdir()
        nibabel.load(self.get("phantom") / "specimens/01/stain.nii.gz").to_filename(folder / "stained.nii")
        return folder


@dataclass
class Place:
    """The folder of one kind, with copies of what it names, which it may spoil."""

    folder: Path
    shared: Shared

    def __getattr__(self, name: str) -> Path:
        if name.startswith("_") or not hasattr(Shared, f"make_{name}"):
            raise AttributeError(name)
        here = self.folder / name
        if not here.exists():
            shutil.copytree(self.shared.get(name), here)
        return here

    @cached_property
    def out(self) -> Path:
        """Where the command is to write."""
        return self.folder / "out"

    @property
    def bundle(self) -> Path:
        """The trained bundle."""
        return self.run / "bundle"

    def file(self, name: str) -> Path:
        """One more path."""
        return self.folder / name

    def relist(self, change: Callable[[dict[str, Any]], Any], dataset: str = "data") -> None:
        """Change a datalist."""
        path = getattr(self, dataset) / "datalist.json"
        listed = json.loads(path.read_text(encoding="utf-8"))
        change(listed)
        path.write_text(json.dumps(listed))

    def words(self, line: str) -> list[str]:
        """A typed line as words."""
        return [self._filled(word) for word in shlex.split(line)]

    def _filled(self, word: str) -> str:
        while "<" in word and ">" in word:
            before, rest = word.split("<", 1)
            name, after = rest.split(">", 1)
            word = f"{before}{getattr(self, name) if name != 'here' else self.folder}{after}"
        return word


def _finished(folder: Path, configs: str, **ids: Any) -> Path:
    words = ["monai.bundle", "run", "training", "--config_file", configs, "--output_dir", str(folder)]
    done = run([*words, *(word for name, value in ids.items() for word in (f"--{name}", str(value)))])
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def run(words: Sequence[str]) -> subprocess.CompletedProcess:
    """As a user starts a command, in a fork that need not import what all commands do."""
    forked.context.set_forkserver_preload([*forked.SHARED, "fire", *(f"bundle.{room}" for room in ROOMS)])
    return forked.run_module(words, ROOT, LIMIT)


def outcome(kind: Kind, shared: Shared, folder: Path) -> Outcome:
    """Make a kind, run it, judge it."""
    folder.mkdir(parents=True)
    place = Place(folder, shared)
    try:
        kind.make(place)
        words = place.words(kind.line)
        try:
            done = run(words)
        except subprocess.TimeoutExpired as error:
            return Outcome("unclear", f"not done after {LIMIT} s: {(error.stderr or b'').decode()[-300:]}", False)
        said = done.stdout + done.stderr
        if any(folder.rglob("ran")) or (ROOT / "ran").exists():
            return Outcome("unclear", "code that stands in the input was run", False)
        what = _what(done, place)
        if what == "clean":
            return Outcome(what, said, bool(kind.says) and all(word in _told(done) for word in kind.says))
        if what == "traceback" and kind.monai:
            return Outcome("monai", said, all(word in done.stderr.rstrip().splitlines()[-1] for word in kind.says))
        right = what == "accepted" and not kind.says
        if right:
            try:
                kind.check(place)
            except AssertionError as error:
                return Outcome(what, f"{said}\nwrong result: {error}", False)
        return Outcome(what, said, right)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _what(done: subprocess.CompletedProcess, place: Place) -> str:
    if "Traceback (most recent call last)" in done.stdout + done.stderr:
        return "traceback"
    if done.returncode == 0:
        return "flat" if any(_is_flat(path) for path in _pictures(place.out)) else "accepted"
    if done.returncode < 0 or not _told(done):
        return "unclear"
    return "clean"


def _told(done: subprocess.CompletedProcess) -> str:
    """What comes after ``error:``, ours or fire's."""
    for mark in ("\nerror: ", "ERROR: "):
        if mark in done.stderr:
            return done.stderr.rsplit(mark, 1)[1]
    return ""


def _pictures(folder: Path) -> list[Path]:
    """Stained slides lie in the folder itself."""
    return [path for path in folder.iterdir() if path.suffix in PICTURES] if folder.is_dir() else []


def _is_flat(path: Path) -> bool:
    try:
        pixels = np.asarray(Image.open(path))
    except (UnidentifiedImageError, OSError):
        return path.stat().st_size == 0
    return bool(
        pixels.size == 0 or np.ptp(pixels.reshape(-1, pixels.shape[-1] if pixels.ndim == 3 else 1), 0).max() == 0
    )
