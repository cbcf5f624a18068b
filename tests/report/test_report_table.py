"""The table of results: what it shows is what the run's files hold."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from bundle.evaluation.tables import METRICS, ROWS, SUMMARY_COLUMNS, summarise, write_csv
from bundle.evaluation.truth import MEASURES
from tests.helpers.pages import Page, words
from tests.helpers.report import rows_of, write_rows, written


def table_of(text: str) -> dict[str, dict[str, list[str]]]:
    """The table of results: by split and row, the cells."""
    table: dict[str, dict[str, list[str]]] = {}
    section = text[text.index('<section id="results">') :]
    for kind, cell in Page(section[: section.index("</section>") + 10]).cells:
        if kind == "th" and (split := re.match(r"(\w+): ", cell)):
            lines = table.setdefault(split[1], {})
        elif kind == "th" and cell in ROWS:
            line = lines.setdefault(cell, [])
        elif kind == "td":
            line.append(cell)
    return table


def with_lpips(folder: Path) -> list[dict[str, str]]:
    """Give every patch an LPIPS and make the summary anew."""
    patches = rows_of(folder / "evaluation" / "patches.csv")
    for number, patch in enumerate(patches):
        patch["lpips"] = str((7 * number) % 11 / 20)
    write_rows(folder / "evaluation" / "patches.csv", patches)
    known = lambda text: None if text == "not computed" else float(text)
    numbers = [{**patch, **{metric: known(patch[metric]) for metric in METRICS}} for patch in patches]
    write_csv(folder / "evaluation" / "summary.csv", SUMMARY_COLUMNS, summarise(numbers))
    return patches


def test_the_table_holds_the_medians_of_the_patches(measured):
    patches = with_lpips(measured)
    table = table_of(written(measured))
    assert list(table) == ["testing", "training"]
    for split, lines in table.items():
        assert list(lines) == list(ROWS)
        for row, cells in lines.items():
            for metric, cell, digits in zip(METRICS, cells, (2, 2, 2, 2, 1), strict=True):
                values = [float(p[metric]) for p in patches if (p["split"], p["row"]) == (split, row)]
                expected = [f"{np.percentile(values, share):.{digits}f}" for share in (50, 25, 75)]
                assert re.findall(r"-?[\d.]+", cell.replace("−", "-")) == expected


def test_the_best_of_each_split_and_measure_is_bold(measured):
    with_lpips(measured)
    text = written(measured)
    for split, lines in table_of(text).items():
        block = text[text.index(f">{split}: ") :].split("</tbody>")[0]
        for place, metric in enumerate(METRICS):
            medians = {row: float(cells[place].split()[0].replace("−", "-")) for row, cells in lines.items()}
            away = {"lpips": abs, "detail": lambda value: abs(np.log(max(value, 1e-9)))}
            best = min(medians.values(), key=away.get(metric, np.negative))
            zero = best == 0 and metric != "lpips"
            best = None if zero or len({*medians.values()}) == 1 else best  # nothing stands out
            for row, median in medians.items():
                cell = re.findall(r"<td[^>]*>(.*?)</td>", block.split(f">{row}</th>")[1].split("</tr>")[0])[place]
                assert cell.startswith("<b>") == (median == best), (split, row, metric)


def test_without_lpips_the_table_and_the_chart_say_so(measured_once):
    text = written(measured_once)
    assert all(cells[4] == "not computed" for lines in table_of(text).values() for cells in lines.values())
    assert "LPIPS not computed: no SqueezeNet weights." in words(text)
    assert text.count('id="box-') > 0
    assert 'id="box-lpips' not in text
    assert text.index(">detail (1 = as real)</th>") < text.index("gradient correlation ↑") < text.index("SSIM ↑")


def test_the_page_of_an_older_run_says_what_was_not_computed(measured):
    new = ("detail", "gradient_correlation", "lacunae", "new_bone")
    for path in (measured / "evaluation").glob("*.csv"):
        rows = rows_of(path)
        write_rows(path, [{key: value for key, value in row.items() if not key.startswith(new)} for row in rows])
    lines = table_of(written(measured))["testing"].values()
    assert all(len(cells) == 5 and cells[2:] == ["not computed"] * 3 for cells in lines)  # nor was LPIPS
    assert not any("not computed" in cells[:2] for cells in lines)


def test_a_split_without_a_scored_patch_says_so(measured):
    for name in ("summary", "patches"):
        path = measured / "evaluation" / f"{name}.csv"
        write_rows(path, [row for row in rows_of(path) if row["split"] != "testing"])
    assert "(1 slide, no patch has enough of its pixels in the mask)" in written(measured)


def test_the_truth_is_shown_as_medians_over_slides_if_it_is_there(measured):
    path = measured / "evaluation" / "truth.csv"
    path.unlink()
    assert "Is the stain right" not in written(measured)
    values = {"one": "0.25", "two": "0.5", "three": "not computed", "four": "0.375"}
    rest = {name: "not computed" for name in MEASURES if name != "lacunae_recall"}
    rows = [
        {"split": "testing", "slide": slide, "row": "network", "lacunae_recall": value, **rest}
        for slide, value in values.items()
    ]
    write_rows(path, rows)
    text = words(written(measured))
    assert re.search(r"lacunae recall ↑\s*testing: slides that training never saw\s*network\s*0\.38", text)
    assert "new bone recall" not in text  # nothing of it was measured
