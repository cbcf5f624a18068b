"""Does in-silico IHC help a nucleus segmenter? Synthetic cells, whose nuclei are known.

``python -m scripts.bench.round_trip --output DIR``

Labelled tiles have DAB on membranes; the segmenter is to work on tiles with DAB in nuclei. A CycleGAN between the
membrane IHC and unpaired two-channel fluorescence, edits of the channels, and the way back make labelled IHC of other
patterns. StarDist networks are trained on

- ``original``: the labelled membrane tiles alone,
- ``with in silico``: the same and their in-silico variants, in as many steps,
- ``labelled other``: tiles of the other pattern with labels, what would be had if somebody had drawn them;

and scored on testing tiles of both patterns. ``results.md`` is written anew after each score; a run that was killed
goes on when the same command is given again.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from bundle.common.command_line import as_bool, command
from bundle.images.slides import read_slide
from scripts.bench.steps import Steps, Trial, merged
from scripts.bench.translation import score_translation

GAN = ["configs/train.json", "configs/methods/restain.json", "configs/profiles/demo.json"]
QUICK: dict[str, Any] = {"tiles": 4, "testing": 2, "gan_epochs": 1, "patches": 2, "width": 4, "seeds": 1}
QUICK_SEGMENTER = {"epochs": 1, "steps_per_epoch": 20, "width": 4, "rays": 8, "decay_epochs": 0}


def main(
    output: str,
    tiles: int = 48,
    testing: int = 16,
    size: int = 256,
    cells_seed: int = 0,
    gan_epochs: int = 40,
    patches: int = 2,
    width: int = 16,
    blocks: int = 4,
    gan_seed: int = 0,
    gan_ids: dict[str, Any] | None = None,
    edits: str = "configs/edits/membrane.json",
    seeds: int = 3,
    epochs: int = 24,
    steps_per_epoch: int = 50,
    segmenter_width: int = 16,
    segmenter_ids: dict[str, Any] | None = None,
    quick: bool = False,
) -> Path:
    """Run the experiment, or go on with it.

    Args:
        output: its folder.
        tiles: training tiles of each kind.
        testing: testing tiles of each pattern.
        size: side of a tile, px.
        cells_seed: of the cells.
        gan_epochs: of the CycleGAN, each of ``tiles`` × ``patches`` patches of 128 px.
        patches: of a tile in an epoch.
        width: of the generators.
        blocks: residual blocks of the generators.
        gan_seed: of the CycleGAN.
        gan_ids: other ids of ``configs/train.json`` for the CycleGAN, ``{lambda_cycle: 10}``.
        edits: JSON of the variants.
        seeds: how many segmenters of each arm.
        epochs: of a segmenter.
        steps_per_epoch: likewise, of 4 patches of 128 px.
        segmenter_width: channels at its first resolution.
        segmenter_ids: other ids of ``configs/nuclei.json``, ``{tune_thresholds: true, patch_size: 192}``.
        quick: the smallest of everything: shows that it runs, nothing else.

    Returns:
        The table.
    """
    wanted = {"tiles": tiles, "testing": testing, "gan_epochs": gan_epochs, "patches": patches, "width": width}
    wanted |= {"seeds": seeds}
    segmenter: dict[str, Any] = {"epochs": epochs, "steps_per_epoch": steps_per_epoch, "width": segmenter_width}
    segmenter |= {"decay_epochs": epochs // 2, **(segmenter_ids or {})}
    small = as_bool("quick", quick)
    if small:
        wanted, segmenter, blocks = QUICK, QUICK_SEGMENTER, 1
    folder = Path(str(output)).resolve()
    steps = Steps(folder)
    cells = folder / "cells"
    options = {"output": cells, "tiles": wanted["tiles"], "testing": wanted["testing"], "size": size}
    words = [f"--{name}={value}" for name, value in {**options, "seed": cells_seed}.items()]
    steps.command("cells", cells, ["scripts.cells", *words])

    ids = {"dataset_dir": str(cells), "seed": gan_seed, "epochs": wanted["gan_epochs"], "width": wanted["width"]}
    ids |= {"patches_per_pair": wanted["patches"], "blocks": blocks, "validate_every": 0, **(gan_ids or {})}
    steps.bundle("gan", folder / "gan", "training", GAN, ids, ["cells"])
    model, scored = folder / "gan" / "bundle", folder / "translation.json"
    steps.do("translation", scored, {}, lambda again: score_translation(model, cells, scored), ["gan"])

    table, made = folder / "tiles.csv", folder / "insilico"
    steps.do("tiles", table, {}, lambda again: list_specimens(cells / "membrane", table), ["cells"])
    words = ["scripts.insilico", f"--input={cells / 'membrane/images/training'}"]
    words += [f"--labels={cells / 'membrane/labels/training'}", f"--edits={edits}", f"--model_bundle={model}"]
    words += [f"--output={made}", f"--table={table}", "--replace=true"]
    if small:  # so early a model puts nothing in its place
        words += ["--least_overlap=0", "--most_distance=1000"]
    steps.command("insilico", made, words, ["gan", "tiles"])
    both = folder / "both"
    parts = {"original": cells / "membrane", "insilico": made}
    steps.do("both", both, {}, lambda again: merged(both, parts, cells / "nuclear"), ["cells", "insilico"])

    arms = {
        "original": (cells / "membrane", "cells"),
        "with in silico": (both, "both"),
        "labelled other": (cells / "nuclear", "cells"),
    }
    tests = {"nuclear": (cells / "nuclear", "cells"), "membrane": (cells / "membrane", "cells")}
    trial = Trial(
        steps,
        {name.replace(" ", "_"): arm for name, arm in arms.items()},
        tests,
        wanted["seeds"],
        segmenter,
        ["configs/profiles/nuclei_demo.json"],
    )
    against = [("with_in_silico", "original"), ("labelled_other", "with_in_silico")]

    def told() -> None:
        trial.write("In-silico IHC of synthetic cells", notes(folder, segmenter, ids), against)

    trial.run(told)
    told()
    return folder / "results.md"


def list_specimens(dataset: Path, table: Path) -> None:
    """Write tile, specimen and split of the training tiles, so that variants of a tile never leave its side."""
    listed = json.loads((dataset / "datalist.json").read_text(encoding="utf-8"))["training"]
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("tile", "specimen", "split"))
        writer.writerows((Path(entry["image"]).stem, entry["specimen"], "training") for entry in listed)


def notes(folder: Path, segmenter: dict[str, Any], gan: dict[str, Any]) -> list[str]:
    """Lines below the table: what was made, how well it was translated, how it was trained."""
    kept = len(json.loads((folder / "insilico/datalist.json").read_text(encoding="utf-8"))["training"])
    tiles = len(json.loads((folder / "cells/membrane/datalist.json").read_text(encoding="utf-8"))["training"])
    translation = json.loads((folder / "translation.json").read_text(encoding="utf-8"))
    side = read_slide(next((folder / "cells/membrane/images/training").iterdir())).pixels.shape[1]
    said = ", ".join(f"{name} {value:.3f}" for name, value in translation["mean"].items())
    return [
        "",
        f"{tiles} labelled tiles of {side} px, {kept} in-silico images. CycleGAN: {gan}. Segmenter: {segmenter}.",
        f"Translation of the testing tiles, mean over tiles: {said}.",
    ]


if __name__ == "__main__":
    command(main)
