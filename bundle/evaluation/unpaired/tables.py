"""The tables of an unpaired evaluation, from its ``summary.json``: rows of text, headings, captions, Markdown."""

from __future__ import annotations

from typing import Any

from bundle.evaluation.tables import DIGITS, HASHES, HEADINGS

GIVEN_BACK = (
    "Mean ± standard deviation over images of the image that comes back when it is translated and translated back, "
    "against the image itself (Liu et al. Fig. 3). It says nothing of whether the translation is right."
)
COUNTED = "Labelling index: nuclei of more than {threshold:g} mean optical density of DAB over all nuclei."
PAPER = {  # Table 1, mean ± SD over the test tiles
    "CycleGAN": (0.7366, 0.2015),
    "CycleGAN + skip connection": (0.7544, 0.2097),
    "CycleGAN + SSIM": (0.7545, 0.1939),
    "CycleGAN + skip connection + SSIM": (0.7767, 0.1870),
}
PAPER_SAYS = "Liu et al. Table 1, on their own tiles and with bits of their own choice: " + ", ".join(
    f"{name} {mean:.4f} ± {sd:.4f}" for name, (mean, sd) in PAPER.items()
)
CARRIED = ("hematoxylin", "DAB")

Row = dict[str, Any]


def mean_text(row: Row, digits: int) -> str:
    """``mean ± standard deviation``, the mean alone of one image, in words if there is none."""
    if row["mean"] is None:
        return "not computed"
    return f"{row['mean']:.{digits}f}" + ("" if row["sd"] is None else f" ± {row['sd']:.{digits}f}")


def interval_text(row: Row, name: str) -> str:
    """``value [low, high]`` of an index or a difference, in %."""
    if row[name] is None:
        return "no nuclei"
    ends = [row[f"{name}_low"], row[f"{name}_high"]]
    text = "no interval" if None in ends else f"{ends[0]:.1f}, {ends[1]:.1f}"
    return f"{row[name]:.1f} [{text}]"


def reconstruction_rows(found: Row) -> list[list[str]]:
    """Split, what is given back, its number, and the four measures."""
    rows = []
    for place in dict.fromkeys((row["split"], row["side"]) for row in found["reconstruction"]):
        chosen = [row for row in found["reconstruction"] if (row["split"], row["side"]) == place]
        digits = (DIGITS[f"{place[1]}_{row['metric']}"] for row in chosen)
        texts = [mean_text(row, each) for row, each in zip(chosen, digits, strict=True)]
        rows.append([place[0], found[place[1]], str(chosen[0]["number"]), *texts])
    return rows


def hash_rows(found: Row) -> list[list[str]]:
    """Split, number of tiles, and the two likenesses."""
    rows = []
    for split in dict.fromkeys(row["split"] for row in found["hash"]):
        chosen = [row for row in found["hash"] if row["split"] == split]
        rows.append([split, str(chosen[0]["number"]), *(mean_text(row, DIGITS[row["metric"]]) for row in chosen)])
    return rows


def labelling_rows(found: Row) -> list[list[str]]:
    """Split, regions and specimens, nuclei of both stains, both indices and their difference with 95 % intervals."""
    return [
        [
            row["split"],
            f"{row['regions']}, {row.get('specimens', '?')}",
            f"{row['real_nuclei']} / {row['virtual_nuclei']}",
        ]
        + [interval_text(row, f"index_{name}") for name in ("real", "virtual", "difference")]
        for row in found["labelling"]
    ]


def channel_rows(found: Row) -> list[list[str]]:
    """Split, direction, channel, and its mean correlation with each stain."""
    ways = {"source": "{target} made from {source}", "target": "{source} made from {target}"}
    return [
        [row["split"], ways[row["side"]].format(**found), row["channel"]]
        + ["even" if row[stain] is None else f"{row[stain]:.2f}" for stain in CARRIED]
        for row in found["channels"]
    ]


RECONSTRUCTION_HEAD = ("split", "given back", "images", "SSIM ↑", "MS-SSIM ↑", "PSNR ↑ (dB)", "MAE ↓ (of 255)")
HASH_HEAD = ("split", "tiles", *(HEADINGS[name] for name in HASHES))
LABELLING_HEAD = (
    "split",
    "regions, specimens",
    "nuclei, real / virtual",
    "real (%)",
    "virtual (%)",
    "virtual − real (%)",
)
CHANNEL_HEAD = ("split", "images", "channel", "hematoxylin", "DAB")
INTERVALS = (
    "In brackets 95 % intervals: of an index Wilson's, as if nuclei were independent; of the difference by drawing "
    "whole specimens, or of one specimen its regions, again (bootstrap)."
)
CARRIERS = "Correlation of each channel with the optical density of each stain, pixel by pixel, mean over images."


def markdown(found: Row) -> str:
    """The tables, each under what it means; notes below."""
    parts = [
        (GIVEN_BACK, RECONSTRUCTION_HEAD, reconstruction_rows(found)),
        (f"Perceptual hash of virtual against real stain, tile by tile. {PAPER_SAYS}.", HASH_HEAD, hash_rows(found)),
        (f"{counted(found)} {INTERVALS}", LABELLING_HEAD, labelling_rows(found)),
        (CARRIERS, CHANNEL_HEAD, channel_rows(found)),
    ]
    lines: list[str] = []
    for caption, head, rows in parts:
        if rows:
            lines += [caption, "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
            lines += [f"| {' | '.join(row)} |" for row in rows] + [""]
    return "\n".join([*lines, *(f"- {note}" for note in found["notes"])]).rstrip() + "\n"


def counted(found: Row) -> str:
    """What is counted as positive."""
    return COUNTED.format(threshold=found["dab_threshold"])
