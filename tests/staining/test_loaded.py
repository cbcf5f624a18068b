"""A trained bundle from Python: the bytes of the configs, of arrays in memory and of Dask's."""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bundle import load
from bundle.common.errors import InputError
from bundle.images.slides import read_slide
from bundle.images.stained.number_map import open_map
from bundle.staining.job import RECORD
from bundle.staining.lazily import _block
from bundle.staining.slabs import SlabStainer
from tests.conftest import ROOT, make_dataset, run_bundle
from tests.helpers.believed import make_believed
from tests.helpers.firm import PLACE, make_firm, write_faint
from tests.helpers.volumes import make_voxels, result, stain, write_scan
from tests.staining.test_specimen import voxels_of

dask_array = pytest.importorskip("dask.array", reason="Dask is not installed")
SHORT = 40  # slices, more than a slab


@pytest.fixture(scope="module")
def firm(trained, tmp_path_factory) -> Path:
    return make_firm(trained / "bundle", tmp_path_factory.mktemp("firm") / "bundle")


@pytest.fixture(scope="module")
def believed(trained, tmp_path_factory) -> Path:
    return make_believed(trained / "bundle", tmp_path_factory.mktemp("believed") / "bundle")


def test_the_package_alone_loads_no_torch_and_load_does():
    code = "import sys, bundle; assert 'torch' not in sys.modules; bundle.load; assert 'torch' in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    with pytest.raises(ImportError, match="cannot import name 'lod'"):
        from bundle import lod  # noqa: F401


def test_a_slice_is_stained_as_its_file(levelled, believed, tmp_path):
    source = make_dataset(tmp_path / "data", size=(64, 72)) / "source" / "00.png"
    others = {"bone_intensity": 40000, "background_intensity": 9000}
    for root, ids in ((levelled, others), (believed, {})):
        folder, config = tmp_path / root.parent.name, str(root / "configs" / "inference.json")
        done = run_bundle("inference", config, bundle_root=root, input=source, output_dir=folder, device="cpu", **ids)
        assert done.returncode == 0, done.stdout + done.stderr
        made = load(root, "cpu", **ids).judged(read_slide(source).pixels[0])
        assert np.array_equal(made.rgb, read_slide(folder / "00_stained.png").pixels.transpose(1, 2, 0))
    beside = tifffile.imread(folder / "00_stained_expected_error.tif")
    np.testing.assert_array_equal(made.expected_error, beside)
    assert json.loads((folder / "stained.json").read_text())["00_stained.png"]["likeness"]["is"] == made.verdict.word


@pytest.mark.parametrize("ids", [{}, {"reference_slice": 3, "sigma": 0}])
def test_a_volume_is_stained_as_its_file(firm, tmp_path, ids):
    scan = write_faint(tmp_path / "scan.nii.gz", SHORT)
    stain(firm, scan, tmp_path / "out", **ids)
    expected, voxels, model = result(tmp_path / "out"), voxels_of(scan), load(firm, "cpu")
    made = model.judged_volume(voxels, voxel_um=5, **ids)
    assert made.rgb.dtype == np.uint8
    assert np.array_equal(made.rgb, expected)
    assert made.word == ("unlike" if "reference_slice" in ids else "not known")  # a faint slice; so few sources
    assert made.reference == json.loads((tmp_path / "out" / RECORD).read_text())["reference"]
    assert f"slice {made.reference['slice']} across z" in made.told
    for chunks, slices in (((7, 20, 40), 1), ((40, 48, 9), 13)):
        lazy = model.volume(dask_array.from_array(voxels, chunks=chunks), voxel_um=5, slices=slices, **ids)
        assert isinstance(lazy, dask_array.Array)
        assert lazy.chunks[0][0] == slices
        assert np.array_equal(lazy.compute(), expected)


