"""Adding one of a kind takes one file: a toy one of each, which no module of ours names, is run to its end."""

import html
import json
import re
import sys

import numpy as np
import pytest
import torch

from bundle.common.discovery import import_modules
from bundle.common.errors import InputError
from bundle.images.stained.formats import FORMATS, Format, register
from bundle.images.stained.stored import open_stain
from bundle.images.volumes.reader import FILES, FOLDERS, reads
from bundle.images.volumes.volume import open_volume
from bundle.training.translation import Translation
from scripts.deploy.package import START, imported
from tests.conftest import ROOT, TINY, run_bundle
from tests.helpers.volumes import make_voxels, stain, write_scan

ALL = (slice(None),) * 3
SHAPE = (40, 32, 32)
TOY_FORMAT = '''
"""A stained volume as a folder of NumPy files, one a slab."""

import json

import numpy as np

from bundle.images.stained.formats import DEPTH, Format, Stain, geometry_of, register


class Toy(Format):
    name, file_name, title = "toy", "stained.toy", "toy slabs"

    def holds(self, path):
        return path.suffix == ".toy"

    def create(self, path, spec):
        path.mkdir()

    def write_slab(self, path, spec, start, slab):
        np.save(path / f"{start:06d}.npy", slab)

    def finish(self, path, spec):
        (path / "about.json").write_text(json.dumps({"shape": spec.shape, "stamp": spec.stamp()}, default=str))

    def open(self, path):
        about = json.loads((path / "about.json").read_text())
        whole = lambda level, box: np.concatenate([np.load(each) for each in sorted(path.glob("*.npy"))])[box]
        shape, stamp = tuple(about["shape"]), about["stamp"]
        return Stain(path, shape, 3, geometry_of(path, stamp), stamp["about"], [shape], whole)


register(Toy())
'''
TOY_READER = '''
"""Scans as text: the voxel size, the shape, and the voxels."""

import numpy as np

from bundle.images.volumes.reader import Stored, reads, reads_folders


@reads(".toyscan")
def read_toy(path):
    size, *shape = path.read_text().splitlines()[0].split()
    voxels = np.loadtxt(path, np.uint16, skiprows=1).reshape([int(side) for side in shape])
    return Stored(voxels.shape, voxels.dtype, lambda start, stop: voxels[start:stop], (float(size),) * 3)


@reads_folders(lambda folder: (folder / "scan.toyscan").exists())
def read_toy_folder(folder):
    return read_toy(folder / "scan.toyscan")
'''


@pytest.fixture
def drop(tmp_path, monkeypatch):
    """A function that adds a module to a package, as if a file lay in its folder."""
    before = dict(FORMATS), dict(FILES), list(FOLDERS), set(sys.modules)

    def add(package: str, content: str) -> None:
        folder = tmp_path / package
        folder.mkdir()
        (folder / "toy.py").write_text(content, encoding="utf-8")
        monkeypatch.setattr(sys.modules[package], "__path__", [*sys.modules[package].__path__, str(folder)])
        import_modules(package)

    yield add
    for registry, content in zip((FORMATS, FILES), before, strict=False):
        registry.clear()
        registry.update(content)
    FOLDERS[:] = before[2]
    for name in set(sys.modules) - before[3]:
        if name.endswith(".toy"):
            del sys.modules[name]


def write_toy(path, voxels):
    header = " ".join(map(str, (5.0, *voxels.shape)))
    np.savetxt(path, voxels.reshape(len(voxels), -1), "%d", header=header, comments="")


