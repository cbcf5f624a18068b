"""Rays through a coloured volume: what is in front hides what is behind, by the opacity of each voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.ndimage import gaussian_filter, maximum_filter

STEP = 0.5  # of the smallest voxel side, between samples; 1 leaves rings on smooth surfaces
REFERENCE = 256  # alpha is reached along 1/256 of the longest side, so that a finer copy looks the same, or a voxel
OPAQUE = 0.995  # a ray ends there: what is behind adds less than one grey level
BLOCK = 4  # voxels, side of the blocks that a ray passes unread where nothing is to be seen
DARKEST = 0.5  # of a surface turned from the light
SHADED = 24.0  # change of alpha per voxel from which a surface is shaded in full
LIGHT = (-0.45, -0.65, -1.0)  # right, down, away: from above, left, behind the viewer


@dataclass(frozen=True)
class Camera:
    """A view along parallel rays; vectors are in (z, y, x).

    Attributes:
        right: (3,), of one unit of length.
        down: (3,), likewise.
        away: (3,), from the viewer into the volume.
    """

    right: np.ndarray
    down: np.ndarray
    away: np.ndarray

    @classmethod
    def at(cls, azimuth: float, elevation: float) -> Camera:
        """A camera that has gone round from where a slice is seen as it lies in the stack, slice 0 in front.

        Args:
            azimuth: degrees to the right, towards large x.
            elevation: degrees upwards, towards small y.
        """
        a, e = np.radians([azimuth, elevation])
        away = np.array([np.cos(e) * np.cos(a), np.sin(e), -np.cos(e) * np.sin(a)])
        right = np.array([np.sin(a), 0.0, np.cos(a)])
        down = np.array([-np.sin(e) * np.cos(a), np.cos(e), np.sin(e) * np.sin(a)])
        return cls(right, down, away)

    def on_screen(self, points: np.ndarray) -> np.ndarray:
        """Where points (…, 3) in (z, y, x) are seen: (…, 2), right and down, in the same unit."""
        return points @ np.stack([self.right, self.down], axis=1)


def opacities(step: float, clear: int) -> np.ndarray:
    """Opacity of one sample by alpha: ``1 − (1 − a)^step``, ``a = (alpha − clear) / (255 − clear)``, at least 0.

    Args:
        step: path length of the sample over the length along which alpha is reached.
        clear: alpha (0–254) up to which all is transparent: bare glass is not quite white, and would fog.

    Returns:
        (1021,), float32, for alpha in quarters.
    """
    share = np.clip((np.arange(4 * 255 + 1) / 4 - clear) / (255 - clear), 0, 1)
    return (1 - (1 - share) ** step).astype(np.float32)


def busy_blocks(rgb: np.ndarray, clear: int) -> np.ndarray:
    """Where a ray must look: blocks of ``BLOCK`` voxels a side that hold alpha over ``clear``, or a neighbour does.

    Args:
        rgb: (Z, Y, X, 3), uint8.
        clear: as of :func:`opacities`.

    Returns:
        (Z / BLOCK, Y / BLOCK, X / BLOCK), rounded up, bool.
    """
    shape: tuple[int, ...] = rgb.shape[:3]
    seen = np.empty(shape, bool)
    for plane, colours in zip(seen, rgb, strict=True):
        np.less(_sum(colours), 3 * (255 - clear), out=plane)
    padded = np.pad(seen, [(0, -size % BLOCK) for size in shape])
    z, y, x = (-(-size // BLOCK) for size in shape)
    blocks = padded.reshape(z, BLOCK, y, BLOCK, x, BLOCK).any(axis=(1, 3, 5))
    return maximum_filter(blocks, 3)  # colours between voxels are of both


def _sum(rgb: np.ndarray) -> np.ndarray:
    """Of the three channels, (…, 3) uint8 → (…), uint16; numpy's own sum takes several times as long."""
    total = rgb[..., 0].astype(np.uint16)
    total += rgb[..., 1]
    total += rgb[..., 2]
    return total


def shades(rgb: np.ndarray, voxel_um: np.ndarray, camera: Camera) -> np.ndarray:
    """How bright each voxel is in the light: 255 where alpha is even or falls towards the light.

    Args:
        rgb: (Z, Y, X, 3), uint8.
        voxel_um: (3,), along (z, y, x).
        camera: the light comes from above, left, behind it.

    Returns:
        (Z, Y, X), uint8.
    """
    smooth = np.empty(rgb.shape[:3], np.float32)
    for plane, colours in zip(smooth, rgb, strict=True):
        np.divide(_sum(colours), np.float32(3), out=plane)
    smooth = gaussian_filter(smooth, [min(1.0, voxel_um.min() / size) for size in voxel_um], mode="nearest")
    light = np.array(LIGHT) @ np.stack([camera.right, camera.down, camera.away])
    light /= np.linalg.norm(light)
    scale = voxel_um.min() / voxel_um
    shade = np.empty(smooth.shape, np.uint8)
    for z in range(len(smooth)):  # plane by plane: whole gradients would take three float copies
        low, high = max(z - 1, 0), min(z + 1, len(smooth) - 1)
        steepness = [(smooth[high] - smooth[low]) / max(high - low, 1)]
        steepness += [
            np.gradient(smooth[z], axis=axis) if smooth.shape[axis + 1] > 1 else 0 * smooth[z] for axis in (0, 1)
        ]
        # brightness rises out of a surface, so its gradient is the outward normal
        normal = [part * factor for part, factor in zip(steepness, scale, strict=True)]
        length = np.sqrt(sum(part**2 for part in normal))
        facing = sum(part * towards for part, towards in zip(normal, light, strict=True)) / np.maximum(length, 1e-6)
        dark = (1 - DARKEST) * np.minimum(length / SHADED, 1) * (1 - np.maximum(facing, 0))
        shade[z] = np.rint(255 * (1 - dark))
    return shade


