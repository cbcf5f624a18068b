"""Affine transforms by elastix (Klein et al., IEEE TMI 29(1) 196, 2010), through ITKElastix."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import affine_transform, gaussian_filter

from bundle.common.errors import InputError
from bundle.common.extras import install_line
from bundle.common.machine import cores

BLUR_PX = 1.5  # before the first pixel is compared: consecutive sections share no single nuclei
ITERATIONS, SAMPLES = 250, 3000  # a level; of a rigid climb, which only orders the starts, half
TRANSFORMS = {"rigid": "EulerTransform", "similarity": "SimilarityTransform", "affine": "AffineTransform"}
LEAST_VALID = 0.1  # of the samples that must meet the other slide


def engine() -> Any:
    """ITKElastix, which is large and only needed here.

    Raises:
        InputError: if it is not installed.
    """
    try:
        import itk
    except ImportError:
        itk = None
    if not hasattr(itk, "elastix_registration_method"):
        raise InputError(f"two slides are registered by ITKElastix, which is not installed; {install_line('elastix')}")
    return itk


def find_affine(
    source: np.ndarray,
    target: np.ndarray,
    known: tuple[np.ndarray, np.ndarray],
    start: np.ndarray,
    kind: str = "affine",
    levels: int = 4,
    seed: int = 0,
) -> np.ndarray | None:
    """Refine a start by Mattes' mutual information of two densities.

    Args:
        source: (H, W), density.
        target: (h, w), density, at the same pixel size.
        known: where each may be compared, bool.
        start: (2, 3), row and column on the target = start @ (row, column, 1) on the source, px.
        kind: ``rigid``, ``similarity`` (turn, shift, one scale) or ``affine``.
        levels: of the pyramid, each twice as fine as the one before.
        seed: of the samples.

    Returns:
        (2, 3), as ``start``; None if elastix lost the overlap on the way.
    """
    moved, seen = (
        affine_transform(image.astype(np.float32), start[:, :2], start[:, 2], source.shape, order=1)
        for image in (gaussian_filter(target, BLUR_PX), known[1])
    )
    itk = engine()
    try:
        _, found = itk.elastix_registration_method(
            _image(gaussian_filter(source, BLUR_PX)),
            _image(moved),
            parameter_object=_parameters(kind, levels, seed),
            fixed_mask=itk.image_from_array(known[0].astype(np.uint8)),
            moving_mask=itk.image_from_array((seen > 0.99).astype(np.uint8)),
            log_to_console=False,
            number_of_threads=cores(),
        )
    except RuntimeError:  # too few samples within the masks
        return None
    linear, offset = _of_parameters(found.GetParameterMap(0), kind)
    return np.column_stack([start[:, :2] @ linear, start[:, :2] @ offset + start[:, 2]])


def _image(pixels: np.ndarray) -> Any:
    return engine().image_from_array(np.ascontiguousarray(pixels, np.float32))


def _parameters(kind: str, levels: int, seed: int) -> Any:
    parameters = engine().ParameterObject.New()
    chosen = parameters.GetDefaultParameterMap("affine", levels)
    effort = 2 if kind == "rigid" else 1
    ours = {
        "Transform": [TRANSFORMS[kind]],
        "Metric": ["AdvancedMattesMutualInformation"],
        "MaximumNumberOfIterations": [str(ITERATIONS // effort)],
        "ImageSampler": ["RandomCoordinate"],
        "NumberOfSpatialSamples": [str(SAMPLES // effort)],
        "NewSamplesEveryIteration": ["true"],
        "RequiredRatioOfValidSamples": [str(LEAST_VALID)],
        "AutomaticTransformInitialization": ["false"],
        "ErodeMask": ["false"],
        "WriteResultImage": ["false"],
        "RandomSeed": [str(seed + 1)],
    }
    for name, value in ours.items():
        chosen[name] = value
    parameters.AddParameterMap(chosen)
    return parameters


def _of_parameters(found: Any, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Linear part (2, 2) and offset (2,), rows before columns, of a transform of elastix, which has x before y."""
    values = [float(value) for value in found["TransformParameters"]]
    centre = np.array([float(value) for value in found["CenterOfRotationPoint"]])
    if kind != "affine":
        scale, angle, *shift = values if kind == "similarity" else [1.0, *values]
        linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    else:
        linear, shift = np.array(values[:4]).reshape(2, 2), values[4:]
    offset = centre + shift - linear @ centre
    return linear[::-1, ::-1], offset[::-1]
