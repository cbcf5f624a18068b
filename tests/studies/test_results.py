"""What a study's cells say together, on results made up so that the answers are known."""

from __future__ import annotations

import pytest

from bundle.studies.results import COLOUR_TABLE, Results, curves, half_gain, summary
from bundle.studies.tables import best_of, cells_of, metrics_of


def planted(
    scores: dict[str, dict[tuple[int, int], float]], told: dict[str, dict], datalists: dict[str, str]
) -> Results:
    """Results of a study; by image, by fold and seed, the SSIM that every patch of the cell has."""
    results = Results({"variants": {name: {"tables": [], "curves": [told[name]]} for name in told}, "cells": {}})
    for image, cells in scores.items():
        for (fold, seed), value in cells.items():
            variant = image if image in told else next(name for name in told if datalists[name] == datalists[image])
            name = f"{variant}-{fold}-{seed}"
            done = {"variant": variant, "datalist": datalists[image], "fold": fold, "seed": seed, "training": 1.0}
            results.done[name] = done
            results.scores.setdefault(("testing", image), {})[name] = {"ssim": [value, value]}
    return results


def test_a_curve_compares_the_same_folds_and_seeds():
    point = lambda x: {"axis": "px", "curve": "one way", "x": x}
    told = {"still": point(0), "moved": point(10)}
    datalists = {"still": "datalist.json", "moved": "datalist_10px.json"}
    datalists |= {"colour table": "datalist.json", "colour table, 10px": "datalist_10px.json"}
    scores = {
        "still": {(0, 0): 0.8, (1, 0): 0.2, (0, 1): 0.1},  # the others have no partner at 10 px
        "moved": {(0, 0): 0.5},
        "colour table": {(0, 0): 0.3},
        "colour table, 10px": {(0, 0): 0.25},
    }
    found = curves(planted(scores, told, datalists), "px", "ssim")
    assert found == {"one way": {0: 0.8, 10: 0.5}, COLOUR_TABLE: {0: 0.3, 10: 0.25}}


def test_half_the_gain_is_found_between_two_points():
    table = {0: 0.2, 5: 0.2, 10: 0.2}
    assert half_gain({0: 0.6, 5: 0.5, 10: 0.3}, table, "ssim") == (pytest.approx(0.4), "8")  # 0.2 left at 7.5
    assert half_gain({0: 0.1, 5: 0.2, 10: 0.35}, {0: 0.5, 5: 0.5, 10: 0.5}, "lpips") == (pytest.approx(0.4), "8")
    assert half_gain({0: 0.6, 5: 0.6, 10: 0.5}, table, "ssim")[1] == "more than 10"
    assert half_gain({0: 0.1, 5: 0.0}, table, "ssim")[1] == "no gain to lose"


def test_tables_hold_their_variants_and_the_rows_to_beat(tmp_path):
    told = {name: {"axis": "px", "curve": "a", "x": 0} for name in ("still", "moved")}
    datalists = {"still": "datalist.json", "moved": "datalist_10px.json"}
    results = planted({name: {(0, 0): 0.5} for name in told}, told, datalists)
    results.plan["variants"]["still"]["tables"] = ["first", "second"]
    results.plan["variants"]["moved"]["tables"] = ["second"]
    rows = ["colour table", "mean colour", "inverted source", "raw source"]
    results.plan["variants"]["else"] = {"tables": [], "curves": []}
    assert results.tables == {"first": ["still", *rows], "second": ["still", "moved", *rows, "colour table, 10px"]}


def test_measures_that_mush_loses_come_first_and_what_was_not_computed_last():
    told = {name: {"axis": "px", "curve": "a", "x": 0} for name in ("sharp", "noisy")}
    results = planted({name: {(0, 0): 0.5} for name in told}, told, dict.fromkeys(told, "datalist.json"))
    for name, detail, recall in (("sharp", 0.8, [0.3, 0.5]), ("noisy", 1.4, [])):
        cell = results.scores["testing", name][f"{name}-0-0"]
        cell |= {"detail": [detail], "psnr": [12.0], **({"new_bone_recall": recall} if recall else {})}
    lines = summary(results, ["sharp", "noisy"])
    metrics = metrics_of(lines)
    assert metrics == ["detail", "new_bone_recall", "ssim", "psnr", "lpips", "gradient_correlation"]
    assert best_of(lines, "testing", "detail") == "0.80"  # 1.4 is farther from 1, as a ratio
    assert best_of(lines, "testing", "ssim") is None  # a tie of all
    cells = [cells_of(lines, line, metrics, ("*", "*"))[1:] for line in lines]
    assert cells == [
        ["*0.80*", "*0.40*", "0.50", "12.0", "not computed", "not computed"],
        ["1.40", "–", "0.50", "12.0", "not computed", "not computed"],
    ]
