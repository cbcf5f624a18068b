"""Staining slides with a trained bundle, as a user does it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from monai.bundle import ConfigParser
from PIL import Image

from bundle.common.errors import InputError
from bundle.images.slides import read_slide, write_slide
from bundle.staining.model import load_model
from bundle.staining.slides import check, list_images
from tests.conftest import ROOT, run_bundle


@pytest.fixture(scope="module")
def model(trained):
    return load_model(trained / "bundle")


@pytest.fixture
def slide(trained) -> Path:
    return trained.parent / "data" / "source" / "02.png"


def stain(bundle: Path, **ids):
    return run_bundle("inference", str(bundle / "configs" / "inference.json"), bundle_root=bundle, **ids)


def test_a_folder_of_png_and_tiff_is_stained_with_geometry_kept(trained, slide, tmp_path, model):
    folder = tmp_path / "in"
    grey = read_slide(slide).pixels[:, :50, :66]
    write_slide(folder / "a.png", grey, pixel_um=5.0)
    write_slide(folder / "b.tif", grey[:, :20, :25], pixel_um=2.5)
    done = stain(trained / "bundle", input=folder, output_dir=tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert re.search(r"staining: 100%.* 2/2 ", done.stderr)
    bars = [part for part in re.split(r"[\r\n]", done.stderr) if "%|" in part]
    assert all(part.startswith("staining: ") for part in bars)  # one for both, none a slide
    png, tif = read_slide(tmp_path / "out" / "a_stained.png"), read_slide(tmp_path / "out" / "b_stained.tif")
    assert (png.pixels.shape, png.pixels.dtype) == ((3, 50, 66), np.uint8)
    assert tif.pixels.shape == (3, 20, 25)
    told = done.stdout  # the model was trained at 5 µm
    assert f"note: {folder / 'b.tif'} has pixels of 2.5 µm, but the model was trained on pixels of 5 µm" in told
    assert "a.png has pixels" not in told
    assert png.pixel_um == pytest.approx(5.0, rel=1e-3)
    assert tif.pixel_um == pytest.approx(2.5, rel=1e-3)
    assert Image.open(tmp_path / "out" / "a_stained.png").mode == "RGB"
    assert np.array_equal(png.pixels, model(grey))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("a_stained.png", "b_stained.tif"),
        "stained.json",  # says how like the training data they are
    ]


def test_from_another_folder_without_this_repository(trained, slide, tmp_path, model):
    bundle = tmp_path / "moved"
    shutil.copytree(trained / "bundle", bundle)
    config = str(bundle / "configs" / "inference.json")
    done = run_bundle("run", config, cwd=tmp_path, bundle_root=bundle, input=slide, output_dir="out", mask="null")
    assert done.returncode == 0, done.stderr
    assert np.array_equal(read_slide(tmp_path / "out" / "02_stained.png").pixels, model(read_slide(slide).pixels))


def test_reverse_takes_the_stain_off(trained, tmp_path):
    stained = trained.parent / "data" / "target" / "02.png"
    done = stain(trained / "bundle", input=stained, output_dir=tmp_path, direction="reverse")
    assert done.returncode == 0, done.stderr
    made = read_slide(tmp_path / "02_source.png").pixels
    assert (made.shape, made.dtype) == ((1, 64, 72), np.uint16)
    reverse = torch.load(trained / "bundle" / "reverse.pt", weights_only=True)
    network = load_model(trained / "bundle").network
    network.load_state_dict(reverse)
    x = torch.from_numpy(read_slide(stained).pixels.astype(np.float32))[None] / 127.5 - 1
    whole = load_model(trained / "bundle", direction="reverse", window=None)
    with torch.no_grad():
        grey = network(x)[0].mean(0, keepdim=True).numpy()
    expected = np.rint((grey + 1) / 2 * 65535)
    assert np.abs(whole(read_slide(stained).pixels).astype(int) - expected).max() <= 1


def test_window_null_is_one_pass_of_the_network(model, trained, slide):
    pixels = read_slide(slide).pixels
    whole = load_model(trained / "bundle", window=None)
    x = torch.from_numpy(pixels.astype(np.float32) / 65535 * 2 - 1).repeat(3, 1, 1)[None]
    with torch.no_grad():
        expected = np.rint((model.network(x)[0].numpy() + 1) * 127.5)
    assert np.abs(whole(pixels).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("shape", [(8, 8), (31, 200), (32, 32), (33, 47), (100, 9)])
def test_any_size_comes_back_at_its_size(model, shape):
    pixels = np.random.default_rng(0).integers(0, 65536, (1, *shape), dtype=np.uint16)
    assert model(pixels).shape == (3, *shape)


@pytest.mark.parametrize(("window", "step"), [(32, 8), (24, 8), (96, 32), (30, 7)])
def test_windows_lie_every_step_px(trained, window, step):
    counted = load_model(trained / "bundle", window=window, step=step)
    seen = []

    def place(patch, *_):  # the ramp's value in a window's corner is where the window lies
        seen.append(round(float(patch[0, 0, 0, 0])))
        return patch.clone()

    size = window + 3 * step
    ramp = torch.arange(size, dtype=torch.float32).expand(1, 3, size, size)
    counted.inferer(ramp, place)
    assert sorted(set(seen)) == [0, step, 2 * step, 3 * step]


def test_a_mask_turns_the_outside_to_background(trained, slide, tmp_path):
    mask = np.zeros((1, 64, 72), np.uint8)
    mask[:, :, :30] = 255
    write_slide(tmp_path / "masks" / "02.png", mask)
    colour = [10, 20, 30]
    done = stain(
        trained / "bundle",
        input=slide,
        mask=tmp_path / "masks",
        output_dir=tmp_path / "out",
        background_rgb=colour,
    )
    assert done.returncode == 0, done.stderr
    made = read_slide(tmp_path / "out" / "02_stained.png").pixels
    assert (made[:, :, 30:] == np.array(colour).reshape(3, 1, 1)).all()
    assert np.ptp(made[:, :, :30], axis=(1, 2)).all()


def test_levels_of_a_scan_are_mapped_to_those_of_training(trained, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(trained / "bundle", bundle)
    config = json.loads((bundle / "configs" / "inference.json").read_text())
    config["source"] |= {"bone_intensity": 30000, "background_intensity": 10000}
    config |= {"bone_intensity": 30000, "background_intensity": 10000}
    (bundle / "configs" / "inference.json").write_text(json.dumps(config))
    calibrated = np.random.default_rng(0).integers(5000, 60000, (1, 40, 40)).astype(np.float32)
    other_scan = (calibrated - 10000) / 20000 * 0.7 + 0.1  # attenuation in 1/cm: background 0.1, bone 0.8
    here = load_model(bundle)(calibrated)
    there = load_model(bundle, bone_intensity=0.8, background_intensity=0.1)(other_scan)
    assert np.abs(here.astype(int) - there).max() <= 1
    assert not np.array_equal(here, load_model(bundle, bone_intensity=0.9, background_intensity=0.1)(other_scan))


def test_pre_and_post_processing_are_stock_monai(trained, slide, model):
    parser = ConfigParser()
    parser.read_config(str(trained / "bundle" / "configs" / "inference.json"))
    for name in ("preprocessing", "postprocessing"):
        for step in parser.get(name)["transforms"]:
            assert not step["_target_"].startswith("bundle"), step
    parser.update({"bundle_root": str(trained / "bundle"), "sliding_window#progress": False, "device": "cpu"})
    image = parser.get_parsed_content("preprocessing")({"image": str(slide)})["image"]
    pred = parser.get_parsed_content("inferer")(image[None], model.accelerated)[0]
    made = parser.get_parsed_content("postprocessing")({"pred": pred})["pred"]
    assert np.array_equal(np.asarray(made), model(read_slide(slide).pixels))


def corrupt_model(bundle: Path) -> None:
    path = bundle / "models" / "model.pt"
    path.write_bytes(path.read_bytes()[:1000])


def wider_network(bundle: Path) -> None:
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["network_def"]["width"] = 8
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (corrupt_model, "model.pt is not a readable checkpoint"),
        (wider_network, "model.pt is of another architecture"),
        (lambda bundle: (bundle / "models" / "model.pt").unlink(), "model.pt does not exist"),
    ],
)
def test_a_spoilt_bundle_is_refused_in_one_line(trained, slide, tmp_path, spoil, message):
    bundle = tmp_path / "bundle"
    shutil.copytree(trained / "bundle", bundle)
    spoil(bundle)
    done = stain(bundle, input=slide, output_dir=tmp_path / "out")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def checked(files, **changed):
    config = json.loads((ROOT / "configs" / "inference.json").read_text())
    ids = {key: config[key] for key in ("direction", "window", "step", "speed", "source", "target", "output_format")}
    ids |= {key: config[key] for key in ("bone_intensity", "background_intensity", "mask", "background_rgb")}
    check(files=files, **{**ids, **changed})


def image(folder: Path, pixels: np.ndarray) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(folder / "a.tif", pixels)
    return [folder / "a.tif"]


GREY = np.full((20, 20), 20000, np.uint16)
UNDECLARED = {"name": "µCT", "channels": 1, "range": [0, 65535]}
NO_LEVELS = {"source": UNDECLARED, "bone_intensity": None, "background_intensity": None}
FAINT = np.arange(400, dtype=np.uint16).reshape(20, 20).clip(0, 255)  # 8 bits in a file of 16
LIGHT = {"name": "IF", "channels": 2, "range": [0, 255]}


@pytest.mark.parametrize(
    ("pixels", "ids", "message"),
    [
        (np.full((20, 20), np.nan, np.float32), {}, "400 NaN or infinite pixels"),
        (np.full((20, 20), 70000.0, np.float32), {}, "outside the declared range"),
        (FAINT, {}, "values from 0 to 255, 0.00% of them between background_intensity 10000 and bone_intensity 30000"),
        (FAINT + 50000, {}, "values from 50000 to 50255, 0.00% of them between"),
        (FAINT, {"bone_intensity": 900, "background_intensity": 400}, "(python -m scripts.intensities finds them)"),
        (FAINT / 512, NO_LEVELS, "values from 0 to 0.498047, less than one of 256 grey levels of the declared range"),
        (np.zeros((3, 20, 20), np.uint8), {}, "has 3 channels but SR-µCT declares 1"),
        (np.zeros((5, 20), np.uint8), {}, "at least 8×8"),
        (GREY, {"direction": "back"}, "direction is 'back'"),
        (GREY, {"window": "null"}, "window is 'null'"),
        (GREY, {"step": 300}, "step is 300; it must be from 1 px to the window of 256 px"),
        (GREY, {"speed": "warp"}, "speed is 'warp'"),
        (GREY, {"normalisation": "batch"}, "normalisation is 'batch'; it must be one of window, dense"),
        (GREY, {"normalisation": "dense", "window": None}, "'dense', which goes with windows, but window is None"),
        (GREY, {"output_format": "jpg"}, "output_format is 'jpg'"),
        (GREY, {"bone_intensity": None}, "give both"),
        (GREY, {"bone_intensity": 5, "background_intensity": 5}, "must differ"),
        (GREY, {"source": UNDECLARED}, "declared none for its µCT"),
        (GREY, {"mask": "m.png"}, "background_rgb is not"),
        (GREY, {"mask": "m.png", "background_rgb": [0, 0, 0]}, "m.png does not exist"),
        (GREY, {"background_rgb": [999, 0, 0]}, "background_rgb is [999, 0, 0]; it must be 3 numbers from 0 to 255"),
        (GREY, {"background_rgb": [0, 0]}, "background_rgb is [0, 0]; it must be 3 numbers"),
        (GREY, {"target": LIGHT, "output_format": "png"}, "'png', which cannot hold IF (2 channel(s), 0 to 255)"),
        (GREY, {"target": LIGHT, "mask": "m.png", "background_rgb": [0, 0, 0]}, "has no colour to set outside it"),
    ],
)
def test_bad_input_is_named(tmp_path, pixels, ids, message):
    with pytest.raises(InputError) as caught:
        checked(image(tmp_path / "in", pixels), **ids)
    assert message in str(caught.value)


def test_pixels_of_another_size_than_the_models_are_noted(tmp_path, capsys):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps({"pixel_um": 0.5}))
    grey = np.random.default_rng(0).integers(0, 65535, (1, 20, 20)).astype(np.uint16)
    for number, size in enumerate((0.25, 0.51, 0.25, None)):
        write_slide(tmp_path / f"{number}.tif", grey, size)
    files = [tmp_path / f"{number}.tif" for number in range(4)]
    checked(files, bundle_root=str(tmp_path))
    said = capsys.readouterr().out
    assert f"note: {files[0]} has pixels of 0.25 µm, but the model was trained on pixels of 0.5 µm" in said
    assert said.endswith("(1 more such images)\n")
    checked(files[1:2], bundle_root=str(tmp_path))
    assert "note" not in capsys.readouterr().out


def test_two_files_of_one_name_are_refused(tmp_path):
    files = image(tmp_path / "in", GREY)
    write_slide(tmp_path / "in" / "a.png", GREY[None])
    with pytest.raises(InputError, match="would both be written to one file"):
        checked([*files, tmp_path / "in" / "a.png"], output_format="png")
    with pytest.raises(InputError, match="would both be written to one file"):  # two channels are always TIFF
        checked([*files, tmp_path / "in" / "a.png"], target=LIGHT)


def test_the_folder_of_a_run_is_told_from_its_bundle(tmp_path):
    config = tmp_path / "bundle" / "configs" / "inference.json"
    config.parent.mkdir(parents=True)
    config.touch()
    with pytest.raises(InputError, match=r"is the folder of a run; its trained bundle is .*/bundle"):
        load_model(tmp_path)


def test_an_input_must_be_there(tmp_path):
    (tmp_path / "tiles").mkdir()
    for path, message in (
        (tmp_path, "holds no image .* name one of them: tiles"),
        (tmp_path / "tiles", "holds no image"),
        (tmp_path / "x", "does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            list_images(path)
    with pytest.raises(InputError, match="input is not set"):
        checked(list_images(None))
