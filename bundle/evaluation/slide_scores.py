"""The slides of a test set as tasks: each stained, scored, and its panels kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bundle.common.atomic import whole_file
from bundle.common.region import Region
from bundle.common.work.tasks import Marks, Recipe, Task
from bundle.data.datalist import SPLITS, Datalist, Pair
from bundle.data.listed_again import again, plain
from bundle.data.patches import load_pair
from bundle.evaluation import baselines
from bundle.evaluation.panels import difference, draw_corners, in_levels, patches_to_keep, save_slide
from bundle.evaluation.scoring import score_patches, score_slides
from bundle.evaluation.similarity import Lpips, find_lpips, patch_corners
from bundle.evaluation.tables import ROWS
from bundle.evaluation.trust import PERFECT, SECTION, TrustTables
from bundle.evaluation.truth import TissueColours, measure, seam_index
from bundle.images.false_colour import as_picture
from bundle.images.slides import read_labels, read_slide, to_8bit
from bundle.networks.cells import at_pixels
from bundle.networks.halo import HaloInferer
from bundle.staining.model import TrainedModel, load_model, on_background

COLOURS, WINDOWS = "colours.npz", "windows.npz"  # in the folder of the marks; in that of a slide


@dataclass(frozen=True)
class Asked:
    """How slides are scored.

    Attributes:
        model_bundle: a trained bundle.
        device: where to run the network and LPIPS.
        patch: side of a scored patch, px.
        stride: distance between patches, px.
        overlap: smallest share of a patch in the mask.
        splits: which of training, validation and testing to measure.
        lpips_weights: SqueezeNet weights; None looks in the torch hub cache.
        baselines: also score what needs no network, and judge the section itself by the measures of truth.
        windows: ``window`` and ``step`` of the model, where they are not the trained bundle's.
    """

    model_bundle: str
    device: str
    patch: int
    stride: int
    overlap: float
    splits: Sequence[str]
    lpips_weights: str | None
    baselines: bool
    windows: Mapping[str, int]


@dataclass(frozen=True)
class SlideScores:
    """The slides of one evaluation; what each is measured with is loaded when it is needed first.

    Attributes:
        data: the checked dataset.
        asked: how they are scored.
        folder: the run's ``evaluation``; panels go to ``slides`` in it.
        work: folder of the marks, with :data:`COLOURS` in it.
        report: called in this process when a slide is done.
    """

    data: Datalist
    asked: Asked
    folder: Path
    work: Path
    report: Callable[[], Any] = lambda: None

    @property
    def marks(self) -> Marks:
        """Which slides are done."""
        return Marks(self.work / "steps")

    @property
    def names(self) -> list[str]:
        """Of the tasks, in the order of the slides."""
        return [f"slide-{number:04d}" for number in range(len(slides_to_measure(self.data, self.asked.splits)))]

    def tasks(self) -> list[Task]:
        """One a slide."""
        kept = {split: patches_to_keep(len(getattr(self.data, split))) for split in SPLITS}
        return [
            Task(name, partial(self.score, number, split, pair, kept[split].pop(0)), say=self._say, on_gpu=True)
            for number, (name, (split, pair)) in enumerate(
                zip(self.names, slides_to_measure(self.data, self.asked.splits), strict=True)
            )
        ]

    def _say(self, told: Mapping[str, Any]) -> None:
        self.report()

    def recipe(self) -> Recipe:
        """By which a worker makes the same."""
        places = {name: str(getattr(self, name).absolute()) for name in ("folder", "work")}
        files = {name: getattr(self.asked, name) for name in ("model_bundle", "lpips_weights")}
        asked = {**asdict(self.asked), **{name: file and str(Path(file).absolute()) for name, file in files.items()}}
        return Recipe(f"{__name__}:made_again", {"data": plain(self.data), "asked": asked, **places})

    @cached_property
    def model(self) -> TrainedModel:
        """Stains a slide."""
        return load_model(self.asked.model_bundle, self.asked.device, **self.asked.windows)

    @cached_property
    def reverse(self) -> TrainedModel | None:
        """Takes the stain off a patch."""
        return load_reverse(self.asked.model_bundle, self.asked.device)

    @cached_property
    def lpips(self) -> Lpips | None:
        """None if its weights are not there."""
        return find_lpips(self.asked.lpips_weights, self.asked.device)

    @cached_property
    def learnt(self) -> tuple[baselines.ColourTable, TissueColours]:
        """Colours of the training pairs, as :meth:`learn` left them."""
        with np.load(self.work / COLOURS) as kept:
            return baselines.ColourTable.kept(kept), TissueColours.kept(kept, self.data.tissues)

    def learn(self) -> None:
        """Learn the colours of the training pairs, once for all workers."""
        if (self.work / COLOURS).exists():
            return
        table = baselines.ColourTable(in_8bit(self.data, load_pair(pair)) for pair in self.data.training)
        colours = TissueColours(labelled(self.data), self.data.tissues)
        with whole_file(self.work / COLOURS) as path, path.open("wb") as file:
            np.savez(file, allow_pickle=False, **table.arrays, **colours.arrays)

    def score(self, number: int, split: str, pair: Pair, keep: int) -> dict[str, Any]:
        """Stain and score a slide.

        Args:
            number: of the slide.
            split: that it stands in.
            pair: it, and its section.
            keep: how many patches.

        Returns:
            Its rows by table; what else is known of its trust lies in :data:`WINDOWS`.
        """
        data, model, asked = self.data, self.model, self.asked
        colour_table, colours = self.learnt
        images = load_pair(pair)
        source, target, mask = in_8bit(data, images)
        stained, cells, verdict = model.judged(images["source"])
        name = f"{split}_{number:03d}_{pair.source.name.split('.')[0]}"
        made = {
            "network": stained,
            "colour table": colour_table(source),
            "mean colour": colour_table.mean_colour(source),
            "inverted source": baselines.inverted(source),
            "raw source": baselines.raw(source),
        }
        shown = {row: on_background(image, mask, data.background_rgb) for row, image in made.items()}
        real = on_background(target, mask, data.background_rgb)
        corners = [
            (top, left)
            for top, left in patch_corners(mask.shape[0], mask.shape[1], asked.patch, asked.stride)
            if mask[top : top + asked.patch, left : left + asked.patch].mean() >= asked.overlap
        ]
        about = {"split": split, "slide": name, "specimen": pair.specimen}
        group = {"group": pair.group or ""}
        scored = {row: shown[row] for row in (ROWS if asked.baselines else ROWS[:1])}
        patches = score_patches(about, scored, real, mask, corners, asked.patch, self.lpips)
        scores = score_slides(scored, real, mask, self.lpips)
        slides = [{**about, **group, "row": row, **values} for row, values in scores.items()]
        labels = None if pair.labels is None else read_labels(pair.labels)
        references = {SECTION: target}
        if pair.perfect is not None:
            references[PERFECT] = to_8bit(read_slide(pair.perfect).pixels, data.target.low, data.target.high)
        judged = shown | {row: on_background(each, mask, data.background_rgb) for row, each in references.items()}
        truth = []
        for row, image in judged.items() if asked.baselines else [("network", judged["network"])]:
            values = measure(image, real, mask, labels, colours, data.pixel_um)
            blended = not isinstance(model.inferer, HaloInferer)
            if row == "network" and blended and model.window and model.step:
                values["seam_index"] = seam_index(stained, model.window, model.step)
            truth.append({"split": split, "slide": name, "row": row, **values})
        panels = {
            "source": as_picture(source),
            "generated": shown["network"],
            "real": real,
            "mask": np.uint8(255) * mask[None],
        }
        panels |= {"difference": difference(shown["network"], real)}
        panels |= {"unmasked": stained, "colour_table": shown["colour table"]}
        if PERFECT in judged:
            panels["perfect"] = judged[PERFECT]
        trust = TrustTables(model.trust.calibration.bound, data.tissues) if model.trust.calibration else None
        if trust and cells is not None:
            expected = at_pixels(torch.from_numpy(cells), *mask.shape)[0].numpy()
            trust.add(about, verdict, expected, stained, references, source, mask, labels)
            if np.isfinite(expected).all():
                panels["expected_error"] = in_levels(expected)
        if trust:
            trust.keep(self.marks.folder / self.names[number] / WINDOWS)
        drawn = draw_corners(corners, keep)
        kept = {
            corner: cut_patch(Region(*corner, asked.patch, asked.patch), panels, images["target"], target, self.reverse)
            for corner in drawn
        }
        save_slide(self.folder / "slides" / name, panels, kept, data.pixel_um)
        return {"patches": patches, "slides": slides, "truth": truth, "trust": trust.rows if trust else []}

    def result(self) -> tuple[dict[str, list[dict[str, Any]]], TrustTables | None]:
        """Rows of all slides by table, and what is known of their trust; all are done."""
        calibration = self.model.trust.calibration
        trust = TrustTables(calibration.bound, self.data.tissues) if calibration else None
        rows: dict[str, list[dict[str, Any]]] = {"patches": [], "slides": [], "truth": []}
        for name in self.names:
            told = self.marks.remembered(name)
            for table, lines in rows.items():
                lines += told[table]
            if trust:
                trust.take(told["trust"], self.marks.folder / name / WINDOWS)
        return rows, trust


def made_again(data: Mapping[str, Any], asked: Mapping[str, Any], folder: str, work: str) -> SlideScores:
    """What :meth:`SlideScores.recipe` describes."""
    own = "cuda" if str(asked["device"]).startswith("cuda") else asked["device"]  # a worker has one GPU
    return SlideScores(again(data), Asked(**{**asked, "device": own}), Path(folder), Path(work))


def slides_to_measure(data: Datalist, splits: Sequence[str]) -> list[tuple[str, Pair]]:
    """Split and pair of every slide, in order."""
    return [(split, pair) for split in SPLITS if split in splits for pair in getattr(data, split)]


def in_8bit(data: Datalist, images: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source and target as uint8 by their declared ranges, the mask (H, W)."""
    source = to_8bit(images["source"], data.source.low, data.source.high)
    return source, to_8bit(images["target"], data.target.low, data.target.high), images["mask"][0]


