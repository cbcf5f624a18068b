"""What an id may be is said in one table: a wrong value is a line before anything is made, and a numeral a number."""

import json
import math

import pytest
import yaml
from monai.bundle import ConfigParser

from bundle.common.errors import InputError
from bundle.common.ids import TABLES, fault_of, kinds_of, settle
from tests.conftest import ROOT, run_bundle
from tests.test_docs import PAGE, section

CONFIGS = {
    "training": ["train.json"],
    "field": ["train.json", "methods/field.json"],
    "restain": ["train.json", "evaluate_unpaired.json", "methods/restain.json"],
    "evaluation": ["train.json", "evaluate.json"],
    "nuclei": ["nuclei.json"],
    "slides": ["inference.json"],
    "volumes": ["inference.json", "volume.json"],
}
WHOLE = "it must be a whole number of at least"
WRONG = [
    ("training", {"patch_size": 1}, f"patch_size is 1; {WHOLE} 24."),
    ("training", {"learning_rate": -0.1}, "learning_rate is -0.1; it must be a number from 0 to 1."),
    ("training", {"learning_rate": math.nan}, "learning_rate is nan; it must be a number from 0 to 1."),
    ("training", {"lambda_cycle": math.inf}, "lambda_cycle is inf; it must be a number of at least 0."),
    ("training", {"lambda_pixel": "ten"}, "lambda_pixel is 'ten'; it must be a number of at least 0."),
    ("training", {"noise_std": -1}, "noise_std is -1; it must be a number from 0 to 1."),
    ("training", {"sigma": -1}, "sigma is -1; it must be a number from 0 to 10."),
    ("training", {"seed": -1}, "seed is -1; it must be a whole number from 0 to 4294967295."),
    ("training", {"device": "cuda:77"}, "device is 'cuda:77'; it must be a device of this machine (cpu"),
    ("training", {"device": "gpu"}, "device is 'gpu'; it must be a device of this machine (cpu"),
    ("training", {"device": 10**400}, "it must be a device of this machine (cpu"),
    ("training", {"picture_every": 0}, f"picture_every is 0; {WHOLE} 1."),
    ("training", {"epochs": True}, f"epochs is True; {WHOLE} 1."),
    ("training", {"epochs": 1.5}, f"epochs is 1.5; {WHOLE} 1."),
    ("training", {"width": 10**400}, f"{WHOLE} 1."),
    ("training", {"batch_size": 10**12}, f"{WHOLE} 1, and at most 2147483647."),
    ("training", {"mask_discriminator": "maybe"}, "mask_discriminator is 'maybe'; it must be true or false."),
    ("training", {"resume": 1}, "resume is 1; it must be true, false or changed."),
    (
        "training",
        {"zoom": [1.1, 0.9]},
        "zoom is [1.1, 0.9]; it must be two numbers from 0.1 to 10, the first not the greater.",
    ),
    ("training", {"zoom": [0, 1]}, "zoom is [0, 1]"),
    ("training", {"zoom": 1}, "zoom is 1;"),
    ("training", {"upsampling": ["nearest"]}, "upsampling is ['nearest']; it must be one of nearest, transposed."),
    ("training", {"deploy_checkpoint": "../x"}, "it must be latest, or best_ and the name of a term or metric."),
    (
        "training",
        {"output_dir": 2024},
        "output_dir is 2024; it must be a path; write a name of digits alone as ./2024.",
    ),
    ("training", {"datalist": "a\0b"}, "datalist is 'a\\x00b'; it must be a path."),
    ("training", {"method": {"a": 1}}, "method is {'a': 1}; it must be text."),
    ("training", {"decay_epochs": "$@epochs - 501"}, f"decay_epochs is -1; {WHOLE} 0."),
    ("training", {"decay_epochs": "$@epochs // 'x'"}, "which gives no value: TypeError("),
    ("training", {"patience": [[[[["deep"]]]]]}, "patience is [[[[...]]]]; it must be"),
    ("field", {"average": 1}, "average is 1; it must be a number of at least 0 and less than 1."),
    ("field", {"levels": 0}, "levels is 0; it must be a whole number from 1 to 8."),
    ("field", {"air_alone": -0.1}, "air_alone is -0.1; it must be a number from 0 to 1."),
    ("restain", {"carriers": ["DAPI"]}, "carriers is ['DAPI']; it must be names by name."),
    ("restain", {"skips": "some"}, "skips is 'some'; it must be true or false."),
    ("restain", {"eval_splits": ["tests"]}, "it must be a list of some of training, validation, testing."),
    (
        "evaluation",
        {"eval_splits": ["testing", "testing"]},
        "it must be a list of some of training, validation, testing.",
    ),
    ("evaluation", {"eval_overlap": 1.5}, "eval_overlap is 1.5; it must be a number from 0 to 1."),
    ("nuclei", {"grid": 3}, "grid is 3; it must be one of 1, 2, 4."),
    ("nuclei", {"nms_threshold": 1}, "nms_threshold is 1; it must be a number above 0 and below 1, or null."),
    ("slides", {"window": "big"}, f"window is 'big'; {WHOLE} 8, or null."),
    ("slides", {"bone_intensity": "bright"}, "bone_intensity is 'bright'; it must be a number, or null."),
    ("slides", {"output_format": "ome-zarr"}, "output_format is 'ome-zarr'; it must be one of png, tif, or null."),
    ("slides", {"background_rgb": "red"}, "it must be a list of numbers, one a channel, or null."),
    ("volumes", {"output_format": 5}, "output_format is 5; it must be a format of stained volumes."),
    (
        "volumes",
        {"voxel_um": "five"},
        "voxel_um is 'five'; it must be a number above 0, or three in the order z, y, x,",
    ),
    ("volumes", {"voxel_um": [5, 5]}, "voxel_um is [5, 5];"),
    ("volumes", {"axes": "zz"}, "axes is 'zz'; it must be 'z', or several of z, y and x, such as 'zyx'."),
]
READ = [
    ("training", "learning_rate", "2e-4", 0.0002),  # YAML's
    ("training", "epochs", "1e2", 100),
    ("training", "epochs", 40.0, 40),
    ("training", "fold", "null", None),
    ("training", "resume", "true", True),
    ("training", "decay_epochs", "$@epochs // 2", "$@epochs // 2"),
    ("training", "zoom", (0.9, 1.1), (0.9, 1.1)),
    ("training", "output_dir", "2024", "2024"),
    ("volumes", "voxel_um", "6.5", 6.5),
    ("volumes", "voxel_um", [5, 5, 5.5], [5, 5, 5.5]),
    ("nuclei", "grid", "4", 4),
]


