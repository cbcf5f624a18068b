"""How well a trained bundle knows where not to believe it: tables of its expected error and its verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.atomic import whole_file
from bundle.common.verdicts import DOUBTFUL, LIKE, UNKNOWN, UNLIKE, Verdict
from bundle.data.datalist import SPLITS
from bundle.evaluation.baselines import grey
from bundle.evaluation.error_map import (
    KEPT,
    TRIVIAL,
    WINDOW,
    abstention,
    auroc_of_worst,
    coverage,
    trivial_scores,
    true_error,
    windows_of,
)
from bundle.evaluation.tables import write_csv

TABLE, CURVE = "trust.csv", "abstention.csv"  # beside the other tables
SECTION, PERFECT = "real section", "perfect stain"  # what a stain's error is taken against
AGAINST = (SECTION, PERFECT)
WORDED = ("split", "slide", "specimen", "against", "verdict")
TABLE_COLUMNS = (*WORDED, "distance", "statistics")
SCORES = ("auroc", *(f"auroc_{name}" for name in TRIVIAL))
NUMBERS = ("expected_error", "true_error", *SCORES, "coverage")
CURVE_COLUMNS = ("split", "against", "kept", "windows", "error", "least_error")
COVERAGE_OF = "coverage of "  # a tissue
TOLD = {"grey": "grey value", "inverted_grey": "inverted grey value", "spread_4": "spread in 4 px"}
TOLD |= {"spread_16": "spread in 16 px"}
SHARES = (1.0, 0.9, 0.8)  # of a curve, that a table shows
WORDS = (LIKE, DOUBTFUL, UNLIKE, UNKNOWN)


def scores_of(
    expected: np.ndarray,
    error: np.ndarray,
    mask: np.ndarray,
    bound: float,
    trivial: Mapping[str, np.ndarray],
    tissues: Mapping[str, np.ndarray],
) -> dict[str, float | None]:
    """Hold one slide's expected error against its true one.

    Args:
        expected: (H, W), levels.
        error: (H, W), levels.
        mask: (H, W), bool; nothing outside counts.
        bound: what is expected is multiplied with.
        trivial: other scores, (H, W) each, by name of ``TRIVIAL``.
        tissues: (H, W), bool, by name.

    Returns:
        By name of ``NUMBERS``, and the coverage of each tissue; None for what is not defined.
    """
    true = windows_of(error, mask, WINDOW)
    found = {"auroc": expected, **{f"auroc_{name}": score for name, score in trivial.items()}}
    aurocs = {name: auroc_of_worst(windows_of(score, mask, WINDOW), true) for name, score in found.items()}
    return {
        "expected_error": float(expected[mask].mean()),
        "true_error": float(error[mask].mean()),
        **{name: value if np.isfinite(value) else None for name, value in aurocs.items()},
        "coverage": coverage(error, bound * expected, mask),
        **{COVERAGE_OF + name: coverage(error, bound * expected, mask & each) for name, each in tissues.items()},
    }


class TrustTables:
    """Collects, slide by slide, how well the expected error and the verdicts of a bundle did.

    Args:
        bound: what an expected error is multiplied with for a bound.
        tissues: the labels of each tissue.

    Attributes:
        rows: of ``trust.csv``.
    """

    def __init__(self, bound: float, tissues: Mapping[str, Sequence[int]]) -> None:
        self.bound, self.tissues = bound, tissues
        self.rows: list[dict[str, Any]] = []
        self._windows: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}

    def add(
        self,
        about: Mapping[str, str],
        verdict: Verdict | None,
        expected: np.ndarray,
        stain: np.ndarray,
        references: Mapping[str, np.ndarray],
        source: np.ndarray,
        mask: np.ndarray,
        labels: np.ndarray | None,
    ) -> None:
        """Add a slide.

        Args:
            about: its split, slide and specimen.
            verdict: how like the training it is, if that is known.
            expected: (H, W), levels; NaN where the slide is unlike the training, which is then told without numbers.
            stain: (3, H, W), uint8, as made.
            references: likewise, by name of ``AGAINST``.
            source: (C, H, W), uint8.
            mask: (H, W), bool, not empty.
            labels: (H, W); None where there are none.
        """
        said: dict[str, Any] = {"verdict": UNKNOWN}
        if verdict is not None:
            said = {"verdict": verdict.word, "distance": verdict.ratio, "statistics": verdict.statistics}
        known = bool(np.isfinite(expected).all())
        tissues = {} if labels is None else {name: np.isin(labels, values) for name, values in self.tissues.items()}
        trivial = trivial_scores(grey(source))
        for against, reference in references.items():
            error = true_error(stain, reference)
            numbers: dict[str, float | None] = {"true_error": float(error[mask].mean())}
            if known:
                numbers = scores_of(expected, error, mask, self.bound, trivial, tissues)
                windows = self._windows.setdefault((about["split"], against), [])
                windows.append((windows_of(expected, mask, WINDOW), windows_of(error, mask, WINDOW)))
            self.rows.append({**dict.fromkeys(self.columns), **about, "against": against, **said, **numbers})

    def keep(self, path: Path) -> None:
        """Write the windows of the slides that were added; their rows are plain JSON."""
        arrays = {
            f"{place} {split} {against}": np.stack(parts)
            for (split, against), windows in self._windows.items()
            for place, parts in enumerate(windows)
        }
        with whole_file(path) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    def take(self, rows: Sequence[dict[str, Any]], path: Path) -> None:
        """Add the slides of another, by its rows and what it kept."""
        self.rows += rows
        with np.load(path) as arrays:
            for name in arrays.files:
                _, split, against = name.split(" ", 2)
                expected, error = arrays[name]
                self._windows.setdefault((split, against), []).append((expected, error))

    @property
    def columns(self) -> tuple[str, ...]:
        """Of ``trust.csv``."""
        return (*TABLE_COLUMNS, *NUMBERS, *(COVERAGE_OF + name for name in self.tissues))

    @property
    def curves(self) -> list[dict[str, Any]]:
        """Rows of ``abstention.csv``: over all windows of a split, the mean error of the share that is kept."""
        rows = []
        for (split, against), windows in self._windows.items():
            expected, error = (np.concatenate(parts) for parts in zip(*windows, strict=True))
            for share, found, least in zip(KEPT, abstention(expected, error), abstention(error, error), strict=True):
                if np.isfinite(found):
                    row = {"split": split, "against": against, "kept": share, "windows": len(error)}
                    rows.append({**row, "error": found, "least_error": least})
        return rows

    def write(self, folder: Path) -> None:
        """Write both tables."""
        write_csv(folder / TABLE, self.columns, self.rows)
        write_csv(folder / CURVE, CURVE_COLUMNS, self.curves)


def summarise(rows: Sequence[Mapping[str, Any]], curves: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the slides of a split have in common.

    Args:
        rows: of ``trust.csv``, numbers as numbers, None where there is none.
        curves: of ``abstention.csv``, likewise.

    Returns:
        For each split and what it is held against: ``split``, ``against``; ``slides`` by verdict; ``auroc``, its
        median; ``trivial`` and ``auroc_trivial``, the score without a network with the best median, and that;
        ``coverage`` and ``tissues``, means; ``kept``, mean error by share kept. None where no slide has a value.
    """
    found = []
    for split in SPLITS:
        for against in AGAINST:
            here = lambda lines: [line for line in lines if (line["split"], line["against"]) == (split, against)]  # noqa: B023
            if not (chosen := here(rows)):
                continue
            median = {name: _over(chosen, name, np.median) for name in SCORES}
            best = max(SCORES[1:], key=lambda name: -1.0 if (value := median[name]) is None else value)  # noqa: B023
            words = [line["verdict"] for line in chosen]
            tissues = [name for name in chosen[0] if name.startswith(COVERAGE_OF)]
            found.append(
                {
                    "split": split,
                    "against": against,
                    "slides": {word: words.count(word) for word in WORDS if word in words},
                    "auroc": median["auroc"],
                    "trivial": TOLD[best.removeprefix("auroc_")],
                    "auroc_trivial": median[best],
                    "coverage": _over(chosen, "coverage", np.mean),
                    "tissues": {name.removeprefix(COVERAGE_OF): _over(chosen, name, np.mean) for name in tissues},
                    "kept": {line["kept"]: line["error"] for line in here(curves)},
                }
            )
    return found