def labelled(data: Datalist) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Stain, labels and mask of the training pairs that have labels."""
    for pair in data.training:
        if pair.labels is not None:
            _, target, mask = in_8bit(data, load_pair(pair))
            yield target, read_labels(pair.labels), mask


def load_reverse(model_bundle: str | Path, device: str | torch.device) -> TrainedModel | None:
    """The generator that takes the stain off, to 8 bits in one pass; None if the bundle has none."""
    if not (Path(model_bundle) / "reverse.pt").is_file():
        return None
    return load_model(model_bundle, device, direction="reverse", window=None, output_range=[0.0, 255.0])


def cut_patch(
    place: Region,
    panels: Mapping[str, np.ndarray],
    target: np.ndarray,
    shown_target: np.ndarray,
    reverse: TrainedModel | None,
) -> dict[str, np.ndarray]:
    """One patch in both directions, as it is without a background (Fig. 4a).

    Args:
        place: of the patch.
        panels: of the slide.
        target: (3, H, W) in the units of the dataset.
        shown_target: the same, uint8.
        reverse: None leaves the generated source out.

    Returns:
        By name, (1 or 3, patch, patch), uint8.
    """
    patch = {
        "source": place.cut(panels["source"]),
        "generated": place.cut(panels["unmasked"]),
        "mask": place.cut(panels["mask"]),
        "real": place.cut(shown_target),
    }
    return patch if reverse is None else {**patch, "generated_source": as_picture(reverse(place.cut(target)))}