def parser_of(name, **ids):
    parser = ConfigParser()
    parser.read_config([str(ROOT / "configs" / file) for file in CONFIGS[name]])
    parser.update({"device": "cpu", **ids})
    return parser


@pytest.mark.parametrize(("name", "ids", "message"), WRONG)
def test_a_wrong_value_is_a_line_with_the_id_the_value_and_what_it_may_be(name, ids, message):
    with pytest.raises(InputError) as raised:
        settle(parser_of(name, **ids))
    assert message in str(raised.value)
    assert str(raised.value).startswith(f"{next(iter(ids))} is ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("name", "key", "value", "meant"), READ)
def test_words_and_numerals_become_what_they_mean(name, key, value, meant):
    parser = parser_of(name, **{key: value})
    settle(parser)
    assert parser[key] == meant
    assert type(parser[key]) is type(meant)


def test_every_wrong_value_has_its_line():
    with pytest.raises(InputError) as raised:
        settle(parser_of("training", epochs=0, width="wide", seed=-1))
    assert sorted(line.split()[0] for line in str(raised.value).splitlines()) == ["epochs", "seed", "width"]


@pytest.mark.parametrize("config", [name for name in TABLES if name != "methods"])
def test_every_id_above_the_parts_has_a_kind_that_its_default_fits(config):
    content = json.loads((ROOT / "configs" / config).read_text())
    plain = {name: value for name, value in content.items() if not isinstance(value, (dict, list)) and "#" not in name}
    parts = {"forward", "given", "output_range", "windows_apart", "inferer", "handlers", "files", "run", "multiple_of"}
    assert set(plain) - parts <= set(TABLES[config])
    assert set(TABLES[config]) <= set(content)
    for name, kind in TABLES[config].items():
        if not str(content[name]).startswith(("$", "@")):
            assert fault_of(name, content[name], kind) is None


def test_every_id_that_only_an_overlay_has_is_in_the_table():
    every = set().union(*TABLES.values())
    for path in [*(ROOT / "configs" / "methods").glob("*.json"), *(ROOT / "configs" / "profiles").glob("*.json")]:
        for name, value in json.loads(path.read_text()).items():
            assert name in every or isinstance(value, (dict, list)) or "#" in name, f"{path.name}: {name}"


@pytest.mark.parametrize("config", TABLES)
def test_documents_say_the_same(config):
    text = PAGE if config == "methods" else section(config)
    for name, kind in TABLES[config].items():
        row = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
        if config == "methods" and not row:  # told in the row of the method
            assert f"`{name}`" in text
        else:
            assert row[0].split(" | ")[2] == kind.what, name


def test_of_two_tables_the_one_of_the_overlay_counts():
    for name, word in (("slides", "png"), ("volumes", "ome-zarr")):
        assert kinds_of(parser_of(name).get())["output_format"].fits(word)
    assert not kinds_of(parser_of("slides").get())["output_format"].fits("ome-zarr")


def test_nothing_is_made_before_and_no_traceback_is_shown(tmp_path):
    over = tmp_path / "over.yaml"
    over.write_text(yaml.safe_dump({"learning_rate": "2e-4", "epochs": "many", "resume": False}))
    ids = {"dataset_dir": tmp_path / "none", "output_dir": tmp_path / "run", "mask_discriminator": "maybe"}
    done = run_bundle("training", ["configs/train.json", str(over)], **ids)
    assert done.returncode == 1
    told = done.stderr.split("error: ")[1].splitlines()
    assert [line.split(";")[0] for line in told] == ["epochs is 'many'", "mask_discriminator is 'maybe'"]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
