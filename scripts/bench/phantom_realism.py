"""Grey levels, noise and resolution of a µCT slice as numbers, to hold a phantom beside a real scan.

``python -m scripts.bench.phantom_realism FILE@VOID,BONE ...`` prints a row of docs/phantom.md for each file. VOID and
BONE are the file's grey values of background and bone, read off its histogram; a phantom's are 10000 and 30000.
"""

from __future__ import annotations

from pathlib import Path

import fire
import numpy as np
from scipy.ndimage import binary_erosion, gaussian_filter, map_coordinates

from bundle.images.slides import read_slide

PATCH = 24  # side of the squares in which noise is measured, px


def flattest(image: np.ndarray, count: int = 12) -> list[np.ndarray]:
    """The squares of the slice with the least structure above the noise, slopes taken out."""
    squares = []
    for top in range(0, image.shape[0] - PATCH, PATCH // 2):
        for left in range(0, image.shape[1] - PATCH, PATCH // 2):
            square = image[top : top + PATCH, left : left + PATCH]
            if square.std() > 0:
                squares.append((gaussian_filter(square, 3).std() / square.std(), square.std(), square))
    squares.sort(key=lambda entry: entry[0])
    return [square - gaussian_filter(square, 8) for _, _, square in squares[:count]]


def noise(image: np.ndarray) -> tuple[float, float, float]:
    """Standard deviation (bone = 1), mean frequency of the noise power (cycles/px), neighbours' correlation."""
    squares = flattest(image)
    window = np.outer(np.hanning(PATCH), np.hanning(PATCH))
    power = np.mean([np.abs(np.fft.fft2(square * window)) ** 2 for square in squares], axis=0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(PATCH), np.fft.fftfreq(PATCH)))
    rings = np.arange(1, PATCH // 2 + 1) / PATCH
    radial = np.array([power[np.abs(frequency - ring) < 0.5 / PATCH].mean() for ring in rings])
    beside = np.mean([np.corrcoef(square[:, 1:].ravel(), square[:, :-1].ravel())[0, 1] for square in squares])
    return float(np.mean([square.std() for square in squares])), float(rings @ radial / radial.sum()), float(beside)


def edge_width(image: np.ndarray, count: int = 400) -> float:
    """Median 10–90 % width of the strongest edges, px: profiles along the gradient, averaged over 5 px."""
    smooth = gaussian_filter(image, 1.0)
    down, right = np.gradient(smooth)
    strength = np.hypot(down, right)
    strength[:12], strength[-12:], strength[:, :12], strength[:, -12:] = 0, 0, 0, 0
    strength[~binary_erosion(image != image[0, 0], iterations=10)] = 0
    rows, columns = np.unravel_index(np.argsort(strength.ravel())[::-1][: count * 4 : 4], image.shape)
    along = np.linspace(-8, 8, 161)
    widths = []
    for row, column in zip(rows, columns, strict=True):
        unit = np.array([down[row, column], right[row, column]]) / strength[row, column]
        beside = np.array([-unit[1], unit[0]])
        places = np.array([row, column])[:, None, None] + unit[:, None, None] * along[None, :, None]
        places = places + beside[:, None, None] * np.arange(-2, 3)[None, None, :]
        profile = map_coordinates(image, places.reshape(2, -1), order=1).reshape(along.size, -1).mean(1)
        low, high = profile[:30].mean(), profile[-30:].mean()
        if high - low > 0.3:
            share = (profile - low) / (high - low)
            middle = np.abs(share - 0.5)[60:101].argmin() + 60
            below = np.flatnonzero(share[:middle] < 0.1)
            above = np.flatnonzero(share[middle:] > 0.9)
            if below.size and above.size:
                widths.append((above[0] + middle - below[-1]) * 0.1)
    return float(np.median(widths))


def main(*files: str) -> None:
    """Print a table row a file.

    Args:
        files: greyscale slices, each with its two grey values.
    """
    print("| slice | grey quantiles 5, 25, 50, 75, 95 % | bone spread | noise | frequency | neighbours | edge px |")
    print("|---|---|---|---|---|---|---|")
    for given in files:
        file, values = given.split("@")
        void, bone = map(float, values.split(","))
        image = read_slide(Path(file)).pixels[0].astype(np.float64)
        scaled = (image - void) / (bone - void)
        smooth = gaussian_filter(scaled, 1.5)
        solid = (smooth > 0.7) & (smooth < 1.3)
        shown = scaled[image != image[0, 0]]
        quantiles = ", ".join(f"{value:.2f}" for value in np.quantile(shown, (0.05, 0.25, 0.5, 0.75, 0.95)))
        deviation, frequency, beside = noise(scaled)
        print(
            f"| {'/'.join(Path(file).parts[-2:])} | {quantiles} | {scaled[solid].std():.2f} | {deviation:.3f} | "
            f"{frequency:.2f} | {beside:.2f} | {edge_width(scaled):.1f} |"
        )


if __name__ == "__main__":
    fire.Fire(main)
