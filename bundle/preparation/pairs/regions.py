"""Which regions count for a pair: those its user drew, else a proposal that was shown and approved."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bundle.images.slides import write_slide
from bundle.preparation.pairs.proposal import BACKGROUND, BONE, propose
from bundle.preparation.pairs.registered import FIELD, SOURCE, TARGET, PairImages
from bundle.preparation.pairs.rois import IMAGES, Rois, drawn_rois, read_label_image

PROPOSED = {image: f"proposed_rois_{image}.png" for image in IMAGES}
PROPOSAL = "proposed"
WAYS_OUT = {
    "source": "draw it (rois.json or rois_source.png), or give the means of the whole scan in rois.json "
    '({"source": {"means": {"bone": X, "background": Y}}}; python -m scripts.intensities finds them)',
    "target": "draw it (rois.json or rois_target.png)",
}


def regions_of(folder: Path, images: PairImages, voxel_um: float, faults: list[str]) -> dict[str, Rois]:
    """Take what the user drew and propose the rest; a new proposal is written beside the images.

    Args:
        folder: of the pair.
        images: its images.
        voxel_um: pixel size, µm.
        faults: gets a line for each region that is nowhere to be found.

    Returns:
        The regions of ``source`` and ``target``, inside the field only; a proposal's origin is ``proposed``.

    Raises:
        InputError: if what was drawn, or an edited proposal, makes no sense.
    """
    found = drawn_rois(folder, images.field.shape)
    fresh = up_to_date(folder)
    kept = {image: folder / name for image, name in PROPOSED.items() if fresh and (folder / name).is_file()}
    for image in set(kept) - set(found):  # it may have been edited
        found[image] = Rois(read_label_image(kept[image], images.field.shape), PROPOSAL)
    if len(found) < len(IMAGES):
        made = dict(zip(IMAGES, propose(images.source, images.target, images.field), strict=True))
        for image in [image for image in IMAGES if image not in found]:
            found[image] = Rois(made[image], PROPOSAL)
            if all((made[image] == value).any() for value in (BONE, BACKGROUND)):
                write_slide(folder / PROPOSED[image], made[image][None], voxel_um)
    for image, rois in found.items():
        labels = np.where(images.field, rois.labels, 0).astype(np.uint8)
        found[image] = Rois(labels, rois.origin, rois.means)
        missing = [name for name, area in (("bone", rois.bone), ("background", rois.background)) if not area.any()]
        if rois.means is None and missing and rois.origin == PROPOSAL:
            faults.append(f"{folder.name}: no {' and no '.join(missing)} found in the {image}; {WAYS_OUT[image]}.")
    return found


def up_to_date(folder: Path) -> bool:
    """Whether a pair's proposals were made from the images that are there now."""
    proposals = [folder / name for name in PROPOSED.values() if (folder / name).is_file()]
    images = [folder / name for name in (SOURCE, TARGET, FIELD)]
    if not proposals or not all(path.is_file() for path in images):
        return False
    return min(path.stat().st_mtime_ns for path in proposals) >= max(path.stat().st_mtime_ns for path in images)


def was_shown(folder: Path, page: Path) -> bool:
    """Whether the page was written after a pair's proposals were, or edited proposals approved since."""
    return up_to_date(folder) and page.is_file()
