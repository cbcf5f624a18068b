"""In-silico images with labels: ``python -m scripts.insilico``."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm import tqdm

from bundle.common.atomic import check_writable, whole_folder, write_json
from bundle.common.checks import place_faults, sha256_of
from bundle.common.command_line import as_bool
from bundle.common.errors import InputError
from bundle.common.machine import code_version, hardware, versions
from bundle.common.region import spread
from bundle.common.values import is_number
from bundle.common.verdicts import DOUBTFUL_FROM
from bundle.data.datalist import DATALIST, SPLITS
from bundle.evaluation.tables import write_csv
from bundle.images.slides import write_slide
from bundle.nuclei.insilico.channels import Edit
from bundle.nuclei.insilico.edits import file_word, read_variants
from bundle.nuclei.insilico.generation import Generation
from bundle.nuclei.insilico.morphology import LEAST_OVERLAP
from bundle.nuclei.insilico.sheet import Panel, contact_sheet
from bundle.nuclei.insilico.table import EDIT_COLUMNS, INPUT, ROW_COLUMNS, STAIN_COLUMNS, Row, effects, summary
from bundle.nuclei.insilico.tiles import Tile, check_tiles, list_tiles

if TYPE_CHECKING:
    from bundle.nuclei.insilico.models import Translators

DOMAINS = ("source", "target")
SHEET, FAILED_SHEET = "contact_sheet.png", "left_out.png"
ROWS, EDITS, PROVENANCE = "morphology.csv", "edits.csv", "provenance.json"
SHEET_ROWS = 12
LINES_SHOWN = 20  # of images left out, on the screen; all of them stand in morphology.csv
NOT_JUDGED = (
    "whether images look as those of the training is not judged: the bundle holds nothing to tell by; its training "
    "command with --resume changed writes it, of three images or more"
)
Result = TypeVar("Result")


def insilico(
    input: str,  # noqa: A002
    labels: str,
    edits: str,
    model_bundle: str,
    output: str,
    domain: str = "source",
    split: str = "training",
    table: str | None = None,
    least_overlap: float = LEAST_OVERLAP,
    most_distance: float = DOUBTFUL_FROM,
    seed: int = 0,
    device: str | None = None,
    replace: bool = False,
) -> str:
    """Make labelled brightfield images: tiles to fluorescence channels, edits there, and back, labels carried along.

    Writes a dataset for the nucleus segmenter, or nothing.

    Args:
        input: folder of tiles.
        labels: folder of their label images, named as the tile, or as the tile with _labels; it may be the same folder.
        edits: JSON of the variants of each tile; configs/edits has examples.
        model_bundle: RUN/bundle of a training from brightfield to fluorescence with a way back.
        output: the dataset's folder; made, or empty.
        domain: source if tiles are brightfield, target if they are fluorescence already.
        split: of the dataset: training, validation or testing.
        table: CSV with the columns tile, specimen, split, for tiles of one specimen, or several splits in one dataset;
            without it each tile is a specimen of its own.
        least_overlap: of nuclei and labels, 0.5 (chance) to 1, below which an image is left out.
        most_distance: of an image from those of the training, in units of what these usually have from each other,
            above which it is left out.
        seed: of noise, and of which nuclei get a marker.
        device: cpu, cuda, cuda:1; by default the GPU if there is one.
        replace: replace a dataset that this command made in ``output``.

    Returns:
        What was made.

    Raises:
        InputError: with one line for each fault; or if no image is kept.
    """
    folder = Path(str(output))
    limits = {"least_overlap": least_overlap, "most_distance": most_distance}
    faults = _option_faults(folder, domain, split, limits, seed, as_bool("replace", replace), str(input))
    job = checked(faults, str(input), str(labels), str(edits), str(model_bundle), domain, split, table, device)
    for name, reason in job.left_out.items():
        print(f"tile {name} is left out: {reason}", file=sys.stderr)
    if len(job.left_out) == len(job.tiles):
        raise InputError(f"no tile of {input} is left: all {len(job.tiles)} are left out, as said above.")
    if job.translators.distance is None:
        print(NOT_JUDGED, file=sys.stderr)
    check_writable(folder.parent)
    record = _record(job, str(edits), str(model_bundle))
    record["options"] = {"domain": domain, "split": split, **limits, "seed": seed}
    generation = Generation(job.translators, job.variants, seed, **limits)
    with whole_folder(folder) as partial:
        rows = write_tiles(partial, generation, job)
        write_tables(partial, rows, generation.reference)
        write_json(partial / PROVENANCE, record)
        kept = sum(row.kept for row in rows)
        if kept:
            image = {"name": job.translators.brightfield.name, "channels": 3, "range": [0, 255]}
            write_json(partial / DATALIST, {"pixel_um": job.pixel_um, "image": image, **entries(rows)})
        elif replace and folder.exists():  # what is there stays
            looked_at = folder.with_name(f"{folder.name}_left_out")
            shutil.copytree(partial, looked_at, dirs_exist_ok=True)
            raise nothing_kept(looked_at, limits)
    print(_failures(rows, job.variants), end="", file=sys.stderr)
    if not kept:
        raise nothing_kept(folder, limits)
    made = f"{kept} images of {len(job.tiles) - len(job.left_out)} tiles in {folder}."
    return f"{summary(rows, generation.reference)}\n{made} Look at {folder / SHEET}."


def nothing_kept(folder: Path, limits: Mapping[str, float]) -> InputError:
    """What to say when every image was left out, and where to look."""
    return InputError(
        "no image is kept: in none are the nuclei where the labels are, to --least_overlap "
        f"{limits['least_overlap']:g}, with a look of the training's, to --most_distance {limits['most_distance']:g}. "
        f"Look at {folder / FAILED_SHEET} and {folder / ROWS}: labels of other tiles, or a model that is not "
        "trained far enough? After that, repeat with --replace true."
    )


@dataclass(frozen=True)
class Job:
    """What was asked for, read and checked.

    Attributes:
        translators: the pair of generators.
        device: that they run on.
        variants: the edits of each.
        tiles: all of them.
        left_out: why some are not made, by name.
        pixel_um: pixel size in µm, if all files state one.
    """

    translators: Translators
    device: str
    variants: dict[str, tuple[Edit, ...]]
    tiles: list[Tile]
    left_out: dict[str, str]
    pixel_um: float | None


def checked(
    faults: list[str],
    input_dir: str,
    labels_dir: str,
    edits: str,
    model_bundle: str,
    domain: str,
    split: str,
    table: str | None,
    device: str | None,
) -> Job:
    """Read and check all that is given, as :func:`insilico` has it; nothing is written.

    Raises:
        InputError: with a line for each fault, those found before first.
    """
    from bundle.nuclei.insilico.models import chosen_device, load_translators  # here, as PyTorch takes seconds to load

    chosen = str(_tried(faults, lambda: chosen_device(device)) or "cpu")
    translators = _tried(faults, lambda: load_translators(model_bundle, domain, chosen))
    tiles = _tried(faults, lambda: list_tiles(input_dir, labels_dir, split, table))
    if translators is None:
        raise InputError("\n".join(faults))
    names, brightfield = translators.fluorescence.channel_names, translators.forward is not None
    variants = _tried(faults, lambda: read_variants(edits, names))
    facts = _tried(faults, lambda: check_tiles(tiles or [], translators.tiles, brightfield))
    if faults or variants is None or tiles is None or facts is None:
        raise InputError("\n".join(faults))
    return Job(translators, chosen, variants, tiles, *facts)


def _record(job: Job, edits: str, model_bundle: str) -> dict[str, Any]:
    """What the images come from, for ``provenance.json``."""
    weights = ("models/model.pt", "reverse.pt")
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "model_sha256": {name: sha256_of(Path(model_bundle) / name) for name in weights},
        "edits_sha256": sha256_of(Path(edits)),
        "edits": json.loads(Path(edits).read_text(encoding="utf-8")),
        "tiles_sha256": {tile.name: [sha256_of(tile.path), sha256_of(tile.labels)] for tile in job.tiles},
        "device": job.device,
        "code": code_version(),
        "versions": versions(),
        **hardware(),
    }


def write_tiles(folder: Path, generation: Generation, job: Job) -> list[Row]:
    """Make and write the images of all tiles, their labels, and contact sheets.

    Args:
        folder: of the dataset.
        generation: makes them.
        job: its tiles.

    Returns:
        The rows of ``morphology.csv``.
    """
    made = [tile for tile in job.tiles if tile.name not in job.left_out]
    on_sheet = {made[place].name for place in spread(len(made), SHEET_ROWS)}
    sheet: list[tuple[str, list[Panel]]] = []
    failed: list[tuple[str, list[Panel]]] = []
    rows = [Row(name, "", "", "", None, None, {}, reason, False) for name, reason in job.left_out.items()]
    with tqdm(total=len(made) * generation.passes, desc="in silico", unit="image", dynamic_ncols=True) as bar:
        for tile in made:
            result = generation(tile, bar.update)
            rows += result.rows
            if result.images:
                write_slide(folder / "labels" / f"{tile.name}.png", result.labels[None], job.pixel_um)
            for variant, image in result.images.items():
                write_slide(folder / image_name(tile.name, variant), image, job.pixel_um)
            if tile.name in on_sheet:
                sheet.append((tile.name, result.panels))
            if any(panel.alarm for panel in result.panels) and len(failed) < SHEET_ROWS:
                failed.append((tile.name, result.panels))
    write_slide(folder / SHEET, contact_sheet(generation.heads, sheet))
    if failed:
        write_slide(folder / FAILED_SHEET, contact_sheet(generation.heads, failed))
    return rows


def image_name(tile: str, variant: str) -> str:
    """The path of an image in the dataset."""
    return f"images/{tile}__{file_word(variant)}.png"


def write_tables(folder: Path, rows: Sequence[Row], reference: str) -> None:
    """Write ``morphology.csv``, a line an image, and ``edits.csv``, a line a variant."""
    write_csv(folder / ROWS, (*ROW_COLUMNS[:-2], *STAIN_COLUMNS, *ROW_COLUMNS[-2:]), [row.listed() for row in rows])
    rounded = [
        {name: round(value, 5) if isinstance(value, float) else value for name, value in line.items()}
        for line in effects(rows, reference)
    ]
    write_csv(folder / EDITS, EDIT_COLUMNS, rounded)


def entries(rows: Sequence[Row]) -> dict[str, list[dict[str, str]]]:
    """The entries of a nucleus dataset's ``datalist.json``, by split."""
    listed: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        if row.kept:
            names = {"image": image_name(row.tile, row.variant), "labels": f"labels/{row.tile}.png"}
            listed.setdefault(row.split, []).append({**names, "specimen": row.specimen})
    return {split: listed[split] for split in SPLITS if split in listed}