def _over(lines: Iterable[Mapping[str, Any]], name: str, mean: Callable[..., Any]) -> float | None:
    values = [line[name] for line in lines if line[name] is not None]
    return float(mean(values)) if values else None


HEAD = (
    "split",
    "error against",
    "slides",
    "AUROC of the expected error ↑",
    "best without a network",
    "within the bound (%)",
    *("mean error" if share == 1 else f"{100 * share:.0f} % kept" for share in SHARES),
)


def cells_of(line: Mapping[str, Any]) -> list[str]:
    """A line of :func:`summarise` in the columns of ``HEAD``; a dash: no slide has a value."""
    show: Callable[[float | None, str], str] = lambda value, text: "–" if value is None else text.format(value)  # noqa: E731
    return [
        line["split"],
        line["against"],
        ", ".join(f"{number} {word}" for word, number in line["slides"].items()),
        show(line["auroc"], "{:.2f}"),
        show(line["auroc_trivial"], f"{{:.2f}} ({line['trivial']})"),
        percent(line["coverage"]),
        *(show(line["kept"].get(share), "{:.1f}") for share in SHARES),
    ]


def percent(share: float | None) -> str:
    """A share in per cent, without the sign; a dash for none."""
    return "–" if share is None else f"{100 * share:.1f}"


def markdown(summary: Sequence[Mapping[str, Any]], level: float) -> str:
    """What :func:`summarise` gives, as a table."""
    lines = [
        f"Where not to believe it. AUROC: of finding the worst tenth of a slide's windows of {WINDOW} px, median over "
        f"the slides. Within the bound: share of the pixels, mean over the slides; {100 * level:.0f} % wanted. Mean "
        "error: of all windows, and of those kept where the ones with most expected error are left out, levels of "
        "255. Slides unlike the training data have no expected error and do not count.",
        "",
        "| " + " | ".join(HEAD) + " |",
        "|---" * len(HEAD) + "|",
        *("| " + " | ".join(cells_of(line)) + " |" for line in summary),
    ]
    return "\n".join(lines) + "\n"