def test_a_toy_scan_becomes_a_toy_stain(drop, trained, tmp_path):
    """Beside it the same voxels from a NIfTI to an OME-Zarr."""
    drop("bundle.images.stained", TOY_FORMAT)
    drop("bundle.images.volumes.readers", TOY_READER)
    voxels = make_voxels(SHAPE)
    (tmp_path / "scan").mkdir()
    write_toy(tmp_path / "scan" / "scan.toyscan", voxels)
    given = {"window": None, "fusion": "mean"}
    stain(trained / "bundle", tmp_path / "scan" / "scan.toyscan", tmp_path / "toy", output_format="toy", **given)
    stain(trained / "bundle", write_scan(tmp_path / "scan.nii", voxels), tmp_path / "usual", **given)
    made, usual = open_stain(tmp_path / "toy" / "stained.toy"), open_stain(tmp_path / "usual" / "stained.ome.zarr")
    assert np.array_equal(made.read(ALL), usual.read(ALL))
    assert made.geometry.spacing_um == (5, 5, 5)
    page = html.unescape((tmp_path / "toy" / "report.html").read_text(encoding="utf-8"))
    assert "<dt>stained.toy</dt><dd>the stained volume, toy slabs" in page
    assert json.loads((tmp_path / "toy" / "volume.json").read_text())["result"] == "stained.toy"
    folder = open_volume(tmp_path / "scan")
    assert np.array_equal(folder.read(0, SHAPE[0]), voxels)
    with pytest.raises(InputError, match=r"it must be one of nii, ome-zarr, tif, toy\."):
        stain(trained / "bundle", tmp_path / "scan", tmp_path / "other", output_format="png")
    with pytest.raises(InputError, match=r"reads \(.*\.toyscan.*, or a folder of slices\)"):
        open_volume(write_scan(tmp_path / "s.nii", voxels).rename(tmp_path / "scan.odd"))


def test_what_is_not_there_is_told():
    assert "toy" not in FORMATS
    assert ".toyscan" not in FILES


def test_two_of_one_name_are_refused():
    class Again(Format):
        name, file_name, title = "other", "stained.nii", ""
        holds = create = write_slab = finish = open = lambda *_: None

    with pytest.raises(ValueError, match=r"there is a format other or stained\.nii already"):
        register(Again())
    with pytest.raises(ValueError, match=r"there is a reader of \.nrrd already"):
        reads(".odd", ".nrrd")(lambda path: None)
    assert ".odd" not in FILES


def test_every_format_has_a_row_in_the_documents():
    text = (ROOT / "docs" / "volumes.md").read_text(encoding="utf-8")
    for each in FORMATS.values():
        assert f"| `{each.name}` | `{each.file_name}` |" in text


def test_what_is_deployed_has_all_that_it_imports():
    """Its files are found by the imports that they state, so none may look for modules."""
    files = imported(START)
    assert "bundle/images/dicom/source.py" in files
    assert [path for path in files if "import_modules(" in (ROOT / path).read_text(encoding="utf-8")] == []


class Darkness:
    """A term of the objective that the package does not have: how dark the stain made is."""

    def __call__(self, translation: Translation) -> torch.Tensor:
        """Mean of 1 − G(x), both in [−1, 1]."""
        return (1 - translation.fake_y).mean()


def test_a_toy_term_is_trained_with_and_told(dataset, tmp_path):
    """All others have a weight besides, so that it is the seventh curve."""
    others = ("adv", "cycle", "identity", "pixel", "grey", "structure")
    overlay = {f"lambda_{name}": 1 for name in others} | {
        "lambda_darkness": 2,
        "objective#terms#darkness": {"_target_": "tests.test_registries.Darkness"},
        "objective#weights#darkness": "@lambda_darkness",
    }
    (tmp_path / "toy.json").write_text(json.dumps(overlay))
    configs = f"['configs/train.json','configs/profiles/demo.json','{tmp_path / 'toy.json'}']"
    done = run_bundle("training", configs, dataset_dir=dataset, output_dir=tmp_path / "run", **TINY)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "darkness 2" in re.search(r"Weights of the terms: ([^<]*)\.", page)[1]
    chart = re.search(r'<svg[^>]*aria-label="terms before weighting over the steps: ([^"]*)\.".*?</svg>', page, re.S)
    assert {*others, "darkness"} <= set(chart[1].split(", "))
    for name in (*others, "darkness"):  # in the legend
        assert re.search(rf"<text[^>]*>{name}</text>", chart[0]), name
