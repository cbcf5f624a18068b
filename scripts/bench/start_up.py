"""CPU seconds from a command to its first line of work: MONAI's program, ours, and an earlier version of either."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bundle.common.command_line import command

HOME = Path(__file__).parents[2]
METHOD, PROFILE = "configs/methods/firm.json", "configs/profiles/demo.json"
SMALL = [*("--epochs", "1", "--patches_per_pair", "1", "--width", "4", "--blocks", "1")]
SMALL += ["--patch_size", "32", "--validate_every", "0"]
FIRST = {"stain": "speed ", "train": "training on "}  # what the first line of work begins with


def start_up(
    dataset_dir: str, model_bundle: str, before: str | None = None, before_bundle: str | None = None, rounds: int = 5
) -> str:
    """Time the way to the first line of work of a staining and a training, rounds interleaved.

    Args:
        dataset_dir: a dataset with registered pairs.
        model_bundle: RUN/bundle of a training.
        before: another checkout, of an earlier version.
        before_bundle: a bundle that it trained; without it the same.
        rounds: how often each.

    Returns:
        A table of medians.
    """
    images = next(path for path in (Path(dataset_dir) / "ct", Path(dataset_dir)) if path.is_dir())
    image, dataset = sorted(images.glob("*.png"))[0].resolve(), Path(dataset_dir).resolve()
    versions = {"now": (HOME, Path(model_bundle).resolve())}
    if before:
        versions = {"before": (Path(before).resolve(), Path(before_bundle or model_bundle).resolve()), **versions}
    found: dict[tuple[str, str, str], list[float]] = {}
    for _ in range(rounds):
        for version, (home, root) in versions.items():
            for (task, program), words in lines(str(image), str(dataset), str(root)).items():
                if program == "monai.bundle" or (home / "bundle" / "commands").is_dir():
                    found.setdefault((task, program, version), []).append(seconds(words, home, FIRST[task]))
    rows = [
        f"| {task} | {program}, {version} | {statistics.median(values):.2f} | {min(values):.2f} to {max(values):.2f} |"
        for (task, program, version), values in sorted(found.items())
    ]
    return "\n".join(["| what | by | CPU s, median | range |", "|---|---|---|---|", *rows])


def lines(image: str, dataset: str, root: str) -> dict[tuple[str, str], list[str]]:
    """The command lines, by task and program; ``OUT`` stands for a new folder.

    Args:
        image: to be stained.
        dataset: to train on.
        root: a trained bundle.
    """
    monai = [sys.executable, "-m", "monai.bundle", "run"]
    ours = [sys.executable, "-m", "bundle.commands"]
    stain = ["--config_file", f"{root}/configs/inference.json", "--bundle_root", root, "--input", image]
    train = ["--config_file", str(["configs/train.json", METHOD, PROFILE]), "--dataset_dir", dataset]
    return {
        ("stain", "monai.bundle"): [*monai, "inference", *stain, "--output_dir", "OUT"],
        ("stain", "virtual-staining"): [*ours, "stain", image, "OUT", "--bundle", root],
        ("train", "monai.bundle"): [*monai, "training", *train, "--output_dir", "OUT", *SMALL],
        ("train", "virtual-staining"): [*ours, "train", dataset, "OUT", "--profile", "demo", *SMALL],
    }


def seconds(words: Sequence[str], home: Path, first: str) -> float:
    """CPU seconds of a process until it prints a line that begins so; it is then stopped.

    Args:
        words: of its command line, in which ``OUT`` is a new folder.
        home: where it runs, whose code it takes.
        first: how the line begins.

    Raises:
        RuntimeError: if there is no such line.
    """
    environment = {**os.environ, "PYTHONPATH": str(home), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        typed = [f"{folder}/out" if word == "OUT" else word for word in words]
        with subprocess.Popen(
            typed, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(first):
                    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
                    process.kill()
                    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    raise RuntimeError(f"{' '.join(typed)} never printed {first!r}")


if __name__ == "__main__":
    command(start_up)
