"""Synthetic cells as datasets: IHC and fluorescence of other cells, and IHC with its nuclei labelled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from tqdm import tqdm

from bundle.common.atomic import check_writable, whole_folder
from bundle.common.errors import InputError
from bundle.common.values import is_number, shown
from bundle.images.slides import write_slide
from bundle.preparation.phantom.cell_staining import (
    MARKERS,
    fluoresce,
    membranes,
    photograph_fluorescence,
    photograph_section,
    stain_cells,
)
from bundle.preparation.phantom.cells import NUCLEUS_UM, grow_cells

MOST_SIZE = 4096  # px; what is larger is no tile
LEAST_SIZE = 64  # px; a smaller tile holds no tissue to speak of
COARSEST_UM = 1.0  # a nucleus of 6 µm is then six pixels wide
TRAINING_IHC, TRAINING_IF, TESTING, TRAINING_NUCLEAR, TESTING_NUCLEAR = range(5)  # streams of random numbers
DESCRIPTION = "Synthetic cells: computed, not measured."
IHC = {"name": "IHC (synthetic)", "channels": 3, "range": [0, 255]}
IF = {"name": "IF (synthetic)", "channels": 2, "channel_names": ["DAPI", "membrane"], "range": [0, 255]}


def make_cells(
    output: str,
    tiles: int = 16,
    testing: int = 4,
    seed: int = 0,
    size: int = 256,
    pixel_um: float = 0.5,
    labelling_index: float | None = None,
) -> Path:
    """Make tiles of synthetic cells with known nuclei and stains, and write them whole or not at all.

    The folder is an unpaired dataset (``datalist.json``: IHC with DAB on membranes, fluorescence of other cells; in
    testing both of the same cells). Its folders ``membrane`` and ``nuclear`` are datasets of labelled nuclei: the
    same IHC tiles, and tiles of again other cells with DAB in nuclei. ``truth`` holds what no microscope sees: of
    each testing tile the densities of hematoxylin, eosin and DAB, and the fluorescence without any fault.
    ``truth.json`` says which nuclei are positive in each tile of ``nuclear``.

    Args:
        output: the dataset folder; made, or empty.
        tiles: training tiles of each kind.
        testing: testing tiles of each kind.
        seed: the same seed gives the same files, another one other cells.
        size: side of a tile, px.
        pixel_um: side of a pixel, µm; nuclei are 6 to 9 µm wide.
        labelling_index: share of positive nuclei in ``nuclear``, 0 to 1; None draws one for each tile.

    Returns:
        The folder.

    Raises:
        InputError: with one line for each argument that makes no sense, or if ``output`` is not empty.
    """
    folder = Path(str(output))
    faults = _faults(folder, tiles, testing, seed, size, pixel_um, labelling_index)
    if faults:
        raise InputError("\n".join(faults))
    check_writable(folder.parent)
    with whole_folder(folder) as partial:
        maker = _Maker(partial, seed, size, pixel_um, labelling_index)
        plan = [(kind, number) for kind, count in maker.kinds(tiles, testing) for number in range(count)]
        for kind, number in tqdm(plan, desc="tiles", unit="tile", dynamic_ncols=True):
            maker.make(kind, number)
        maker.write_lists()
    return folder


def _faults(
    folder: Path, tiles: Any, testing: Any, seed: Any, size: Any, pixel_um: Any, labelling_index: Any
) -> list[str]:
    faults = []
    wholes = (("tiles", tiles, 1), ("testing", testing, 1), ("seed", seed, 0), ("size", size, LEAST_SIZE))
    for name, value, least in wholes:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            faults.append(f"{name} is {value!r}; give a whole number of at least {least}.")
    if not faults and size > MOST_SIZE:
        faults.append(f"size is {shown(size)}; a tile has a side of at most {MOST_SIZE} px, so ask for more tiles.")
    if not is_number(pixel_um) or not 0 < pixel_um <= COARSEST_UM:
        least_um, most_um = NUCLEUS_UM
        faults.append(
            f"pixel_um is {pixel_um!r}; give µm, more than 0 and at most {COARSEST_UM:g}: "
            f"nuclei are {least_um:g} to {most_um:g} µm wide."
        )
    if labelling_index is not None and (not is_number(labelling_index) or not 0 <= labelling_index <= 1):
        faults.append(f"labelling_index is {labelling_index!r}; give a share of nuclei from 0 to 1.")
    if folder.is_file():
        faults.append(f"output {folder} is a file; name a new folder.")
    elif folder.exists() and any(folder.iterdir()):
        faults.append(f"output {folder} is not empty; name a new folder, or empty this one first.")
    return faults


class _Maker:
    """Writes tiles into a folder and remembers what its lists have to say of them."""

    def __init__(self, folder: Path, seed: int, size: int, pixel_um: float, labelling_index: float | None) -> None:
        self.folder, self.seed, self.size, self.pixel_um = folder, seed, size, pixel_um
        self.labelling_index = labelling_index
        self.unpaired: dict[str, list] = {"training": [], "testing": []}
        self.labelled: dict[str, dict[str, list]] = {marker: {"training": [], "testing": []} for marker in MARKERS}
        self.truth: dict[str, Any] = {"seed": seed, "pixel_um": pixel_um, "nuclear": {}, "testing": {}}

    def kinds(self, tiles: int, testing: int) -> list[tuple[int, int]]:
        return [
            (TRAINING_IHC, tiles),
            (TRAINING_IF, tiles),
            (TESTING, testing),
            (TRAINING_NUCLEAR, tiles),
            (TESTING_NUCLEAR, testing),
        ]

    def make(self, kind: int, number: int) -> None:
        """One tile of other cells than any other tile's: a specimen of its own."""
        rng = np.random.default_rng([self.seed, kind, number])
        split = "training" if kind in (TRAINING_IHC, TRAINING_IF, TRAINING_NUCLEAR) else "testing"
        name = f"{split}_{number:03d}"
        cells = grow_cells(rng, self.size, self.pixel_um)
        membrane = membranes(cells, rng)
        entry: dict[str, Any] = {}
        if kind in (TRAINING_IHC, TESTING):
            section = stain_cells(cells, membrane, rng, "membrane")
            self._write_labelled("membrane", split, name, photograph_section(section.stains, rng), cells.labels)
            entry["source"] = f"membrane/images/{split}/{name}.png"
            if kind == TESTING:
                self._write_channels(f"truth/{name}_stains.tif", section.stains)
        if kind in (TRAINING_IF, TESTING):
            light = fluoresce(cells, membrane, rng)
            entry["target"] = f"if/{name}.tif"
            self._write_channels(entry["target"], photograph_fluorescence(light, cells, rng))
            if kind == TESTING:
                self._write_channels(f"truth/{name}_if.tif", light)
                stains, light_at = (f"truth/{name}_{what}.tif" for what in ("stains", "if"))
                self.truth["testing"][entry["source"]] = {"stains": stains, "if": light_at}
        if entry:
            kept = "if" if kind == TRAINING_IF else "membrane"
            self.unpaired[split].append(entry | {"specimen": f"{kept} {name}"})
            return
        section = stain_cells(cells, membrane, rng, "nuclear", self.labelling_index)
        image = self._write_labelled("nuclear", split, name, photograph_section(section.stains, rng), cells.labels)
        self.truth["nuclear"][f"nuclear/{image}"] = {
            "nuclei": cells.count,
            "positive": list(section.positive),
            "labelling_index": len(section.positive) / cells.count if cells.count else None,
        }

    def _write_labelled(self, marker: str, split: str, name: str, image: np.ndarray, labels: np.ndarray) -> str:
        entry = {what: f"{folder}/{split}/{name}.png" for what, folder in (("image", "images"), ("labels", "labels"))}
        entry["specimen"] = f"{marker} {name}"
        write_slide(self.folder / marker / entry["image"], image, self.pixel_um)
        write_slide(self.folder / marker / entry["labels"], labels[None], self.pixel_um)
        self.labelled[marker][split].append(entry)
        return entry["image"]

    def _write_channels(self, name: str, pixels: np.ndarray) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(
            path,
            pixels,
            photometric="minisblack",
            compression="zlib",
            metadata={"axes": "CYX"},
            resolution=(1e4 / self.pixel_um,) * 2,
            resolutionunit=3,
        )

    def write_lists(self) -> None:
        said = f"{DESCRIPTION} Seed {self.seed}."
        common = {"pixel_um": self.pixel_um, "description": said}
        lists = {"datalist.json": common | {"source": IHC, "target": IF} | self.unpaired, "truth.json": self.truth}
        for marker, splits in self.labelled.items():
            lists[f"{marker}/datalist.json"] = common | {"image": IHC} | splits
        for name, content in lists.items():
            (self.folder / name).write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
