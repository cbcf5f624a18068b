"""Pages are templates that escape what they are given: a script in any string from data is told, not run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from bundle.common.charts import as_svg, box_plot, line_chart, point_chart
from bundle.common.html import ROOMS, TEMPLATES, Chart, bold, code, exact, fill, scale_bar, small
from bundle.images.stained.spec import StainSpec
from bundle.images.stained.stored import create, file_name, finish, open_stain, write_slab
from bundle.images.volumes.geometry import Geometry
from bundle.preparation.pairs.page import dataset_page, pair_section, roi_section, rois_page
from bundle.preparation.pairs.prepared import Prepared
from bundle.preparation.pairs.registered import PairImages
from bundle.preparation.pairs.rois import Rois
from bundle.preparation.registration.confidence import Verdict
from bundle.preparation.registration.finish import Finished
from bundle.preparation.registration.levels import Level
from bundle.preparation.registration.page import write_page
from bundle.preparation.registration.pair import Grid, Pair
from bundle.preparation.registration.plane import Registration
from bundle.preparation.registration.pose import Pose
from bundle.preparation.registration.warp import Blocks
from bundle.report.run import write
from bundle.staining.page import write_volume_report
from bundle.studies import page as study_page
from bundle.studies.results import Results
from bundle.training.publish import CARRIED, copy_code
from tests.conftest import ROOT
from tests.helpers.pages import Page
from tests.test_rooms import allowed

NASTY = '<script>alert("1")</script>[1] ± & </style>'
PARTS = TEMPLATES.get_template("common/templates/parts.html").module
NUMBERS = np.random.default_rng(0)


def check(text: str, times: int, scripts: int = 0) -> None:
    """The planted string is told so often at least, and makes no element or attribute of its own."""
    page = Page(text)
    assert len(page.all("script")) == scripts
    assert all(re.fullmatch(r"[\w:-]+", name) for _, attributes in page.elements for name in attributes)
    plain = re.sub(r"</?small>", "", text)  # brackets may be in small print
    assert plain.count(str(escape(NASTY))) >= times


def test_parts_escape_what_is_not_markup():
    picture = exact(np.zeros((1, 4, 5), np.uint8), NASTY, NASTY, scale_bar(5, 1.0)._replace(label=NASTY))
    for text, times in (
        (PARTS.missing(NASTY), 1),
        (PARTS.caveat(NASTY), 1),
        (PARTS.definitions([(NASTY, NASTY), ("code", code(NASTY))]), 3),
        (PARTS.table(NASTY, [NASTY, "n"], [(NASTY, [[NASTY, bold(NASTY)], [small(NASTY), NASTY]])], 1), 7),
        (PARTS.pictures(NASTY, [picture]), 4),
        (PARTS.charts([Chart(None, NASTY), Chart(Markup("<svg></svg>"), NASTY)]), 2),
    ):
        check(str(text), times)


def test_small_print_is_what_stands_in_brackets_or_is_asked_for():
    assert small("1.5 [1, 2]") == Markup("1.5 <small>[1, 2]</small>")
    assert small(bold("1") + " [1, 2]") == Markup("<b>1</b> <small>[1, 2]</small>")
    assert small("1 ± 2", r"± .*") == Markup("1 <small>± 2</small>")


def test_a_table_whose_line_lacks_a_cell_is_refused():
    with pytest.raises(ValueError, match="zip"):
        PARTS.table("", ["a", "b"], [("", [["1"]])], 1)


def test_a_chart_may_be_called_and_labelled_anything():
    svg = as_svg(Figure(), NASTY, NASTY)
    (element,) = Page(svg).all("svg")
    assert element["aria-label"] == NASTY
    svg = line_chart({NASTY: np.array([[1.0, 2.0], [1.0, 2.0]])}, NASTY, 'a "b')
    assert Page(svg).all("script") == []
    ids = {each["id"] for _, each in Page(svg).elements if "id" in each}
    assert ids
    assert set(re.findall(r'(?:url\(|href=")#([^")]*)', svg)) <= ids
    assert all(re.fullmatch(r"[\w.-]+", name) for name in ids)


@pytest.mark.parametrize("label", ["a $\\frac{$ b", "$x$", "_first"])
def test_a_legend_tells_every_name_as_it_is(label):
    curve = np.array([[1.0, 2.0], [1.0, 2.0]])
    for svg in (
        line_chart({label: curve, "other": curve}, "heading", "name"),
        box_plot({"training": {label: curve[0], "other": curve[0]}}, "heading", "name"),
        point_chart({label: {1.0: 2.0}, "other": {1.0: 2.0}}, "axis", "heading", "name"),
    ):
        assert re.search(rf">\u200b?{re.escape(label)}</text>", svg)


def test_what_a_template_lacks_is_an_error_and_not_a_gap():
    with pytest.raises(UndefinedError, match="title"):
        fill("common/templates/base.html", {})


def test_every_template_is_read_and_uses_its_own_room_and_those_to_the_left():
    names = [path.relative_to(ROOMS).as_posix() for path in sorted(ROOMS.rglob("templates/*.html"))]
    assert len(names) > 15
    for name in names:
        TEMPLATES.get_template(name)
        source = (ROOMS / name).read_text(encoding="utf-8")
        for other in re.findall(r'(?:extends|import|include|from) "(\w+)/', source):
            room = name.partition("/")[0]
            assert other == room or allowed(room, other), (name, other)
        assert "| safe" not in source


def test_templates_go_where_their_rooms_go(tmp_path):
    """With pip, which takes what pyproject.toml names of packages, and with a trained bundle."""
    assert '"*" = ["templates/*"]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    every = {path for path in ROOMS.rglob("*") if path.suffix in (".html", ".css", ".js")}
    assert all((path.parents[1] / "__init__.py").is_file() and path.parent.name == "templates" for path in every)
    copy_code(tmp_path, CARRIED)
    carried = {path.relative_to(ROOMS) for path in every if path.relative_to(ROOMS).parts[0] in CARRIED}
    assert Path("staining/templates/volume.html") in carried
    assert all((tmp_path / "bundle" / path).is_file() for path in carried)


def test_a_run(tmp_path):
    run = {"command": ["python", NASTY], "machine": NASTY, "dataset_dir": f"/data/{NASTY}", "code": NASTY}
    run |= {"versions": {NASTY: NASTY}, "description": NASTY, "arithmetic": {"chosen": NASTY, "seconds": {NASTY: 1}}}
    (tmp_path / "provenance.json").write_text(json.dumps({**run, "resumed": [run], "config_sha256": NASTY}))
    (tmp_path / "evaluation").mkdir()
    measured = {"source": NASTY, "target": NASTY, "caveat": NASTY, "ids": {}, "machine": NASTY * 2, "code": NASTY * 2}
    measured["ids"] = {"eval_patch": 64, "eval_stride": 32, "eval_overlap": 0.5, "model_bundle": NASTY}
    (tmp_path / "evaluation/provenance.json").write_text(json.dumps(measured))
    configs = tmp_path / "bundle/configs"
    configs.mkdir(parents=True)
    trained_on = {"method": NASTY, "checkpoint": NASTY, "images": NASTY}
    (configs / "metadata.json").write_text(json.dumps({"trained_on": trained_on}))
    head = "split,row,slide,specimen,group,patches,top,left\n"
    quoted = '"' + NASTY.replace('"', '""') + '"'
    for name in ("slides", "summary", "patches"):
        line = f"testing,network,{quoted},{quoted},{quoted},{quoted},0,0\n"
        (tmp_path / f"evaluation/{name}.csv").write_text(head + line)
    (tmp_path / "evaluation/truth.csv").write_text(f"split,row,lacunae_recall\ntesting,{quoted},0.5\n")
    check(write(tmp_path).read_text(encoding="utf-8"), 25)


def test_an_unpaired_run(tmp_path):
    (tmp_path / "evaluation").mkdir()
    row = {"split": "testing", "number": 2, "mean": 0.5, "sd": 0.1}
    index = {f"index_{each}{end}": 1.0 for each in ("real", "virtual", "difference") for end in ("", "_low", "_high")}
    found = {
        "notes": [NASTY],
        "source": NASTY,
        "target": NASTY,
        "dab_threshold": 0.2,
        "reconstruction": [
            {**row, "side": "source", "metric": metric} for metric in ("ssim", "ms_ssim", "psnr", "mae")
        ],
        "hash": [{**row, "split": NASTY, "metric": metric} for metric in ("hash", "hash_correlation")],
        "labelling": [
            {
                "split": NASTY,
                "regions": NASTY,
                "specimens": NASTY,
                "real_nuclei": NASTY,
                "virtual_nuclei": NASTY,
                **index,
            }
        ],
        "channels": [{"split": NASTY, "side": "source", "channel": NASTY, "hematoxylin": 0.5, "DAB": None}],
    }
    (tmp_path / "evaluation/summary.json").write_text(json.dumps(found))
    check(write(tmp_path).read_text(encoding="utf-8"), 11)


def test_a_study(tmp_path, monkeypatch):
    variants = {
        name: {"tables": [NASTY], "curves": [{"axis": NASTY, "curve": NASTY, "x": x}]}
        for x, name in enumerate((NASTY, "other"))
    }
    cells = {NASTY: {"overlays": [NASTY], "ids": {"id": NASTY}}, "cell": {"overlays": [], "ids": {}}}
    done = {
        cell: {
            "variant": variant,
            "datalist": f"{variant}.json".replace("/", ""),
            "fold": 0,
            "seed": 0,
            "training": 1.0,
        }
        for cell, variant in zip(cells, variants, strict=True)
    }
    scores = {("testing", name): {cell: {"ssim": [0.5, 0.6]}} for name, cell in zip(variants, cells, strict=True)}
    for name, cell in zip(variants, cells, strict=True):
        below = f"colour table, {name}".replace("/", "")
        scores["testing", below] = {cell: {"ssim": [0.1, 0.2]}}
    truths = {("testing", NASTY): {"lacunae_recall": [0.5]}}
    plan = {"dataset_dir": NASTY, "variants": variants, "cells": cells}
    results = Results(plan, done, scores, {}, truths, NASTY)
    monkeypatch.setattr(study_page, "read_results", lambda folder: results)
    check(study_page.write_study(tmp_path).read_text(encoding="utf-8"), 9)


def test_a_stained_volume(tmp_path):
    shape = (4, 5, 6)
    spec = StainSpec(shape, 3, Geometry((10.0, 5.0, 5.0), (0.0, 0.0, 0.0), np.eye(3)), {})
    path = tmp_path / file_name("tif")
    create(path, "tif", spec)
    write_slab(path, "tif", spec, 0, np.zeros((*shape, 3), np.uint8))
    finish(path, "tif", spec)
    told = "stain", "source", "input", "bundle_root", "code"
    made = "scan", "model", "axes", "fusion", "window", "step", "speed", "arithmetic", "normalisation"
    record = {
        **dict.fromkeys(told, NASTY),
        "fingerprint": {**dict.fromkeys(made, NASTY), "hull": True},
        "trained_on": {"method": NASTY, "pairs": NASTY},
        "spent": {NASTY: 1.0},
        "stripes": {NASTY: {}},
    }
    (tmp_path / "volume.json").write_text(json.dumps(record))
    check(write_volume_report(tmp_path, open_stain(path)).read_text(encoding="utf-8"), 18, scripts=1)


def pair_images(size: int = 24) -> PairImages:
    source = NUMBERS.integers(0, 60000, (size, size)).astype(np.uint16)
    target = NUMBERS.integers(0, 255, (3, size, size)).astype(np.uint8)
    return PairImages(source, target, np.ones((size, size), bool), np.ones((size, size), bool))


def test_regions_to_approve():
    images = pair_images()
    labels = np.zeros((24, 24), np.uint8)
    labels[:4], labels[10:14] = 1, 2
    rois = dict.fromkeys(("source", "target"), Rois(labels, NASTY))
    section = roi_section(NASTY, images, rois, 5.0)
    check(rois_page(NASTY, [section], [NASTY]), 9)


def test_a_prepared_dataset():
    images = pair_images()
    facts = {
        "registration": {NASTY: NASTY},
        "rois": {"source": NASTY, NASTY: "proposed"},
        "source": {"bone": 1.0, "background": 0.0},
        "stain": {"gains": [1.0], "f_min": 0.0, "f_max": 1.0},
        "measures": {f"bone_{channel}": 1.0 for channel in ("red", "green", "blue")},
        "bone_rg_bg_before": (1.0, 1.0),
        "bone_rg_bg_after": (1.0, 1.0),
        "mask_share": 0.5,
    } | dict.fromkeys(("source_clipped", "stain_clipped", "bone_clipped"), 0.5)
    row = dict.fromkeys(("specimen", "group", "split", "fold"), NASTY)
    made = Prepared(images.source, images.target, images.field, facts)
    record = {"c": 1, "c_prime": 1, "margin_px": 1, "left_out": {NASTY: NASTY}, "pairs": {NASTY: facts}}
    section = pair_section(NASTY, images, made, row, 5.0)
    text = dataset_page(NASTY, record, {NASTY: row}, {NASTY: section})
    check(text, 20)
    assert "<strong>(more than 1 %)</strong>" in text


def test_a_registration():
    side = 24
    pose = Pose(np.eye(3)[:, [1, 2, 0]], np.full(3, 11.5), np.eye(2))
    volume = NUMBERS.integers(0, 255, (side, side, side)).astype(np.uint8)
    grid = Grid(pose, -12, -12, (side, side))
    pair = Pair(grid, volume[:1], volume[:3], np.ones((side, side), bool))
    blocks = Blocks(np.array([6, 18]), np.array([6, 18]), NUMBERS.random((5, 5, 2, 2)))
    empty = np.zeros((0, 2), np.float32)
    slab = Level(1, volume.astype(np.float32), empty, empty[:, 0].astype(np.uint8), (side, side))
    finished = Finished(pose, 1.0, np.zeros((2, side, side)), slab, pose, blocks)
    found = Registration(finished, Verdict(0.5, 0.5, 0.5, 0.0, 4, (NASTY,)), ())
    facts = {
        "voxel_um": 5.0,
        "scale": [1.0, 1.0],
        "pair": {"rows_columns": [NASTY, side], "common": 1.0},
        "local_shifts_px": {"median": 0.0, "largest": 0.0},
        "shear": 0.0,
        "mutual_information": 1.0,
    }
    check(write_page(NASTY, volume, pair, facts, found, [(NASTY, 1.0, 1.0, 3)]), 5)
