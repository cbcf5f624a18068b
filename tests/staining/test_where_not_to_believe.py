"""What is said of where not to believe a stain: slides and volumes, old bundles, refusals."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields, replace
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import tifffile
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.inferers import SimpleInferer
from scipy.ndimage import gaussian_filter

from bundle.common.errors import InputError
from bundle.images.slides import write_slide
from bundle.images.stained.number_map import open_map
from bundle.networks.cells import at_pixels
from bundle.networks.error_map import ErrorMap
from bundle.networks.likeness import Likeness
from bundle.staining.error_map import rounded
from bundle.staining.job import RECORD, WORK
from bundle.staining.model import load_model
from bundle.staining.page import PAGE
from bundle.staining.slides import SlideSaver, check, error_path
from bundle.staining.stainer import Stainer, Windows
from bundle.staining.trust import NEITHER, NO_ERROR_MAP, Trust, begin, load_trust, statistics_before
from tests.conftest import run_bundle
from tests.helpers.believed import make_believed
from tests.helpers.firm import make_firm
from tests.helpers.volumes import files_of, make_voxels, stain, write_scan
from tests.staining.test_interrupted import StoppedError, stop_after

WHOLE = (slice(None),) * 3


@pytest.fixture(scope="module")
def believed(trained, tmp_path_factory):
    return make_believed(trained / "bundle", tmp_path_factory.mktemp("believed") / "bundle")


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A scan whose first slab is twice as bright as any of the training."""
    voxels = make_voxels()
    voxels[:32] = np.clip(voxels[:32].astype(int) + 30000, 0, 65535)
    return write_scan(tmp_path_factory.mktemp("scan") / "scan.nii.gz", voxels)


