"""The images of a test set as tasks: each translated and back, scored, and its pictures kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from bundle.common.region import spread
from bundle.common.work.tasks import Marks, Recipe, Task
from bundle.data.datalist import SIDES, SPLITS, Datalist, Image, Pair
from bundle.data.listed_again import again, plain
from bundle.evaluation.panels import difference
from bundle.evaluation.unpaired import consecutive
from bundle.evaluation.unpaired.labelling_index import outlined
from bundle.evaluation.unpaired.perceptual_hash import PerceptualHash, find_hash
from bundle.evaluation.unpaired.reconstruction import Cycle, load_cycle, measures
from bundle.evaluation.unpaired.summary import Row, Tables
from bundle.images.false_colour import as_picture
from bundle.images.slides import read_mask, read_slide, to_8bit, write_slide

IMAGES = "images"


@dataclass(frozen=True)
class Settings:
    """What an evaluation is asked; the ids of ``evaluate_unpaired.json``.

    Attributes:
        splits: which of training, validation and testing to measure.
        patch: side of the tiles that are hashed, about, px.
        pictures: images of each split and side whose pictures are kept, spread over them.
        labelling_index: count nuclei.
        nucleus_um: their diameter in µm.
        dab_threshold: mean optical density of DAB above which a nucleus is positive.
        region_um: side of the regions whose indices are compared, about, µm.
        seed: of the bootstrap over specimens or regions.
    """

    splits: Sequence[str]
    patch: int
    pictures: int
    labelling_index: bool
    nucleus_um: float
    dab_threshold: float
    region_um: float
    seed: int


@dataclass(frozen=True)
class Model:
    """What images are translated with.

    Attributes:
        bundle: a trained one.
        device: where to run the networks.
        windows: ``window`` and ``step``, where they are not the trained bundle's.
        hash_weights: ResNet-18 weights; None looks in the torch hub cache.
    """

    bundle: str
    device: str
    windows: Mapping[str, int]
    hash_weights: str | None


def images_of(data: Datalist, splits: Sequence[str]) -> dict[tuple[str, str], list[Image]]:
    """The images of each split and side, in order."""
    return {(split, side): data.images(split, side) for split in SPLITS if split in splits for side in SIDES}


def _places(images: Sequence[Image], most: int) -> list[int]:
    return spread(len(images), most) if images and most else []


@dataclass(frozen=True)
class ImageScores:
    """The images of one evaluation; what each is measured with is loaded when it is needed first.

    Attributes:
        data: the checked dataset.
        asked: what is measured.
        model: what images are translated with.
        work: folder of the marks; pictures go to ``images`` in it.
        report: called in this process when an image is done.
    """

    data: Datalist
    asked: Settings
    model: Model
    work: Path
    report: Callable[[], Any] = lambda: None

    @property
    def marks(self) -> Marks:
        """Which images are done."""
        return Marks(self.work / "steps")

    def tasks(self) -> list[Task]:
        """One an image."""
        every = [
            (split, image, place, place in _places(images, self.asked.pictures))
            for (split, _), images in images_of(self.data, self.asked.splits).items()
            for place, image in enumerate(images)
        ]
        return [
            Task(f"image-{number:04d}", partial(self.score, *each), say=self._say, on_gpu=True)
            for number, each in enumerate(every)
        ]

    def _say(self, told: Mapping[str, Any]) -> None:
        self.report()

    def recipe(self) -> Recipe:
        """By which a worker makes the same."""
        files = {name: getattr(self.model, name) for name in ("bundle", "hash_weights")}
        model = {**asdict(self.model), **{name: file and str(Path(file).absolute()) for name, file in files.items()}}
        given = {"data": plain(self.data), "asked": asdict(self.asked), "model": model}
        return Recipe(f"{__name__}:made_again", {**given, "work": str(self.work.absolute())})

    @cached_property
    def cycle(self) -> Cycle:
        """Translates an image and back."""
        return load_cycle(self.model.bundle, self.model.device, **self.model.windows)

    @cached_property
    def perceptual_hash(self) -> PerceptualHash | None:
        """None if its weights are not there."""
        return find_hash(self.model.hash_weights, self.model.device)

    def result(self) -> Tables:
        """Rows of all images; all are done."""
        tables = Tables()
        for task in self.tasks():
            for name, rows in self.marks.remembered(task.name).items():
                getattr(tables, name).extend(rows)
        return tables

    def score(self, split: str, image: Image, place: int, keep: bool) -> dict[str, Any]:
        """Measure an image, the one at a place in the list of its split and side; ``keep`` its pictures too.

        Returns:
            Its rows by table.
        """
        tables = Tables()
        given, translated, back = self.cycle(image.side, read_slide(image.path).pixels)
        name = f"{split}_{image.side}_{place:04d}_{image.path.name.split('.')[0]}"
        about = {"split": split, "image": name, "specimen": image.specimen}
        tables.reconstruction.append({**about, "side": image.side, **measures(back, given)})
        pictures = {"image": given, "translated": translated, "reconstruction": back}
        mask = None if image.mask is None else read_mask(image.mask)
        mask = mask if mask is not None and mask.shape == given.shape[1:] else None
        if self.of_stains():
            tables.channels += self.channels({**about, "side": image.side}, image.side, given, translated, mask)
        pair = self.pair_of(split, image)
        if image.side == "source" and pair is not None and self.data.target.is_brightfield:
            pictures |= self.compare(tables, about, pair, translated, mask)
        if keep:
            pictures["residual"] = difference(back, given)
            for key, pixels in pictures.items():
                write_slide(self.work / IMAGES / name / f"{key}.png", as_picture(pixels), self.data.pixel_um)
        return vars(tables)

    def of_stains(self) -> bool:
        """Whether the source is colour and the target channels, of which each may carry a stain of the source."""
        return self.data.source.is_brightfield and not self.data.target.is_brightfield

    def pair_of(self, split: str, image: Image) -> Pair | None:
        """The entry with both sides that a source image stands in."""
        pairs: list[Pair] = getattr(self.data, split)
        return next((pair for pair in pairs if pair.label == image.label), None)

    def channels(
        self, about: Row, side: str, given: np.ndarray, translated: np.ndarray, mask: np.ndarray | None
    ) -> list[Row]:
        """Which channel carries which stain, in a translation of either side."""
        rgb, channels = (given, translated) if side == "source" else (translated, given)
        target = self.data.target
        names = target.channel_names or [f"channel {place}" for place in range(target.channels)]
        return [{**about, **row} for row in consecutive.carried(rgb, channels, names, mask)]

    def compare(
        self, tables: Tables, about: Row, pair: Pair, virtual: np.ndarray, mask: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """Virtual stain against that of the consecutive section; adds its rows and gives the pictures of both."""
        real = to_8bit(read_slide(pair.target).pixels, self.data.target.low, self.data.target.high)
        if self.perceptual_hash is not None:
            rows = consecutive.hashed(virtual, real, self.perceptual_hash, self.asked.patch)
            tables.hash += [{**about, **row} for row in rows]
        if not self.asked.labelling_index:
            return {"real": real}
        both = {"real": real, "virtual": virtual}
        nuclei = consecutive.nuclei_of(virtual, real, self.data.pixel_um, self.asked.nucleus_um)
        shapes = {stain: (pixels.shape[1], pixels.shape[2]) for stain, pixels in both.items()}
        side = self.asked.region_um / self.data.pixel_um
        rows = consecutive.labelled(nuclei, shapes, mask, self.asked.dab_threshold, side)
        tables.labelling += [{**about, **row} for row in rows]
        outlines = {
            f"nuclei_{stain}": outlined(both[stain], found, self.asked.dab_threshold) for stain, found in nuclei.items()
        }
        return {"real": real, **outlines}


def made_again(data: Mapping[str, Any], asked: Mapping[str, Any], model: Mapping[str, Any], work: str) -> ImageScores:
    """What :meth:`ImageScores.recipe` describes."""
    own = "cuda" if str(model["device"]).startswith("cuda") else model["device"]  # a worker has one GPU
    return ImageScores(again(data), Settings(**asked), Model(**{**model, "device": own}), Path(work))
