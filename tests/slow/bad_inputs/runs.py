"""Ids, configs and folders of runs that are wrong."""

from __future__ import annotations

import json

from tests.conftest import TINY
from tests.slow.bad_inputs import files
from tests.slow.bad_inputs.bench import Kind, Place
from tests.slow.bad_inputs.lists import LINE

COMMAND = "training"
PLAIN = LINE.replace("--config_file configs/train.json", "--config_file {}")


def _ids(line: str, *says: str, name: str = "") -> Kind:
    return Kind(COMMAND, name or line, f"{LINE} {line}", says)


def _config(name: str, files_: str, *says: str, make=lambda place: None) -> Kind:
    """MONAI reads the files before anything of ours runs."""
    return Kind(COMMAND, f"config: {name}", PLAIN.format(files_), says, make, monai=True)


def _written(content: str):
    return lambda place: place.file("own.json").write_text(content)


def _finished(spoil):
    """The run is there already; one of its files is spoiled."""

    def make(place: Place) -> None:
        spoil(place.run)

    return make


def _provenance(change):
    def make(place: Place) -> None:
        path = place.run / "provenance.json"
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))

    return make


def _taken(place: Place) -> None:
    place.out.write_text("a file")


AGAIN = "monai.bundle run training --config_file \"['configs/train.json','configs/profiles/demo.json']\" --dataset_dir <data> "
AGAIN += "--output_dir <run> " + " ".join(f"--{name} {value}" for name, value in {**TINY, "epochs": 3}.items())

