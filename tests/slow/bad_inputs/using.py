"""Bad options and files, given to the commands that measure, compare, pack and serve."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers.nuclei import TINY as TINY_NUCLEI
from tests.slow.bad_inputs import files
from tests.slow.bad_inputs.bench import Kind, Place

Make = Callable[[Place], Any]
EVALUATION = (
    "monai.bundle run evaluation --config_file \"['configs/train.json','configs/evaluate.json']\" --dataset_dir <data> "
)
EVALUATION += "--output_dir <run> --device cpu --eval_patch 32 --eval_window 32 --eval_step 32"
IDS_NUCLEI = " ".join(f"--{name} {value}" for name, value in {**TINY_NUCLEI, "epochs": 1, "steps_per_epoch": 1}.items())
NUCLEI = f"monai.bundle run training --config_file configs/nuclei.json --dataset_dir <nuclei> --output_dir <out> {IDS_NUCLEI}"
SEGMENT = "monai.bundle run inference --config_file configs/nuclei.json --model_bundle <segmenter>/bundle --output_dir <out> --device cpu "
SEGMENT += "--input <nuclei>/images"
STUDY = "scripts.study --dataset_dir <data> --output_dir <out> --profile demo"
REPEAT = "scripts.repeat --provenance <run>/provenance.json --output_dir <out>"
REPORT = "scripts.report --output_dir <run>"
EXPORT = "scripts.export --bundle <bundle> --output <here>/model.zip --onnx false"
RESOLUTION = "scripts.resolution <data>/source/00.png --pixel_um 5"
SCORES = "scripts.volume_scores --stained <stained>/stained.nii --truth <phantom>/specimens/01/stain.nii.gz"
INSILICO = (
    "scripts.insilico --input <tiles> --labels <tiles> --edits configs/edits/membrane.json --model_bundle <restain> "
)
INSILICO += "--output <out> --device cpu"
PACS = "--pacs http://127.0.0.1:9/dicom-web --timeout 1 --attempts 1"
STAIN = f"scripts.pacs stain {PACS} --series 1.2.3 --bundle <bundle> --work <here>/work"
WATCH = f"scripts.pacs watch {PACS} --bundle <bundle> --rules <here>/rules.json --once true --work <here>/work"
LABEL = "scripts.label --bundle <bundle> --studies <scan> --work_dir <here>/label"


def _of(command: str, line: str) -> Callable[..., Kind]:
    def kind(more: str, *says: str, name: str = "", make: Make = lambda place: None) -> Kind:
        return Kind(command, name or more, f"{line} {more}", says, make)

    return kind


evaluation, nuclei, segment = (
    _of("evaluation", EVALUATION),
    _of("nuclei", NUCLEI),
    _of("nuclei inference", SEGMENT),
)
study, repeat, report, export = _of("study", STUDY), _of("repeat", REPEAT), _of("report", REPORT), _of("export", EXPORT)
resolution, scores, insilico = _of("resolution", RESOLUTION), _of("volume_scores", SCORES), _of("insilico", INSILICO)
find, stain, watch, label = (
    _of("pacs", f"scripts.pacs find {PACS}"),
    _of("pacs", STAIN),
    _of("pacs", WATCH),
    _of("label", LABEL),
)


def _change(place: str, file: str, change: Callable[[dict[str, Any]], Any]) -> Make:
    def make(here: Place) -> None:
        path = getattr(here, place) / file
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content))

    return make


def _spoil(place: str, file: str, spoil: files.Spoiler) -> Make:
    return lambda here: spoil(getattr(here, place) / file)


def _write(name: str, content: Any) -> Make:
    return lambda here: here.file(name).write_text(content if isinstance(content, str) else json.dumps(content))


def _entry(**values: Any) -> Make:
    return _change("nuclei", "datalist.json", lambda listed: listed["training"][0].update(values))


def _gone(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _says(text: str) -> files.Spoiler:
    return lambda path: path.write_text(text)


def _edits(*edits: dict[str, Any]) -> dict[str, Any]:
    return {"variants": {"one": list(edits)}}


RULES = [{"match": {"Modality": "CT"}, "bone_intensity": 9, "background_intensity": 1}]
LABELS = np.zeros((64, 72), np.uint16)
KINDS = [
    *(evaluation(f"--{name} {value}", *says) for name, value, *says in [
        ("eval_patch", "4", "eval_patch"), ("eval_patch", "500", "eval_patch"), ("eval_patch", "x", "eval_patch"), ("eval_stride", "0", "eval_stride"), ("eval_overlap", "2", "eval_overlap"),
        ("eval_splits", "test", "eval_splits"), ("eval_splits", "'[testing,testing]'", "eval_splits"), ("eval_splits", "'[validation]'", "validation"), ("lpips_weights", "<here>/none.pth", "none.pth"),
        ("lpips_weights", "<data>/source/00.png", "00.png"), ("eval_window", "1", "eval_window"), ("eval_step", "64", "step is 64"), ("model_bundle", "<data>", "data"), ("model_bundle", "/nowhere", "/nowhere"),
        ("fold", "9", "fold"), ("eval_baselines", "x", "eval_baselines")]),
    evaluation("", "model.pt", name="weights cut in the middle", make=lambda here: files.half(here.bundle / "models/model.pt")),
    evaluation("", "inference.json", name="a bundle whose config is cut", make=lambda here: files.half(here.bundle / "configs/inference.json")),
    evaluation("", "channels", name="a dataset of other channels", make=lambda here: here.relist(
        lambda listed: listed["source"].update(channels=3))),
    *(nuclei(f"--{name} {value}", name) for name, value in [
        ("rays", "2"), ("rays", "x"), ("grid", "3"), ("ray_unit_px", "0"), ("patch_size", "7"), ("patch_size", "33"), ("foreground", "2"), ("steps_per_epoch", "0"), ("probability_threshold", "1"),
        ("nms_threshold", "nan"), ("held_out", "1"), ("window", "4"), ("tune_thresholds", "x"), ("lambda_distance", "-1"), ("width", "0"), ("learning_rate", "x"), ("epochs", "-1"), ("rayz", "8")]),
    nuclei("--dataset_dir /nowhere", "/nowhere"),
    *(nuclei("", *says, name=f"datalist: {name}", make=make) for name, make, *says in [
        ("no labels", _change("nuclei", "datalist.json", lambda listed: listed["training"][0].pop("labels")), "labels"),
        ("labels are the image", _entry(labels="images/0.png"), "labels"),
        ("labels are null", _entry(labels=None), "labels"), ("labels are a number", _entry(labels=5), "labels"), ("an image that is gone", _entry(image="images/99.png"), "99.png"),
        ("no training", _change("nuclei", "datalist.json", lambda listed: listed.update(training=[])), "training"),
        ("no image", _change("nuclei", "datalist.json", lambda listed: listed.pop("image")), "image"),
        ("a name that is code", _change("nuclei", "datalist.json", lambda listed: listed["image"].update(name="$x")), "image"),
        ("one specimen on both sides", _change("nuclei", "datalist.json", lambda listed: listed["training"][0].update(specimen=listed["testing"][0]["specimen"])), "specimen")]),
    *(nuclei("", "0.png", name=f"{file}: {name}", make=_spoil("nuclei", file, spoil)) for file, name, spoil in [
        ("labels/0.png", "empty", files.empty), ("labels/0.png", "RGB", files.pixels(np.zeros((64, 72, 3), np.uint8))), ("labels/0.png", "of another size", files.pixels(LABELS[:9])), ("labels/0.png", "a bomb", files.bomb),
        ("images/0.png", "cut in the middle", files.half), ("images/0.png", "16 bits", files.pixels(LABELS + 60000)), ("images/0.png", "a FIFO", files.pipe), ("images/0.png", "1 px", files.pixels(np.ones((1, 1), np.uint8)))]),
    nuclei("", name="labels/0.png: no nucleus", make=_spoil("nuclei", "labels/0.png", files.pixels(LABELS))),
    *(segment(f"--{name} {value}", *says) for name, value, *says in [
        ("input", "/nowhere", "/nowhere"), ("input", "<nuclei>/datalist.json", "datalist.json"), ("input_pixel_um", "0", "input_pixel_um"), ("input_pixel_um", "0.5"), ("model_bundle", "<nuclei>", "nuclei"),
        ("model_bundle", "<bundle>", "bundle"), ("probability_threshold", "2", "probability_threshold"), ("input", "<data>/target", "target"), ("window", "3", "window")]),
    segment("", "0.png", name="an image cut in the middle", make=_spoil("nuclei", "images/0.png", files.half)),
    segment("", "model.pt", name="weights cut in the middle", make=_spoil("segmenter", "bundle/models/model.pt", files.half)),
    *(study(f"--{name} {value}", *says) for name, value, *says in [
        ("methods", "none_such", "none_such"), ("methods", "'[paired,paired]'", "paired"), ("methods", "5", "5"), ("methods", "'../x'", "x"), ("folds", "'[9]'", "9"), ("folds", "x", "fold"), ("seeds", "'[-1]'", "seed"), ("seeds", "x", "seed"),
        ("seeds", "'[]'", "seeds"), ("methods", "'[]'", "variants is empty"), ("profile", "none_such", "none_such"), ("ids", "5", "ids"), ("ids", "'{epochz: 1}'", "epochz"), ("ids", "'{epochs: x}'", "epochs"), ("evaluation", "'{eval_patch: 1}'", "eval_patch"),
        ("evaluation_config", "none.json", "none.json"), ("variants", "<here>/none.json", "none.json"), ("dataset_dir", "/nowhere", "/nowhere"), ("output_dir", "<data>/datalist.json", "datalist.json")]),
    *(study("--variants <here>/v.json", *says, name=f"variants: {name}", make=_write("v.json", content)) for name, content, *says in [
        ("no JSON", "{", "v.json"), ("a list", [], "v.json"), ("empty", {}, "variants is empty"), ("methods as a number", {"a": {"methods": 5}}, "methods"), ("ids as a list", {"a": {"ids": []}}, "ids"), ("a key that is none", {"a": {"method": []}}, "method"),
        ("a name that leaves the folder", {"../../a": {"methods": []}}, "../../a"), ("a name that is empty", {"": {"methods": []}}, "name of a folder"), ("a name of 300 letters", {"a" * 300: {"methods": []}}, "aaa")]),
    *(repeat("", *says, name=f"record: {name}", make=_spoil("run", "provenance.json", _says(content))) for name, content, *says in [
        ("no JSON", "{", "provenance.json"), ("a list", "[]", "provenance.json"), ("empty", "{}", "provenance.json"), ("a config that is text", '{"config": "x"}', "provenance.json")]),
    *(repeat("", *says, name=f"record: {name}", make=_change("run", "provenance.json", change)) for name, change, *says in [
        ("no data", lambda record: record.pop("data_sha256"), "provenance.json"), ("data of words", lambda record: record.update(data_sha256="x"), "data_sha256"),
        ("a dataset that is gone", lambda record: record.update(dataset_dir="/nowhere"), "/nowhere"), ("a dataset that is a number", lambda record: record.update(dataset_dir=5), "dataset_dir"),
        ("code in its config", lambda record: record["config"].update(run="$__import__('os').system('touch ran')"), "trust"), ("a place to write to", lambda record: record["config"]["train"]["writer"].update(log_dir="/nowhere"), "trust"), ("versions of words", lambda record: record.update(versions="x"), "versions")]),
    repeat("--output_dir <run>", "not empty", name="a folder that is not empty"),
    repeat("--provenance <here>/none.json", "none.json"),
    repeat("--trust maybe", "trust"),
    repeat("--dataset_dir <data>", "00.png", name="data that has changed", make=_spoil("data", "source/00.png", files.pixels(np.full((64, 72), 5, np.uint16)))),
    report("--output_dir /nowhere", "/nowhere"),
    report("--output_dir <data>", "data"),
    report("--output_dir <data>/datalist.json", "datalist.json"),
    report("", "provenance.json", name="a record that is no JSON", make=_spoil("run", "provenance.json", _says("{"))),
    report("", "provenance.json", name="a record that is a list", make=_spoil("run", "provenance.json", _says("[]"))),
    report("", name="a record that is empty", make=_spoil("run", "provenance.json", _says("{}"))),
    report("", name="curves that are gone", make=_spoil("run", "tensorboard", _gone)),
    report("", name="a log that is no text", make=_spoil("run", "log.txt", lambda path: path.write_bytes(bytes(range(256)) * 9))),
    *(export(f"--{name} {value}", *says) for name, value, *says in [
        ("bundle", "<data>", "data"), ("bundle", "/nowhere", "/nowhere"), ("bundle", "<run>", "bundle"), ("output", "<here>/model.tar", "model.tar"), ("output", "/dev/null/model.zip", "/dev/null"), ("name", "'Bone Stain'", "name"),
        ("name", "../x", "name"), ("name", "''", "name"), ("version", "one", "version"), ("version", "1", "version"), ("onnx", "maybe", "onnx"), ("schema", "<here>/none.json", "none.json")] ),
    export("", "ckpt_export", name="weights cut in the middle", make=lambda here: files.half(here.bundle / "models/model.pt")),
    export("", "model.ts", name="no TorchScript", make=lambda here: _gone(here.bundle / "models/model.ts")),
    export("", "metadata.json", name="metadata that is a list", make=lambda here: (here.bundle / "configs/metadata.json").write_text("[]")),
    export("", "metadata.json", name="no metadata", make=lambda here: _gone(here.bundle / "configs/metadata.json")),
    *(resolution(more, *says, name=name) for name, more, *says in [
        ("no gain", "", "--gain"), ("a gain of 0", "--gain 0", "gain"), ("a gain of NaN", "--gain nan", "gain"), ("a gain of words", "--gain x", "gain"), ("a flat part of three", "--flat '[0,0,9]'", "flat"), ("a flat part outside", "--flat '[0,0,900,900]'", "flat"),
        ("a flat part of words", "--flat '[a,b,c,d]'", "flat"), ("a negative flat part", "--flat '[-5,0,9,9]'", "flat"), ("a flat part of nothing", "--flat '[0,0,0,0]'", "flat"), ("an offset of words", "--gain 1 --offset x", "offset"), ("an offset too high", "--gain 1 --offset 1e9", "offset"),
        ("a threshold of 2", "--gain 1 --threshold 2", "threshold"), ("a threshold of words", "--gain 1 --threshold x", "threshold"), ("a pixel size of 0", "--gain 1 --pixel_um 0", "pixel_um"), ("a pixel size of words", "--gain 1 --pixel_um x", "pixel_um"),
        ("a seed of words", "--gain 1 --seed x", "seed"), ("a seed below 0", "--gain 1 --seed -1", "seed"), ("one image between", "--between true", "two"), ("a file that is not there", "<here>/none.png --gain 1", "none.png"),
        ("a bool that is none", "--between x", "between"), ("images of two sizes", "<nuclei>/images/0.png <scan>/scan.nii.gz --between true", "")]),
    resolution("--gain 1", "00.png", name="an image of one value", make=_spoil("data", "source/00.png", files.pixels(np.full((64, 72), 5, np.uint16)))),
    resolution("--gain 1", "00.png", name="an image of 1 px", make=_spoil("data", "source/00.png", files.pixels(np.full((1, 1), 5, np.uint16)))),
    resolution("--gain 1", "00.png", name="an image of zeros", make=_spoil("data", "source/00.png", files.pixels(np.zeros((64, 72), np.uint16)))),
    *(scores(f"--{name} {value}", *says) for name, value, *says in [
        ("stained", "<here>/none.nii.gz", "none.nii.gz"), ("stained", "''", "stained"), ("stained", "<scan>/scan.nii.gz", "scan.nii.gz"), ("every", "0", "every"), ("every", "x", "every"), ("between", "5", "between"),
        ("tissues", "<here>/none.json", "none.json"), ("lpips_weights", "<here>/none.pth", "none.pth")]),
    *(insilico(f"--{name} {value}", *says) for name, value, *says in [
        ("input", "/nowhere", "/nowhere"), ("labels", "<data>", "no image"), ("edits", "<here>/none.json", "none.json"), ("edits", "<tiles>/t0.png", "t0.png"), ("model_bundle", "<data>", "data"), ("domain", "x", "domain"), ("split", "train", "split"),
        ("table", "<here>/none.csv", "none.csv"), ("least_overlap", "2", "least_overlap"), ("least_overlap", "x", "least_overlap"), ("seed", "-1", "seed"), ("seed", "x", "seed"), ("device", "tpu", "device"), ("device", "cuda:9", "device"), ("replace", "x", "replace"), ("output", "<tiles>", "tiles")]),
    *(insilico("--edits <here>/e.json", *says, name=f"edits: {name}", make=_write("e.json", content)) for name, content, *says in [
        ("no JSON", "{", "e.json"), ("a list", [], "e.json"), ("no variants", {}, "variants"), ("variants as a list", {"variants": []}, "variants"), ("no variant", {"variants": {}}, "variants"), ("an edit that is text", {"variants": {"a": ["scale"]}}, "a"),
        ("an unknown edit", _edits({"edit": "paint"}), "paint"), ("an unknown channel", _edits({"edit": "scale", "channel": "x", "factor": 1}), "x"), ("a factor of words", _edits({"edit": "scale", "channel": "DAPI", "factor": "x"}), "factor"),
        ("a negative factor", _edits({"edit": "scale", "channel": "DAPI", "factor": -1}), "factor"), ("a factor of NaN", '{"variants": {"a": [{"edit": "scale", "channel": "DAPI", "factor": NaN}]}}', "factor"), ("no factor", _edits({"edit": "scale", "channel": "DAPI"}), "factor"),
        ("a radius of 10^9", _edits({"edit": "dilate", "channel": "membrane", "radius_px": 10**9}), "radius_px"), ("an exponent of 0", _edits({"edit": "gamma", "channel": "DAPI", "exponent": 0}), "exponent"),
        ("a key that is none", _edits({"edit": "suppress", "channel": "DAPI", "hard": 1}), "hard"), ("a name that leaves the folder", {"variants": {"../../a": []}}, "../../a"), ("a name that is code", {"variants": {"$x": []}}, "variant")]),
    insilico("", "t0", name="a tile cut in the middle", make=_spoil("tiles", "t0.png", files.half)),
    insilico("", "t0", name="labels in colour", make=_spoil("tiles", "t0_labels.png", files.pixels(np.zeros((96, 96, 3), np.uint8)))),
    insilico("", "t0", name="labels of another size", make=_spoil("tiles", "t0_labels.png", files.pixels(np.ones((9, 9), np.uint16)))),
    insilico("--table <here>/t.csv", "t.csv", name="a table without columns", make=_write("t.csv", "a\n1\n")),
    insilico("", "reverse.pt", name="a bundle without a way back", make=_spoil("restain", "reverse.pt", _gone)),
    *(find(more, *says, name=f"find: {name}") for name, more, *says in [
        ("nobody listens", "", "127.0.0.1"), ("no address", "--pacs x", "pacs"), ("an ftp address", "--pacs ftp://a/b", "pacs"), ("a port of words", "--pacs http://a:b/dicom-web", "pacs"), ("a port of 99999", "--pacs dicom://A@127.0.0.1:99999", "pacs"),
        ("no AE title", "--pacs dicom://127.0.0.1:104", "pacs"), ("an AE title of 30 letters", "--pacs dicom://" + "A" * 30 + "@127.0.0.1:9", "AE"), ("our AE title of 30 letters", "--pacs dicom://A@127.0.0.1:9 --aet " + "A" * 30, "aet"), ("a study that is none", "--study x", "study"),
        ("a timeout of 0", "--timeout 0", "timeout"), ("a timeout of words", "--timeout x", "timeout"), ("no attempts", "--attempts 0", "attempts"), ("attempts of words", "--attempts x", "attempts"), ("certificates that are not there", "--pacs https://127.0.0.1:9/d --ca_file <here>/none.pem", "none.pem"),
        ("certificates that are none", "--pacs https://127.0.0.1:9/d --ca_file <data>/datalist.json", "datalist.json"), ("nobody listens to DICOM", "--pacs dicom://A@127.0.0.1:9", "127.0.0.1"), ("an address that is a number", "--pacs 5", "pacs"), ("a patient with a wildcard", "--patient '*'", "127.0.0.1")]),
    Kind("pacs", "a command that is none", "scripts.pacs fnd --pacs x", ("find",)),
    *(stain(more, *says, name=f"stain: {name}") for name, more, *says in [
        ("no intensities, where the model needs none", "", "127.0.0.1"), ("a series that is none", "--series x", "series"), ("a series of 99 digits", "--series " + "1" * 99, "series"), ("a bundle that is none", "--bundle <data>", "data"), ("a speed that is none", "--speed warp", "speed"),
        ("frames that are none", "--frames x", "frames"), ("intensities of words", "--bone_intensity x --background_intensity 1", "intensity"), ("rules that are not there", "--rules <here>/none.json", "none.json"), ("a fetch that is none", "--fetch x --pacs dicom://A@127.0.0.1:9", "fetch"),
        ("a receiving port of words", "--pacs dicom://A@127.0.0.1:9 --fetch move --receive_port x", "receive_port"), ("keep as a word", "--keep x", "keep")]),
    *(watch(more, *says, name=f"watch: {name}", make=_write("rules.json", content)) for name, more, content, *says in [
        ("no JSON", "", "{", "rules.json"), ("no rules", "", [], "rules"), ("an object", "", {}, "rules"), ("a rule that is text", "", ["CT"], "rule"), ("a rule without intensities", "", [{"match": {"Modality": "CT"}}], "intensity"),
        ("a rule of an unknown key", "", [{**RULES[0], "Modalty": "CT"}], "Modalty"), ("a match of a number", "", [{**RULES[0], "match": 5}], "match"), ("a match of an unknown field", "", [{**RULES[0], "match": {"Modalty": "CT"}}], "Modalty"), ("intensities of words", "", [{**RULES[0], "bone_intensity": "x"}], "bone_intensity"), ("every -1", "--every -1", RULES, "every"), ("days of words", "--days x", RULES, "days"), ("stable of NaN", "--stable nan", RULES, "stable"), ("once as a word", "--once x", RULES, "once")]),
    *(label(more, *says, name=name) for name, more, *says in [
        ("a bundle that is none", "--bundle <data>", "data"), ("studies that are not there", "--studies /nowhere", "/nowhere"), ("a password in the address", "--studies http://a:b@127.0.0.1/dicom-web", "studies"), ("stow without a server", "--stow true", "stow"),
        ("stow as a word", "--stow x", "stow"), ("one intensity", "--bone_intensity 5", "intensity"), ("names of all", "--names '*'", "names")]),
]  # fmt: skip