def test_the_error_of_a_volume_is_that_of_its_file(believed, tmp_path):
    voxels = make_voxels((SHORT, 48, 40))
    voxels[:12] = np.clip(voxels[:12].astype(int) + 30000, 0, 65535)  # which is unlike the training
    scan = write_scan(tmp_path / "scan.nii.gz", voxels)
    stain(believed, scan, tmp_path / "out")
    model = load(believed, "cpu")
    made = model.judged_volume(voxels, voxel_um=[5, 5, 5])
    assert np.array_equal(made.rgb, result(tmp_path / "out"))
    assert made.reference is None
    expected = open_map(tmp_path / "out" / "stained.ome.zarr" / "expected_error").read((slice(None),) * 3)[..., 0]
    assert np.isnan(expected[0]).all()
    assert np.isfinite(expected[-1]).all()
    in_cubes = made.expected_error.reshape(-1, 4, *made.expected_error.shape[1:]).mean(1)
    np.testing.assert_allclose(in_cubes, expected, atol=1 / 16)  # to which each is rounded
    record = json.loads((tmp_path / "out" / RECORD).read_text())["likeness"]["z"]
    assert [round(each.ratio, 3) for each in made.verdicts.values()] == record["distance"]
    assert f"{record['slices']['unlike']} unlike (0 to 11)" in made.told
    lazy = model.judged_volume(dask_array.from_array(voxels, chunks=9), voxel_um=5)
    assert np.array_equal(lazy.expected_error.compute(), made.expected_error, equal_nan=True)
    assert {place: made.verdicts[place] for place in lazy.verdicts} == lazy.verdicts
    assert "of 24 slices that were looked at" in lazy.told


def test_nothing_of_a_lazy_volume_is_stained_before_it_is_asked_for_and_then_no_more(firm):
    read: list[int] = []

    def block(block_info=None):
        start = block_info[None]["array-location"][0][0]
        read.append(start)
        return make_voxels((SHORT, 48, 40))[start : start + 1]

    scan = dask_array.map_blocks(block, chunks=((1,) * SHORT, (48,), (40,)), dtype=np.uint16, meta=np.empty((0, 0, 0)))
    lazy = load(firm, "cpu").volume(scan, voxel_um=5, sigma=1.0)
    assert set(read) == set(range(SHORT))  # for the survey
    read.clear()
    whole = lazy[20].compute()
    assert set(read) == set(range(16, 25))  # as far as the Gaussian reaches
    assert whole.shape == (48, 40, 3)


def test_what_stains_slabs_goes_to_another_process_without_its_network(firm):
    first = SlabStainer(str(firm), {"voxel_um": 5.0, "device": "cpu"})
    statistics = first.stainer.learn(make_voxels()[PLACE][None].astype(np.float32)).numpy()
    given = SlabStainer(first.bundle_root, first.ids, statistics)
    expected = _block(given, make_voxels()[:12], 4, 6)[0]
    sent = pickle.dumps(given)
    assert len(sent) < 20_000
    assert np.array_equal(_block(pickle.loads(sent), make_voxels()[:12], 4, 6)[0], expected)


def test_nan_outside_the_circle(bundle):
    y, x = np.mgrid[:64, :64] - 31.5
    voxels = make_voxels((12, 64, 64)).astype(np.float32)
    filled = np.where(y**2 + x**2 < 30**2, voxels, 10000.0).astype(np.float32)
    with_nan = np.where(y**2 + x**2 < 30**2, voxels, np.nan).astype(np.float32)
    model = load(bundle, "cpu")
    with pytest.raises(InputError, match=r"NaN or infinite pixels[\s\S]*--fill_nan"):
        model.volume(with_nan, voxel_um=5)
    expected = model.volume(filled, voxel_um=5)
    assert np.array_equal(model.volume(with_nan, voxel_um=5, fill_nan=10000), expected)
    lazy = model.volume(dask_array.from_array(with_nan, chunks=(5, 64, 64)), voxel_um=5, fill_nan=10000)
    assert np.array_equal(lazy.compute(), expected)


GREY = np.full((16, 16), 20000, np.uint16)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (make_voxels()[0][:, :, None], r"the array is 48×40×1, but of this model's µCT a slice is \(H, W\)"),
        (np.zeros((16, 16), complex), "the slice holds complex128; it must be of whole or real numbers"),
        (np.where(GREY > 0, np.nan, GREY), "256 NaN or infinite pixels"),
        (GREY, "would come out in one colour"),
        (make_voxels()[0][:7], "the slice is 7×40 px; the network needs at least 8×8"),
        (make_voxels()[0].astype(int) + 60000, "outside the declared range"),
    ],
)
def test_a_slice_that_cannot_be_stained_gets_a_line(bundle, given, line):
    with pytest.raises(InputError, match=line):
        load(bundle, "cpu")(given)