KINDS = [
    _ids("--patch_size 0", "patch_size"),
    _ids("--patch_size 25"),
    _ids("--patch_size 80", "patch_size", "80"),
    _ids("--patch_size 1e9", "patch_size"),
    _ids("--patch_size '[32,32]'", "patch_size"),
    _ids("--epochs 0", "epochs"),
    _ids("--epochs 1.5", "epochs"),
    _ids("--epochs one", "epochs"),
    _ids("--epochs 1e0"),
    _ids("--epochs null", "epochs"),
    _ids("--epochs ''", "epochs", name="--epochs and an empty word"),
    _ids("--epochs", "epochs", name="--epochs and nothing"),
    _ids("--batch_size -3", "batch_size"),
    _ids("--batch_size 2147483647"),
    _ids("--patches_per_pair 1000000000000", "patches_per_pair"),
    _ids("--width 0", "width"),
    _ids("--width 100000", "memory"),
    _ids("--blocks nine", "blocks"),
    _ids("--upsampling bilinear", "upsampling"),
    _ids("--learning_rate -0.1", "learning_rate"),
    _ids("--learning_rate nan", "learning_rate"),
    _ids("--learning_rate inf", "learning_rate"),
    _ids("--learning_rate 2e-4x", "learning_rate"),
    _ids("--decay_epochs -1", "decay_epochs"),
    _ids("--decay_epochs 100", "decay_epochs"),
    _ids("--pool_size -1", "pool_size"),
    _ids("--num_workers -1", "num_workers"),
    _ids("--num_workers many", "num_workers"),
    _ids("--precision fp8", "precision"),
    _ids("--precision 16", "precision"),
    _ids("--compile maybe", "compile"),
    _ids("--invert_source 2", "invert_source"),
    _ids("--masked_loss yes", "masked_loss"),
    _ids("--zoom '[1.1,0.9]'", "zoom"),
    _ids("--zoom 1", "zoom"),
    _ids("--zoom '[0.9,1000]'", "zoom"),
    _ids("--zoom '[1e-9,1e-9]'", "zoom"),
    _ids("--zoom '[[0.9],[1.1]]'", "zoom"),
    _ids("--jitter 1", "jitter"),
    _ids("--noise_std -0.1", "noise_std"),
    _ids("--smoothing_sigma 1e6", "smoothing_sigma"),
    _ids("--sigma -1", "sigma"),
    _ids("--lambda_pixel -6", "lambda_pixel"),
    _ids("--lambda_pixel 1e300", "loss is inf"),
    _ids("--lambda_adv 0 --lambda_cycle 0 --lambda_identity 0 --lambda_pixel 0 --lambda_grey 0", "lambda", name="all weights 0"),
    _ids("--picture_every 0", "picture_every"),
    _ids("--save_minutes soon", "save_minutes"),
    _ids("--validate_every -1", "validate_every"),
    _ids("--validation_metric beauty --validate_every 1", "beauty"),
    _ids("--validate_step 0", "validate_step"),
    _ids("--patience 0", "patience"),
    _ids("--lpips_weights <out>/none.pth --validate_every 1 --validation_metric lpips --fold 0", "none.pth", name="weights that are not there"),
    _ids("--deploy_checkpoint best_beauty", "best_beauty"),
    _ids("--deploy_checkpoint ../../x", "deploy_checkpoint"),
    _ids("--mlflow http://127.0.0.1:9", "mlflow"),
    _ids("--resume yes", "resume"),
    _ids("--resume true", name="--resume true and no run there"),
    _ids("--seed -1", "seed"),
    _ids("--seed 4294967296", "seed"),
    _ids("--seed 1.5", "seed"),
    _ids("--device tpu", "device"),
    _ids("--device cuda:7", "device"),
    _ids("--device 0", "device"),
    _ids("--device ''", "device", name="--device and an empty word"),
    _ids("--fold 7", "fold"),
    _ids("--fold -1", "fold"),
    _ids("--fold a", "fold"),
    _ids("--datalist nothing.json", "nothing.json"),
    _ids("--datalist source/00.png", "00.png"),
    _ids("--dataset_dir /nowhere", "/nowhere"),
    _ids("--dataset_dir <data>/datalist.json", "datalist.json", name="a dataset that is a file"),
    _ids("--dataset_dir 5", "dataset_dir"),
    _ids("--dataset_dir null", "dataset_dir"),
    _ids("--output_dir /proc/out", "/proc"),
    _ids("--output_dir /dev/null/out", "/dev/null"),
    _ids("--output_dir ''", "output_dir", name="--output_dir and an empty word"),
    _ids(f"--output_dir /tmp/{'a' * 300}", "aaa", name="--output_dir of 300 characters"),
    _ids("--output_dir <data>/datalist.json/run", "datalist.json", name="--output_dir within a file"),
    _ids("--method '$x'", "method", name="--method that is code"),
    _ids("--learnin_rate 1", "learning_rate"),
    _ids("--lambda_beauty 1", "lambda_beauty"),
    _ids("--train#trainer#max_epochs 0", "epochs"),
    _ids("--dataset_dir @nothing", "nothing", name="a reference to no id"),
    _ids("--epochs '$1/0'", "epochs", name="an expression that divides by 0"),
    Kind(COMMAND, "a file where the folder is to be", LINE, ("out",), _taken),
    _config("missing", "configs/no_such.json", "no_such.json"),
    _config("a folder", "configs", "configs"),
    _config("one of two missing", "\"['configs/train.json','configs/methods/no_such.json']\"", "no_such.json"),
    _config("cut in the middle", "<here>/own.json", "JSON", make=_written('{"epochs": ')),
    _config("a list", "<here>/own.json", "list", make=_written("[1, 2]")),
    _config("empty", "<here>/own.json", "JSON", make=_written("")),
    _config("an unknown suffix", "README.md", "README.md"),
    _config("an overlay alone", "configs/methods/firm.json", "objective"),
    _config("the overlay before its base", "\"['configs/methods/firm.json','configs/train.json']\"", "objective"),
    _config("a part that refers to itself", "\"['configs/train.json','<here>/own.json']\"", "seed",
            make=_written('{"seed": "@seed"}')),
    Kind(COMMAND, "resumed: a checkpoint cut in the middle", AGAIN + " --resume true", (),
         _finished(lambda run: files.half(next(run.rglob("latest.pt"))))),
    Kind(COMMAND, "resumed: an empty checkpoint", AGAIN + " --resume true", (),
         _finished(lambda run: files.empty(next(run.rglob("latest.pt"))))),
    Kind(COMMAND, "resumed: a checkpoint that runs a command", AGAIN + " --resume true", (),
         _finished(lambda run: files.code(next(run.rglob("latest.pt"))))),
    Kind(COMMAND, "resumed: another width", AGAIN + " --resume true --width 8", ("width",), _finished(lambda run: None)),
    Kind(COMMAND, "resumed: another patch size", AGAIN + " --resume true --patch_size 48", ("patch_size",), _finished(lambda run: None)),
    Kind(COMMAND, "resumed: a record that is no JSON", AGAIN + " --resume true", ("provenance.json",),
         _finished(lambda run: (run / "provenance.json").write_text("{"))),
    Kind(COMMAND, "resumed: a record that is a list", AGAIN + " --resume true", ("provenance.json",),
         _finished(lambda run: (run / "provenance.json").write_text("[]"))),
    Kind(COMMAND, "resumed: a record without a config", AGAIN + " --resume true", (),
         _provenance(lambda record: record.pop("config"))),
    Kind(COMMAND, "a folder that holds a run", AGAIN, ("resume",), _finished(lambda run: None)),
]  # fmt: skip