@pytest.fixture(scope="module")
def volume(believed, scan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("volume")
    stain(believed, scan, folder, window=32, step=16)
    return folder


def voxels_of(scan):
    return np.asarray(nibabel.load(scan).dataobj).T


def error_of(folder, name="stained.ome.zarr/expected_error"):
    return open_map(folder / name).read(WHOLE)[..., 0]


def test_a_volume_has_the_error_of_its_slices(volume, believed, scan):
    """Stained after a Gaussian, and judged before it, as the training's sections had none."""
    raw = voxels_of(scan)
    smooth = gaussian_filter(raw.astype(np.float32), 1.0, mode="nearest")
    model = load_model(believed, window=32, step=16)
    cells = np.stack([model.with_error(each[None])[1][0] for each in smooth])
    verdicts = [model.trust.judge(model.prepared(each[None])) for each in raw]
    cells[[verdict.word == "unlike" for verdict in verdicts]] = np.nan
    found = error_of(volume)
    assert found.shape == (18, 12, 10)
    by_four = np.stack([cells[start : start + 4].mean(0) for start in range(0, 70, 4)])
    assert np.array_equal(np.isnan(found), np.isnan(by_four))
    assert np.nanmax(np.abs(found - rounded(by_four))) <= 1 / 16
    assert np.isnan(found[:7]).all()
    assert np.isfinite(found[9:]).all()
    told = json.loads((volume / RECORD).read_text())["likeness"]["z"]
    words = [verdict.word for verdict in verdicts]
    assert told["slices"] == {word: words.count(word) for word in dict.fromkeys(words)}
    assert told["unlike"] == [[0, 31]]
    assert told["distance"] == [round(verdict.ratio, 3) for verdict in verdicts]


def test_its_record_and_page_say_so(volume):
    record = json.loads((volume / RECORD).read_text())
    assert record["expected_error"] == {"result": "stained.ome.zarr/expected_error", "bound": 2.0, "level": 0.9}
    page = (volume / PAGE).read_text()
    assert "Most slices of this scan are unlike" not in page
    assert "Across z: of 70 slices" in page
    assert "90 % are off by at most 2.0 times" in page
    assert page.count('alt="expected error of the stain, ') == 3 * 25
    assert "<dt>stained.ome.zarr/expected_error</dt>" in page


def test_windows_of_every_size_expect_the_same(believed, tmp_path):
    firm = make_firm(believed, tmp_path / "firm")
    image = np.tile(make_voxels((8, 320, 300))[4], (2, 2))[None]
    whole, *parts = (load_model(firm, window=window).with_error(image) for window in (1024, 288, 96))
    for stain_of_parts, error in parts:
        assert np.array_equal(stain_of_parts, whole[0])
        assert np.array_equal(rounded(error), rounded(whole[1]))


def test_a_kill_changes_nothing(volume, believed, scan, tmp_path, monkeypatch):
    for number in (3, 40, 9):
        with monkeypatch.context() as patch:
            stop_after(patch, number, StoppedError())
            with pytest.raises(RuntimeError):  # of MONAI, around it
                stain(believed, scan, tmp_path, window=32, step=16)
    assert (tmp_path / WORK).exists()
    stain(believed, scan, tmp_path, window=32, step=16)
    assert files_of(tmp_path / "stained.ome.zarr") == files_of(volume / "stained.ome.zarr")
    assert (
        json.loads((tmp_path / RECORD).read_text())["likeness"]
        == (json.loads((volume / RECORD).read_text())["likeness"])
    )


def test_another_error_map_is_another_result(volume, believed, scan, tmp_path):
    other = shutil.copytree(believed, tmp_path / "other")
    kept = ErrorMap.load(other / "models" / "error_map.pt")
    ErrorMap(kept.head, replace(kept.calibration, bound=3.0)).save(other / "models" / "error_map.pt")
    with pytest.raises(InputError, match=r"holds a stain made of other things \(error_map: "):
        stain(other, scan, volume, window=32, step=16)


def test_other_formats_have_it_beside_them_and_axes_are_averaged(believed, scan, volume, tmp_path):
    stain(believed, scan, tmp_path / "nii", window=32, step=16, output_format="nii")
    assert np.array_equal(error_of(tmp_path / "nii", "expected_error.ome.zarr"), error_of(volume), equal_nan=True)
    assert not (tmp_path / "nii" / WORK).exists()
    plain = write_scan(tmp_path / "plain.nii.gz", make_voxels())
    found = {}
    for axes in ("zx", "z", "x"):
        stain(believed, plain, tmp_path / axes, window=32, step=16, axes=axes)
        found[axes] = error_of(tmp_path / axes)
    mean = (found["z"] + found["x"]) / 2
    assert np.isfinite(mean).any()
    assert np.array_equal(np.isnan(found["zx"]), np.isnan(mean))
    assert np.nanmax(np.abs(found["zx"] - mean)) <= 2 / 16
    told = [json.loads((tmp_path / axes / RECORD).read_text())["likeness"] for axes in found]
    assert told[0] == told[1] == told[2]  # the scan is judged, across z, however it is stained


def test_outside_the_hull_nothing_is_known(believed, scan, tmp_path, monkeypatch):
    ids = {"bone_intensity": 30000, "background_intensity": 10000, "background_rgb": [250, 250, 250]}
    config = believed / "configs" / "inference.json"
    kept = config.read_text()
    levels = {"bone_intensity": 30000, "background_intensity": 10000}
    config.write_text(json.dumps(json.loads(kept) | {"source": {**json.loads(kept)["source"], **levels}}))
    try:
        voxels = np.full((40, 48, 40), 10000, np.uint16)
        voxels[:, 12:36, 10:30] = make_voxels((40, 24, 20))
        inner = write_scan(tmp_path / "inner.nii.gz", voxels)
        ids |= {"window": 16, "step": 8, "hull": True}
        stain(believed, inner, tmp_path / "out", **ids)
        left_out = Windows.forward
        monkeypatch.setattr(Windows, "forward", lambda self, batch, places=None: left_out(self, batch))
        stain(believed, inner, tmp_path / "all", **ids)
    finally:
        config.write_text(kept)
    found = error_of(tmp_path / "out")
    assert np.array_equal(found, error_of(tmp_path / "all"), equal_nan=True)  # windows left out are in no mean
    assert np.isnan(found[:, 0]).all()
    assert np.isnan(found[..., -1]).all()


def test_what_is_unlike_is_refused_if_that_is_asked_for(believed, scan, tmp_path):
    bright = np.clip(make_voxels((40, 48, 40)).astype(int) + 30000, 0, 65535).astype(np.uint16)
    other = write_scan(tmp_path / "bright.nii.gz", bright)
    with pytest.raises(
        InputError, match=r"bright.nii.gz is unlike the training data: of 24 of its 40 slices .* are; nothing"
    ):
        stain(believed, other, tmp_path / "out", window=None, refuse_unlike=True)
    assert not (tmp_path / "out" / "stained.ome.zarr").exists()
    stain(believed, other, tmp_path / "warned", window=None)
    assert "Most slices of this scan are unlike the training data" in (tmp_path / "warned" / PAGE).read_text()
    stain(believed, scan, tmp_path / "out2", window=None, refuse_unlike=True)  # less than half of it is
    stain(believed, other, tmp_path / "out", window=None)
    with pytest.raises(InputError, match=r"bright.nii.gz is unlike"):  # although it is stained
        stain(believed, other, tmp_path / "out", window=None, refuse_unlike=True)


def test_a_bundle_without_them_stains_as_before_and_says_so(trained, believed, scan, tmp_path, capsys):
    old = shutil.copytree(trained / "bundle", tmp_path / "old")
    stain(old, scan, tmp_path / "a", window=None)
    assert NO_ERROR_MAP in capsys.readouterr().out
    (old / "models" / "likeness.npz").unlink()
    stain(old, scan, tmp_path / "b", window=None)
    assert NEITHER in capsys.readouterr().out
    assert "likeness" not in json.loads((tmp_path / "b" / RECORD).read_text())
    assert "Not known: the model has no error map" in (tmp_path / "b" / PAGE).read_text()
    stain(believed, scan, tmp_path / "c", window=None, error_map=None)
    assert "no error map" not in capsys.readouterr().out
    stains = [files_of(tmp_path / name / "stained.ome.zarr" / "0") for name in "abc"]
    assert stains[0] == stains[1] == stains[2]
    stain(believed, scan, tmp_path / "d", window=None)
    assert files_of(tmp_path / "d" / "stained.ome.zarr" / "0") == stains[0]
    with pytest.raises(InputError, match=r"refuse_unlike is true, but .*old has no models/likeness.npz"):
        stain(old, scan, tmp_path / "e", window=None, refuse_unlike=True)


def test_slides_have_it_beside_them(believed, tmp_path):
    folder = tmp_path / "in"
    grey = make_voxels()[40][None]
    write_slide(folder / "like.png", grey, pixel_um=5.0)
    write_slide(folder / "other.tif", np.clip(grey.astype(int) + 30000, 0, 65535).astype(np.uint16), pixel_um=5.0)
    mask = np.zeros((1, 48, 40), np.uint8)
    mask[:, 8:] = 255
    write_slide(tmp_path / "mask.png", mask)
    given = {"input": folder, "output_dir": tmp_path / "out", "bundle_root": believed, "device": "cpu"}
    given |= {"mask": tmp_path / "mask.png", "background_rgb": "[1,2,3]"}
    done = run_bundle("inference", str(believed / "configs" / "inference.json"), **given)
    assert done.returncode == 0, done.stderr
    error = tifffile.imread(tmp_path / "out" / "like_stained_expected_error.tif")
    _, cells, verdict = load_model(believed).judged(grey)
    with tifffile.TiffFile(tmp_path / "out" / "like_stained_expected_error.tif") as file:
        assert file.pages[0].description.startswith("expected error of a virtual stain, levels of 255; NaN: not known")
    whole = at_pixels(torch.from_numpy(cells), 48, 40)[0].numpy()
    assert np.isnan(error[:8]).all()
    assert np.array_equal(error[8:], rounded(whole)[8:])
    assert np.isnan(tifffile.imread(tmp_path / "out" / "other_stained_expected_error.tif")).all()
    record = json.loads((tmp_path / "out" / "stained.json").read_text())
    assert record["like_stained.png"]["likeness"] == {"is": verdict.word, "distance": round(verdict.ratio, 3)}
    assert record["like_stained.png"]["expected_error"]["mean"] == pytest.approx(error[8:].mean(), abs=0.01)
    assert record["other_stained.tif"]["likeness"]["is"] == "unlike"
    assert record["other_stained.tif"]["expected_error"]["mean"] is None
    assert f"{folder / 'other.tif'} is unlike (" in done.stdout + done.stderr
    refused = run_bundle(
        "inference", str(believed / "configs/inference.json"), **{**given, "refuse_unlike": True, "output_dir": "no"}
    )
    assert refused.returncode != 0
    assert f"{folder / 'other.tif'} is unlike (" in refused.stderr
    assert "it is refused, as refuse_unlike is true" in refused.stderr
    assert not (tmp_path / "no").exists()


def test_what_was_said_of_an_earlier_stain_goes(believed, tmp_path):
    grey = make_voxels()[40][None]
    saver = SlideSaver(str(tmp_path), trust=load_trust(str(believed)))
    item = {"image": MetaTensor(torch.zeros(3, 48, 40), meta={"filename_or_obj": "a.png", "pixel_um": 0.0})}
    item["pred"] = torch.zeros(3, 48, 40, dtype=torch.uint8)
    engine = SimpleNamespace(state=SimpleNamespace(output=[item]))
    write_slide(error_path(tmp_path / "a_stained.png"), grey.astype(np.float32)[0])
    (tmp_path / "stained.json").write_text('{"b_stained.png": {}}')
    saver(engine)
    assert not error_path(tmp_path / "a_stained.png").exists()
    assert list(json.loads((tmp_path / "stained.json").read_text())) == ["b_stained.png", "a_stained.png"]
    saver.trust = Trust()
    saver(engine)
    assert list(json.loads((tmp_path / "stained.json").read_text())) == ["b_stained.png"]


def test_configs_of_before_there_was_any_say_so_too(tmp_path, capsys):
    SlideSaver(str(tmp_path)).attach(Engine(lambda engine, batch: None))
    assert NEITHER in capsys.readouterr().out
    assert {each.name: each.default for each in fields(Stainer)}["trust"].missing == NEITHER
    SlideSaver(str(tmp_path), trust=Trust()).attach(Engine(lambda engine, batch: None))
    assert not capsys.readouterr().out


def test_slides_whose_error_would_be_in_one_file_are_refused(believed, tmp_path):
    files = [tmp_path / "a.png", tmp_path / "a.tif"]
    for file in files:
        write_slide(file, make_voxels()[40][None])
    config = json.loads((believed / "configs" / "inference.json").read_text())
    given = [files, None, "forward", 32, 16, "exact", config["source"], config["target"], None, None, None, None]
    check(*given)
    with pytest.raises(InputError, match=r"a.tif and .*a.png would both be written to one file"):
        check(*given, error_map=str(believed / "models" / "error_map.pt"))


def test_another_error_map_that_is_missing_is_told(believed, tmp_path):
    for name in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(InputError, match=f"error_map {name} is no file; leave it out"):
            load_trust(str(believed), str(name))


def test_a_likeness_of_other_channels_is_told(believed):
    assert load_trust(str(believed), channels=1).likeness is not None
    with pytest.raises(InputError, match=r"likeness.npz is made of sources of 1 channel\(s\), but the network takes 2"):
        load_trust(str(believed), channels=2)


def test_what_is_unlike_by_the_networks_statistics_is_refused_too():
    image = MetaTensor(torch.zeros(3, 16, 16), meta={"filename_or_obj": "a.png"})
    inferer = SimpleNamespace(ratio_of=lambda each, network: 4.0 if each.shape == (1, 3, 16, 16) else 0.0)
    statistics = statistics_before(inferer, None, torch.device("cpu"))
    with pytest.raises(InputError, match=r"a.png is .*4.0 × in the network's statistics.*; it is refused"):
        begin(Trust(refuse=True), [{"image": image}], statistics)
    assert statistics_before(SimpleInferer(), None, torch.device("cpu")) is None


def test_the_other_direction_knows_nothing(believed):
    assert load_trust(str(believed), None, direction="reverse").likeness is None
    with pytest.raises(InputError, match="it goes with direction 'forward' only"):
        load_trust(str(believed), None, True, "reverse")


def test_too_few_sources_refuse_nothing(believed, tmp_path):
    few = shutil.copytree(believed, tmp_path / "few")
    known = Likeness.load(few / "models" / "likeness.npz")
    known.usual = np.inf
    known.save(few / "models" / "likeness.npz")
    assert load_trust(str(few)).judge(torch.zeros(1, 64, 64)).word == "not known"
    with pytest.raises(InputError, match="was trained on fewer than 3 sources"):
        load_trust(str(few), refuse_unlike=True)