@njit(nogil=True, cache=True)
def cast(
    rgb: np.ndarray,
    shade: np.ndarray,
    busy: np.ndarray,
    opacity: np.ndarray,
    voxel: np.ndarray,
    cut: np.ndarray,
    origin: np.ndarray,
    right: np.ndarray,
    down: np.ndarray,
    away: np.ndarray,
    step: float,
    top: int,
    height: int,
    width: int,
) -> np.ndarray:
    """Composite a volume front to back along parallel rays.

    ``C ← C + (1 − A) o c``, ``A ← A + (1 − A) o`` at samples ``step`` apart, colours ``c`` linear between voxels. A
    surface where a ray enters the volume, or leaves the part cut away, is a cut through it and is not shaded.

    Args:
        rgb: (Z, Y, X, 3), uint8.
        shade: (Z, Y, X), uint8, factor of the colour; 255 is 1.
        busy: as of :func:`busy_blocks`.
        opacity: (1021,), of a sample, by alpha in quarters.
        voxel: (3,), size of a voxel along (z, y, x), in the unit of what follows.
        cut: (2, 3), lower and upper corner of the part cut away; nothing where the lower is not below the upper.
        origin: (3,), where the ray of pixel (0, 0) starts, in front of the volume; 0 is its outer corner.
        right: (3,), to the next column.
        down: (3,), to the next row.
        away: (3,), unit vector along the rays.
        step: distance of samples.
        top: row of the picture to begin with.
        height: how many rows.
        width: columns of the picture.

    Returns:
        (H, W, 4), float32: colour times opacity (0–255), and opacity (0–1).
    """
    picture = np.zeros((height, width, 4), np.float32)
    sizes = np.array(rgb.shape[:3])
    point = np.empty(3)
    low = np.empty(3, np.int64)
    share = np.empty(3)
    for row in range(height):
        for column in range(width):
            start = origin + (top + row) * down + column * right
            near, far = -1e30, 1e30
            for axis in range(3):
                extent = sizes[axis] * voxel[axis]
                if abs(away[axis]) > 1e-9:
                    first, last = -start[axis] / away[axis], (extent - start[axis]) / away[axis]
                    near, far = max(near, min(first, last)), min(far, max(first, last))
                elif not 0 <= start[axis] < extent:
                    far = -1e30
            red = green = blue = covered = 0.0
            entered = 0.0  # how far the ray has been in what is left of the volume
            at = near + step / 2
            while at < far and covered < OPAQUE:
                inside = True
                for axis in range(3):
                    point[axis] = start[axis] + at * away[axis]
                    inside = inside and cut[0, axis] < point[axis] < cut[1, axis]
                at += step
                if inside:
                    entered = 0.0
                    continue
                for axis in range(3):
                    index = min(max(point[axis] / voxel[axis] - 0.5, 0.0), sizes[axis] - 1.0)
                    low[axis] = min(int(index), max(sizes[axis] - 2, 0))
                    share[axis] = index - low[axis]
                if not busy[low[0] // BLOCK, low[1] // BLOCK, low[2] // BLOCK]:
                    entered += step
                    continue
                r = g = b = lit = 0.0
                for corner in range(8):
                    weight = 1.0
                    z, y, x = low
                    if corner & 1:
                        weight *= share[0]
                        z += 1
                    else:
                        weight *= 1 - share[0]
                    if corner & 2:
                        weight *= share[1]
                        y += 1
                    else:
                        weight *= 1 - share[1]
                    if corner & 4:
                        weight *= share[2]
                        x += 1
                    else:
                        weight *= 1 - share[2]
                    if weight > 0:  # so that an axis of one voxel has no second
                        r += weight * rgb[z, y, x, 0]
                        g += weight * rgb[z, y, x, 1]
                        b += weight * rgb[z, y, x, 2]
                        lit += weight * shade[z, y, x]
                one = opacity[int(4 * (255 - (r + g + b) / 3) + 0.5)] * (1 - covered)
                if one > 0:
                    uncut = min(entered / (4 * step), 1.0)
                    factor = one * (1 + uncut * (lit / 255 - 1))
                    red += factor * r
                    green += factor * g
                    blue += factor * b
                    covered += one
                entered += step
            picture[row, column, 0] = red
            picture[row, column, 1] = green
            picture[row, column, 2] = blue
            picture[row, column, 3] = covered
    return picture
