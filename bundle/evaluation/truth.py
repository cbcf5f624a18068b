"""Is the stain right? Measures against tissue labels, which only a phantom or a segmentation has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt, gaussian_filter, gaussian_laplace
from skimage.feature import peak_local_max
from skimage.measure import label as connected

SPOT_SIGMA_PX = 1.2  # a lacuna of 10 to 25 µm at 5 µm pixels is 2 to 5 px wide
SPOT_CONTRAST = 0.06  # optical density; docs/phantom.md says what it finds in perfect stains
REACH_PX = 2.0  # a spot this close to a lacuna is that lacuna; registration is not better
EDGE_PX = 2  # of the degradation layer, left out when cells are counted: its borders are dark
BAND_UM = 100.0  # around the true degradation layer; farther pixels of its colour are another fault
ENOUGH_PX = 50  # to know a tissue's colour
SMOOTHING_PX = 0.7  # before a pixel's colour is classified
NEEDED = ("bone", "new bone", "lacuna", "degradation layer")  # names in a datalist's ``tissues``
HEADINGS = {
    "lacunae_recall": "lacunae recall ↑",
    "lacunae_precision": "lacunae precision ↑",
    "lacunae_chance": "lacunae recall by chance",
    "lacunae_above_chance": "lacunae above chance ↑",
    "false_cells_per_mm2": "false cells ↓ (per mm²)",
    "layer_boundary_um": "layer boundary error ↓ (µm)",
    "new_bone_precision": "new bone precision ↑",
    "new_bone_recall": "new bone recall ↑",
    "correlation": "brightness correlation ↑",
    "seam_index": "seam index ↓ (1 = none)",
}
DIGITS = {"false_cells_per_mm2": 0, "layer_boundary_um": 1}  # of the others, 2
EXPLAINED = {
    "lacunae_recall": "share of the lacunae that show as a dark spot within 2 px",
    "lacunae_precision": "share of the dark spots in bone that are a lacuna",
    "lacunae_chance": "the recall that as many spots would have if they lay anywhere in the bone",
    "lacunae_above_chance": "recall less that by chance: 0 for a blurred picture (no spots) and for noise (many)",
    "false_cells_per_mm2": "dark spots in the degradation layer, which has no cells",
    "layer_boundary_um": "mean distance between the outlines of the true layer and of what has its colour",
    "new_bone_precision": "share of what has new bone's colour that is new bone",
    "new_bone_recall": "share of the new bone that has its colour",
    "correlation": "of brightness with the real section; negative means inverted intensities",
    "seam_index": "change across the borders of inference windows, over that beside them",
}
MEASURES = tuple(HEADINGS)
JUDGED_TOO = ("real section", "perfect stain")  # by the same measures, for comparison


def darkness(image: np.ndarray) -> np.ndarray:
    """Mean optical density of an RGB image, −log10(RGB / 255), (3, H, W) uint8 → (H, W) float."""
    return -np.log10(np.maximum(image, 1) / 255.0).mean(0)


def dark_spots(image: np.ndarray, contrast: float = SPOT_CONTRAST) -> np.ndarray:
    """Centres of small dark spots: peaks of the scaled Laplacian of Gaussian of optical density.

    Args:
        image: (3, H, W), uint8.
        contrast: least response, optical density.

    Returns:
        (N, 2), rows and columns, px.
    """
    response = -(SPOT_SIGMA_PX**2) * gaussian_laplace(darkness(image), SPOT_SIGMA_PX, mode="nearest")
    return peak_local_max(response, min_distance=1, threshold_abs=contrast, exclude_border=False)


def lacunae_found(
    image: np.ndarray, lacunae: np.ndarray, bone: np.ndarray, contrast: float = SPOT_CONTRAST
) -> tuple[float | None, float | None, float | None]:
    """How many lacunae show as dark spots, and how many dark spots in bone are lacunae.

    Spots lie close to lacunae by chance too: n spots anywhere in bone of A px find one whose surroundings have a px
    with probability 1 − (1 − a/A)ⁿ.

    Args:
        image: (3, H, W), uint8.
        lacunae: (H, W), bool; each connected region of at least 2 px is one lacuna.
        bone: (H, W), bool, the bone they lie in.
        contrast: see :func:`dark_spots`.

    Returns:
        Recall, precision, and recall by chance, 0 to 1; None where there is no lacuna, or no spot.
    """
    regions = connected(lacunae)
    sizes = np.bincount(regions.ravel())
    wanted = [number for number in range(1, len(sizes)) if sizes[number] >= 2]
    spots = dark_spots(image, contrast)
    away, nearest = distance_transform_edt(~lacunae, return_indices=True)
    at = tuple(spots.T)
    close = away[at] <= REACH_PX
    hit = set(regions[tuple(nearest[(slice(None), *at)])][close].tolist())
    recall = len(hit & set(wanted)) / len(wanted) if wanted else None
    ground = bone | lacunae
    inside = ground[at]
    precision = float(close[inside].mean()) if inside.any() else None
    if not wanted:
        return recall, precision, None
    around = np.bincount(regions[tuple(nearest)][ground & (away <= REACH_PX)], minlength=len(sizes))[wanted]
    chance = 1 - (1 - around / ground.sum()) ** inside.sum()
    return recall, precision, float(chance.mean())


def false_cells_per_mm2(
    image: np.ndarray, layer: np.ndarray, pixel_um: float, contrast: float = SPOT_CONTRAST
) -> float | None:
    """Dark spots per mm² in the degradation layer, which has no cells (§3).

    Args:
        image: (3, H, W), uint8.
        layer: (H, W), bool.
        pixel_um: pixel size.
        contrast: see :func:`dark_spots`.

    Returns:
        Spots per mm²; None if nothing is left of the layer without its edge.
    """
    inner = binary_erosion(layer, iterations=EDGE_PX)
    if not inner.any():
        return None
    return float(inner[tuple(dark_spots(image, contrast).T)].sum() / (inner.sum() * (pixel_um / 1000) ** 2))


class TissueColours:
    """Tells tissues apart by colour: a normal distribution of RGB for each, learnt from labelled stains.

    Args:
        pairs: (stain (3, H, W) uint8, labels (H, W), mask (H, W) bool) of each training pair.
        tissues: the label values of each tissue; tissues with fewer than 50 px stay unknown.

    Attributes:
        tissues: as given.
        names: those whose colour is known, in the order of the class numbers.
    """

    def __init__(
        self, pairs: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], tissues: Mapping[str, Sequence[int]]
    ) -> None:
        self.tissues = dict(tissues)
        pixels: dict[str, list[np.ndarray]] = {name: [] for name in tissues}
        for stain, labels, mask in pairs:
            colours = _smooth(stain)
            for name, values in tissues.items():
                # without the edge, where misregistration mixes tissues
                region = binary_erosion(np.isin(labels, values), iterations=EDGE_PX) & mask
                pixels[name].append(colours[:, region])
        joined = {name: np.concatenate(parts, axis=1) for name, parts in pixels.items() if parts}
        self.names = [name for name, colours in joined.items() if colours.shape[1] >= ENOUGH_PX]
        self.means = [np.median(joined[name], axis=1) for name in self.names]
        self.precisions, self.offsets = [], []
        for name, mean in zip(self.names, self.means, strict=True):
            away = joined[name] - mean[:, None]
            kept = away[:, np.abs(away).max(0) <= np.quantile(np.abs(away).max(0), 0.9)]
            covariance = np.cov(kept) + 4.0 * np.eye(3)
            self.precisions.append(np.linalg.inv(covariance))
            self.offsets.append(np.linalg.slogdet(covariance)[1])

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What it learnt, by name."""
        known = {name: np.array(getattr(self, name)) for name in ("means", "precisions", "offsets")}
        return {"names": np.array(self.names, dtype=str), **known}

    @classmethod
    def kept(cls, arrays: Mapping[str, np.ndarray], tissues: Mapping[str, Sequence[int]]) -> TissueColours:
        """One that learnt what :attr:`arrays` of another had, of the same tissues."""
        made = cls.__new__(cls)
        made.tissues, made.names = dict(tissues), arrays["names"].tolist()
        made.means, made.precisions, made.offsets = (list(arrays[name]) for name in ("means", "precisions", "offsets"))
        return made

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Classify each pixel, (3, H, W) uint8 → (H, W) numbers into ``names``."""
        colours = _smooth(image)
        scores = []
        for mean, precision, offset in zip(self.means, self.precisions, self.offsets, strict=True):
            away = colours - mean[:, None, None]
            scores.append(np.einsum("ihw,ij,jhw->hw", away, precision, away) + offset)
        return np.argmin(scores, axis=0)

    def region(self, image: np.ndarray, tissue: str) -> np.ndarray:
        """Where an image shows a tissue, (H, W) bool."""
        return self(image) == self.names.index(tissue) if tissue in self.names else np.zeros(image.shape[1:], bool)


def _smooth(image: np.ndarray) -> np.ndarray:
    return gaussian_filter(image.astype(np.float64), (0, SMOOTHING_PX, SMOOTHING_PX))


def boundary_error_um(found: np.ndarray, true: np.ndarray, pixel_um: float) -> float | None:
    """Mean distance between the outlines of a found and a true region, both ways.

    Args:
        found: (H, W), bool; what lies farther than 100 µm from ``true`` is left out.
        true: (H, W), bool.
        pixel_um: pixel size.

    Returns:
        µm; inf if nothing is found, None if there is nothing to find.
    """
    if not true.any():
        return None
    found = found & (distance_transform_edt(~true) * pixel_um <= BAND_UM)
    if not found.any():
        return float("inf")
    outlines = [region & ~binary_erosion(region, border_value=1) for region in (found, true)]
    if not all(outline.any() for outline in outlines):
        return 0.0 if np.array_equal(found, true) else float("inf")
    there = distance_transform_edt(~outlines[1])[outlines[0]]
    back = distance_transform_edt(~outlines[0])[outlines[1]]
    return float(np.concatenate([there, back]).mean() * pixel_um)


def precision_recall(found: np.ndarray, true: np.ndarray) -> tuple[float | None, float | None]:
    """Share of what was found that is there, and of what is there that was found; None for a share of nothing."""
    right = float((found & true).sum())
    return (right / found.sum() if found.any() else None, right / true.sum() if true.any() else None)


def correlation(image: np.ndarray, real: np.ndarray, mask: np.ndarray) -> float:
    """Pearson correlation of brightness inside a mask; negative when the intensities are inverted (§3.1).

    Args:
        image: (3, H, W), uint8.
        real: (3, H, W), uint8.
        mask: (H, W), bool.

    Returns:
        −1 to 1; 0 if one of them is of one brightness.
    """
    pair = np.stack([one.mean(0)[mask] for one in (image, real)])
    spread = pair.std(1)
    return float(np.corrcoef(pair)[0, 1]) if spread.all() else 0.0


def window_borders(size: int, window: int, step: int) -> list[int]:
    """Where sliding windows begin or end inside an image side, px."""
    last = max(size - window, 0)
    starts = [*range(0, last, step), last]
    return sorted(edge for edge in {*starts, *(start + window for start in starts)} if 0 < edge < size)


def seam_index(image: np.ndarray, window: int, step: int) -> float | None:
    """How much stronger an image changes across window borders than elsewhere: 1 when no seam shows.

    Ratio of the mean absolute difference between neighbouring pixels across borders to that within 8 px of
    them, rows and columns together.

    Args:
        image: (3, H, W), uint8.
        window: side of the inference window, px.
        step: between windows, px.

    Returns:
        The ratio; None if one window covers the image.
    """
    across, beside = [], []
    for axis in (1, 2):
        change = np.abs(np.diff(image.astype(float), axis=axis)).mean(axis=(0, 3 - axis))
        borders = [edge - 1 for edge in window_borders(image.shape[axis], window, step)]
        near = np.zeros(change.size, bool)
        near[borders] = True
        around = binary_dilation(near, iterations=8) & ~near
        across.append(change[near])
        beside.append(change[around])
    lines = np.concatenate(across)
    return float(lines.mean() / max(np.concatenate(beside).mean(), 1e-9)) if lines.size else None


def measure(
    image: np.ndarray,
    real: np.ndarray,
    mask: np.ndarray,
    labels: np.ndarray | None,
    colours: TissueColours,
    pixel_um: float,
) -> dict[str, float | None]:
    """All measures of one slide but the seams.

    Args:
        image: (3, H, W), uint8, the stain to judge.
        real: (3, H, W), uint8, the section.
        mask: (H, W), bool; nothing outside counts.
        labels: (H, W), uint8; None leaves what needs them as None.
        colours: of the dataset's tissues.
        pixel_um: pixel size.

    Returns:
        By name of ``MEASURES``; None for what is not defined here, for example recall without a lacuna.
    """
    values: dict[str, float | None] = dict.fromkeys(MEASURES)
    values["correlation"] = correlation(image, real, mask)
    if labels is None:
        return values
    true = {name: np.isin(labels, colours.tissues.get(name, ())) & mask for name in NEEDED}
    bone = true["bone"] | true["new bone"]
    found = lacunae_found(image, true["lacuna"], bone)
    values["lacunae_recall"], values["lacunae_precision"], values["lacunae_chance"] = found
    if found[0] is not None and found[2] is not None:
        values["lacunae_above_chance"] = found[0] - found[2]
    values["false_cells_per_mm2"] = false_cells_per_mm2(image, true["degradation layer"], pixel_um)
    layer = colours.region(image, "degradation layer") & mask
    values["layer_boundary_um"] = boundary_error_um(layer, true["degradation layer"], pixel_um)
    new_bone = colours.region(image, "new bone") & mask & ~true["lacuna"]
    values["new_bone_precision"], values["new_bone_recall"] = precision_recall(new_bone, true["new bone"])
    return values
