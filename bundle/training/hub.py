"""A trained bundle as a folder that MONAI's model zoo and Hugging Face's hub take as it is."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bundle.common.checks import checksum
from bundle.common.errors import InputError
from bundle.common.run_folder import read_record
from bundle.common.trained_bundle import read_config
from bundle.evaluation.tables import HEADINGS, METRICS
from bundle.training.export_readme import SHOWN, measured

LARGE_BYTES = 25_000_000  # from which the zoo wants files kept elsewhere and listed in large_files.yml
CARD, LARGE = "README.md", "large_files.yml"
TAGS = ["monai", "medical", "virtual-staining"]
TASK = {"type": "image-to-image", "name": "virtual staining"}
FENCE = "---\n"


def hub_faults(hub: Path | None) -> list[str]:
    """What is in the way of such a folder, a line each.

    Args:
        hub: the folder to make; None makes none.
    """
    if hub is None:
        return []
    faults = []
    if hub.is_file():
        faults.append(f"hub {hub} is a file; name a new folder.")
    elif hub.is_dir() and any(hub.iterdir()):
        faults.append(f"hub {hub} is not empty; name a new folder.")
    return faults


def fill_hub(made: Path, folder: Path, bundle_root: Path) -> list[str]:
    """Lay out the folder: the bundle's own layout, with a model card and, if need be, a list of large files.

    Args:
        made: the bundle as it is packed for the zoo.
        folder: to fill.
        bundle_root: the trained bundle, beside which an evaluation may lie.

    Returns:
        What is left to do by hand, a line each.

    Raises:
        InputError: if the card cannot be read back as it was meant.
    """
    shutil.copytree(made, folder, dirs_exist_ok=True)
    facts = card_facts(folder, bundle_root)
    page = (made / "docs" / "README.md").read_text(encoding="utf-8")
    card = FENCE + _dumped(facts) + FENCE + "\n" + page
    if front_matter(card) != facts:
        raise InputError(f"the model card of {bundle_root} cannot be written as YAML; look at the names it quotes.")
    (folder / CARD).write_text(card, encoding="utf-8", newline="\n")
    return _list_large(folder)


def card_facts(made: Path, bundle_root: Path) -> dict[str, Any]:
    """The front matter of a model card: what it is, and numbers only where they were measured.

    Args:
        made: the bundle as it is packed.
        bundle_root: the trained bundle.
    """
    config, metadata = read_config(made), read_record(made / "configs" / "metadata.json")
    name = f"{config['target']['name']} from {config['source']['name']}"
    apache = "Apache License" in (made / "LICENSE").read_text(encoding="utf-8")
    facts: dict[str, Any] = {
        "license": "apache-2.0" if apache else "other",
        "library_name": "monai",
        "pipeline_tag": TASK["type"],
        "tags": TAGS,
    }
    results = _results(bundle_root, name)
    if results:
        facts["model-index"] = [{"name": f"{name}, version {metadata['version']}", "results": results}]
    return facts


def _results(bundle_root: Path, name: str) -> list[dict[str, Any]]:
    """What an evaluation of these weights found on images that no training saw; nothing without one."""
    rows, _ = measured(bundle_root)
    results = []
    for row in rows:
        numbers = {metric: value for metric in METRICS if (value := _number(row.get(f"{metric}_median"))) is not None}
        if row["row"] != SHOWN[0] or row["split"] == "training" or not numbers:
            continue
        results.append(
            {
                "task": TASK,
                "dataset": {"type": "own", "name": f"pairs of {name}", "split": row["split"]},
                "metrics": [
                    {"type": metric, "name": f"{HEADINGS[metric]}, median of {row['patches']} patches", "value": value}
                    for metric, value in numbers.items()
                ],
            }
        )
    return results


def _number(text: Any) -> float | None:
    try:
        number = float(text)
    except (TypeError, ValueError):
        return None
    return round(number, 4) if abs(number) < float("inf") else None


def front_matter(card: str) -> Any:
    """What stands between the two fences of a model card; None if nothing that can be read."""
    parts = card.split(FENCE, 2)
    try:
        return yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0] else None
    except yaml.YAMLError:
        return None


def _dumped(content: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=1000, default_flow_style=False))


def _list_large(folder: Path) -> list[str]:
    """Write ``large_files.yml``, as ``python -m monai.bundle download_large_files`` reads it, if a file is large."""
    large = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size > LARGE_BYTES]
    if not large:
        return []
    names = [path.relative_to(folder).as_posix() for path in large]
    entries = [
        {"path": name, "url": "", "hash_val": checksum(path), "hash_type": "sha256"}
        for name, path in zip(names, large, strict=True)
    ]
    (folder / LARGE).write_text(_dumped({"large_files": entries}), encoding="utf-8", newline="\n")
    return [
        f"{name} has {path.stat().st_size / 1e6:.0f} MB: the hub takes it as it is; for the zoo upload it, write its "
        f"address as url into {LARGE}, and leave it out of the pull request"
        for name, path in zip(names, large, strict=True)
    ]