@pytest.mark.parametrize(
    ("ids", "line"),
    [
        ({"voxel_um": None}, "voxel_um is None; give the size"),
        ({"voxel_um": -5}, "voxel_um is -5; it must be"),
        ({"voxel_um": [5, 5]}, "voxel_um is .*; it must be"),
        ({"voxel_um": [5, 5, 4]}, "pixels of 5×4 µm; the network needs square"),
        ({"voxel_um": 5, "sigma": -1}, "sigma is -1; it must be"),
        ({"voxel_um": 5, "slices": 0}, "slices is 0; it must be a whole number"),
        ({"voxel_um": 5, "reference_slice": 3}, "reference_slice is given, but normalisation is 'window'"),
        ({"voxel_um": 5, "fill_nan": 3}, "has no NaN outside a reconstruction circle"),
    ],
)
def test_a_volume_that_cannot_be_stained_gets_a_line(bundle, ids, line):
    with pytest.raises(InputError, match=line):
        load(bundle, "cpu").volume(make_voxels((12, 48, 40)), **ids)


@pytest.mark.parametrize(
    ("ids", "line"),
    [
        ({"spede": "exact"}, "'spede' is not an id of this config; did you mean 'speed'"),
        ({"bone": 3}, "'bone' is not an id of this config; did you mean 'bone_intensity'"),
        ({"speed": "warp"}, "speed is 'warp'; it must be one of"),
        ({"bone_intensity": 40000}, "background_intensity of the scan not given|declared none"),
        ({"bone_intensity": 9000, "background_intensity": 30000}, "the other way round than in"),
        ({"bone_intensity": None}, "bone_intensity of the scan not given"),
        ({"direction": "reverse"}, "from Python a bundle stains forward only"),
    ],
)
def test_an_id_that_is_none_gets_a_line(levelled, ids, line):
    with pytest.raises(InputError, match=line):
        load(levelled, "cpu", **{**({"background_intensity": None} if line.startswith("background") else {}), **ids})


def test_the_folder_of_a_run_is_no_bundle(trained):
    with pytest.raises(InputError, match="is the folder of a run; its trained bundle is"):
        load(trained)


def test_voxels_of_another_size_and_unlike_slices_are_told(firm, believed, caplog):
    model = load(firm, "cpu")
    with caplog.at_level(logging.WARNING, "bundle"):
        model.volume(make_voxels((12, 48, 40)), voxel_um=10)
    assert "the array has pixels of 10 µm, but the model was trained on pixels of 5 µm" in caplog.text
    caplog.clear()
    noise = np.random.default_rng(0).integers(0, 65535, (48, 40)).astype(np.uint16)
    with caplog.at_level(logging.WARNING, "bundle"):
        made = model.judged(noise)
    assert made.verdict is not None
    assert made.word == made.verdict.word == "unlike"
    assert "the slice is unlike" in caplog.text
    strict = load(believed, "cpu", refuse_unlike=True)
    with pytest.raises(InputError, match="the slice is unlike .* it is refused, as refuse_unlike is true"):
        strict(noise)
    with pytest.raises(InputError, match="of 8 of its 8 slices that were looked at, 8 are; nothing was stained"):
        strict.volume(np.stack([noise] * 8), voxel_um=5)


def test_the_work_is_told_and_can_be_ended(firm):
    told: list[tuple[str, int, int]] = []
    model = load(firm, "cpu")
    model.volume(make_voxels((SHORT, 48, 40)), voxel_um=5, report=lambda *each: told.append(each))
    assert list(dict.fromkeys(each[0] for each in told)) == [
        "reading the scan",
        "looking for a section",
        "staining",
    ]
    assert told[-1] == ("staining", SHORT, SHORT)

    def stop(what: str, done: int, total: int) -> None:
        if what == "staining":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.volume(make_voxels((SHORT, 48, 40)), voxel_um=5, report=stop)
