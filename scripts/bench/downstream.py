"""A segmenter for stained tissue from labelled fluorescence.

``python -m scripts.bench.downstream --nuclei DIR --output DIR``

No stained image with labels is used, but for the upper bound. Arms, all tested on the stained images that nothing else
has seen (:mod:`scripts.bench.nuclei_data`):

- ``upper``: the labelled stained images of the training half, what labels would bring;
- ``inverted``: fluorescence, inverted, as RGB;
- ``tinted``: the same in random colours;
- ``insilico``: fluorescence, edited and translated by a CycleGAN that was trained on the stained images of the training
  half and on fluorescence, without any labels. With ``--families`` there is one CycleGAN for each family of stained
  images (backgrounds of one colour), so that each learns one look, and the arm has the images of all.

``results.md`` is written anew after each score; a run that was killed goes on when the same command is given again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bundle.common.atomic import write_json
from bundle.common.command_line import as_bool, command
from bundle.common.errors import InputError
from scripts.bench.nuclei_data import main as write_data
from scripts.bench.steps import Steps, Trial, merged

GAN = ["configs/train.json", "configs/methods/restain.json", "configs/profiles/demo.json"]
ARMS = ("upper", "inverted", "tinted", "insilico")
QUICK: dict[str, Any] = {"gan_epochs": 1, "patches": 1, "width": 4, "seeds": 1, "window": 128}
QUICK_SEGMENTER = {"epochs": 1, "steps_per_epoch": 20, "width": 4, "rays": 8, "decay_epochs": 0}
# what becomes of a nucleus' fluorescence before it is translated: its place and its outline stay as they are
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "unchanged": [],
    "faint": [{"edit": "scale", "channel": "nuclei", "factor": 0.7}],
    "fainter": [{"edit": "scale", "channel": "nuclei", "factor": 0.5}],
    "even": [{"edit": "gamma", "channel": "nuclei", "exponent": 0.7}],
    "contrasted": [{"edit": "gamma", "channel": "nuclei", "exponent": 1.4}],
    "noisy": [{"edit": "noise", "channel": "nuclei", "sd": 0.04}],
}


def main(
    nuclei: str,
    output: str,
    data_seed: int = 0,
    window: int = 192,
    least_cover: float = 0.08,
    families: bool = True,
    gan_epochs: int = 40,
    patches: int = 2,
    width: int = 16,
    blocks: int = 4,
    gan_seed: int = 0,
    gan_ids: dict[str, Any] | None = None,
    least_overlap: float | None = None,
    seeds: int = 3,
    epochs: int = 24,
    steps_per_epoch: int = 50,
    segmenter_width: int = 16,
    segmenter_ids: dict[str, Any] | None = None,
    arms: Sequence[str] = ARMS,
    quick: bool = False,
) -> Path:
    """Run the experiment, or go on with it.

    Args:
        nuclei: the folder with ``colour`` and ``fluorescence``.
        output: the experiment's folder.
        data_seed: of the halves.
        window: side of the fluorescence windows, px.
        least_cover: share of a window that must be nuclei.
        families: a CycleGAN for each family of stained images, else one for all.
        gan_epochs: of a CycleGAN, each of ``patches`` patches of 128 px of each fluorescence window.
        patches: of a window in an epoch.
        width: of the generators.
        blocks: residual blocks of the generators.
        gan_seed: of the CycleGANs.
        gan_ids: other ids of ``configs/train.json`` for the CycleGANs, ``{lambda_cycle: 10}``.
        least_overlap: of nuclei and labels, below which an in-silico image is left out; None is that command's own.
        seeds: how many segmenters of each arm.
        epochs: of a segmenter.
        steps_per_epoch: likewise, of 4 patches of 128 px.
        segmenter_width: channels at its first resolution.
        segmenter_ids: other ids of ``configs/nuclei.json``, ``{tune_thresholds: true, patch_size: 192}``.
        arms: which are trained, ``upper,inverted``; the CycleGANs are left out without ``insilico``.
        quick: the smallest of everything: shows that it runs, nothing else.

    Returns:
        The table.
    """
    wanted = {"gan_epochs": gan_epochs, "patches": patches, "width": width, "seeds": seeds, "window": window}
    segmenter: dict[str, Any] = {"epochs": epochs, "steps_per_epoch": steps_per_epoch, "width": segmenter_width}
    segmenter |= {"decay_epochs": epochs // 2, **(segmenter_ids or {})}
    if as_bool("quick", quick):
        wanted, segmenter, blocks, least_overlap = QUICK, QUICK_SEGMENTER, 1, 0.0
    chosen = [arms] if isinstance(arms, str) else list(arms)
    if not set(chosen) <= set(ARMS):
        raise InputError(f"arms are {', '.join(map(str, chosen))}; there are {', '.join(ARMS)}.")
    folder = Path(str(output)).resolve()
    steps, data, edits = Steps(folder), folder / "data", folder / "edits.json"
    options = {"seed": data_seed, "window": wanted["window"], "least_cover": least_cover}
    images = str(Path(nuclei).resolve())
    steps.do("data", data, {"nuclei": images, **options}, lambda again: write_data(images, str(data), **options))
    steps.do("edits", edits, VARIANTS, lambda again: write_json(edits, {"variants": VARIANTS}))

    ids = {"seed": gan_seed, "epochs": wanted["gan_epochs"], "patches_per_pair": wanted["patches"]}
    ids |= {"width": wanted["width"], "blocks": blocks, "validate_every": 0, **(gan_ids or {})}
    lists = sorted(path.name for path in (data / "unpaired").glob("family_*.json"))
    lists = lists if as_bool("families", families) else ["datalist.json"]
    lists = lists if "insilico" in chosen else []
    made: dict[str, Path] = {}
    for name in lists:
        gan, part = f"gan_{Path(name).stem}", f"insilico_{Path(name).stem}"
        about = {"dataset_dir": str(data / "unpaired"), "datalist": name, **ids}
        steps.bundle(gan, folder / gan, "training", GAN, about, ["data"])
        words = ["scripts.insilico", f"--input={data / 'fluorescence/images'}"]
        words += [f"--labels={data / 'fluorescence/labels'}", f"--edits={edits}", "--domain=target", "--replace=true"]
        words += [f"--model_bundle={folder / gan / 'bundle'}", f"--output={folder / part}"]
        words += [] if least_overlap is None else [f"--least_overlap={least_overlap}"]
        words += ["--most_distance=1000"] if as_bool("quick", quick) else []
        made[part] = folder / part
        steps.command(part, folder / part, words, [gan, "edits"])
    insilico = folder / "insilico"
    if made:
        steps.do("insilico", insilico, lists, lambda again: merged(insilico, made, data / "upper"), ["data", *made])

    trial = Trial(
        steps,
        {arm: (insilico, arm) if arm == "insilico" else (data / arm, "data") for arm in chosen},
        {"stained": (data / "upper", "data")},
        wanted["seeds"],
        segmenter,
        ["configs/profiles/nuclei_demo.json"],
    )
    against = [("insilico", "inverted"), ("insilico", "tinted"), ("upper", "insilico")]

    def told() -> None:
        trial.write("Stained tissue from labelled fluorescence", notes(trial, ids), against)

    trial.run(told)
    told()
    return folder / "results.md"


def notes(trial: Trial, gan: dict[str, Any]) -> list[str]:
    """Lines below the table: what each arm was trained on, and how."""
    number = {
        arm: len(json.loads((data / "datalist.json").read_text(encoding="utf-8"))["training"])
        for arm, (data, _) in trial.arms.items()
    }
    said = ", ".join(f"{arm} {count}" for arm, count in number.items())
    return ["", f"Training images: {said}. CycleGAN: {gan}. Segmenter, the same steps in all arms: {trial.ids}."]


if __name__ == "__main__":
    command(main)