def _failures(rows: Sequence[Row], variants: Mapping[str, Any]) -> str:
    """A line for each image that is left out, and for tiles that would themselves be."""
    lines = [
        f"{row.tile}, {row.variant}: left out, {row.reason}" for row in rows if row.reason and row.variant in variants
    ]
    more = len(lines) - LINES_SHOWN
    lines = lines[:LINES_SHOWN] + ([f"and {more} more, in {ROWS}"] if more > 0 else [])
    own = [f"{row.tile}, the tile itself: {row.reason}" for row in rows if row.reason and row.variant == INPUT]
    lines += own[:LINES_SHOWN]
    return "".join(f"{line}\n" for line in lines)


def _tried(faults: list[str], check: Callable[[], Result]) -> Result | None:
    """What a check gives; None, and its lines in ``faults``, if it raises :class:`InputError`."""
    try:
        return check()
    except InputError as error:
        faults.append(str(error))
        return None


def _option_faults(
    folder: Path, domain: Any, split: Any, limits: Mapping[str, Any], seed: Any, replace: bool, tiles: str
) -> list[str]:
    faults = []
    if domain not in DOMAINS:
        faults.append(f"domain is {domain!r}; it must be source (tiles are brightfield) or target (fluorescence).")
    if split not in SPLITS:
        faults.append(f"split is {split!r}; it must be one of {', '.join(SPLITS)}.")
    overlap, distance = limits["least_overlap"], limits["most_distance"]
    if not is_number(overlap) or not 0 <= overlap <= 1:
        faults.append(f"least_overlap is {overlap!r}; it must be a number from 0 to 1, where 0.5 is chance.")
    if not is_number(distance) or distance <= 0:
        faults.append(f"most_distance is {distance!r}; it must be a number above 0, where 1 is usual in the training.")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        faults.append(f"seed is {seed!r}; it must be a whole number, 0 or more.")
    if folder.resolve() == Path(tiles).resolve() or Path(tiles).resolve().is_relative_to(folder.resolve()):
        faults.append(f"output {folder} holds the input; name a new folder.")
        return faults
    return faults + place_faults(folder, replace, _is_own, ROWS)


def _is_own(folder: Path) -> bool:
    return all((folder / name).is_file() for name in (ROWS, EDITS, PROVENANCE))
