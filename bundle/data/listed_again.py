"""A checked dataset as plain JSON, so that a worker need not read all of it again to have it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bundle.data.datalist import SIDES, SPLITS, Datalist, Image, Modality, Pair

FILES = ("source", "target", "mask", "labels", "perfect", "path")  # of a pair or an image
LEFT_OUT = ("checksums", "contents")  # which are of every file


def plain(data: Datalist) -> dict[str, Any]:
    """A dataset as :func:`again` takes it, but for checksums."""
    facts = {name: value for name, value in asdict(data).items() if name not in LEFT_OUT}
    return json.loads(json.dumps({**facts, "folder": data.folder.absolute()}, default=_text))


def _text(path: Path) -> str:
    return str(path.absolute())


def again(facts: Mapping[str, Any]) -> Datalist:
    """The dataset that :func:`plain` was given."""
    sides = {side: Modality(**{**facts[side], "channel_names": tuple(facts[side]["channel_names"])}) for side in SIDES}
    pairs = {split: [Pair(**_with_paths(each)) for each in facts[split]] for split in SPLITS}
    single = {split: [Image(**_with_paths(each)) for each in images] for split, images in facts["single"].items()}
    return Datalist(**{**facts, "folder": Path(facts["folder"]), **sides, **pairs, "single": single})


def _with_paths(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: Path(value) if name in FILES and value is not None else value for name, value in facts.items()}
