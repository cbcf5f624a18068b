"""Windows side by side, for networks whose stain of a pixel depends on a field of the source and on nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from monai.inferers import Inferer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from tqdm import tqdm

from bundle.common.errors import InputError
from bundle.networks.threads import share_out

LEAST_READ = 512  # px a side of a square; for fewer pixels PyTorch and oneDNN take other kernels, which round otherwise


class Span(NamedTuple):
    """One side of a window, px.

    Attributes:
        kept: of the image, what the window stains.
        read: of the image, what the network sees for that.
        cut: of what the network makes, what is kept.
    """

    kept: slice
    read: slice
    cut: slice


class HaloInferer(Inferer):
    """Stains an image window by window, each read with a halo that is cut off: the pixels of one pass, none blended.

    Windows are of equal size, as far as a side allows, and begin at multiples of ``multiple``; halos end where the
    image does, so a network's own padding acts there alone, as in one pass. On the CPU each window is computed by one
    thread, unless there are more threads than windows.

    Args:
        window: side of a window at most, px; a multiple of ``multiple``.
        halo: px beyond which the source does not matter to a pixel; a multiple of ``multiple``.
        multiple: of the pixels at which windows must begin.
        with_coord: also give the network the place of each window, as MONAI's ``SlidingWindowInferer`` does.
        progress: show a bar.

    Raises:
        InputError: if ``window`` or ``halo`` is no multiple of ``multiple``.
    """

    def __init__(self, window: int, halo: int, multiple: int, with_coord: bool = False, progress: bool = False) -> None:
        for name, value in (("window", window), ("halo", halo)):
            if value % multiple:
                raise InputError(
                    f"{name} is {value}; windows of this network begin at multiples of {multiple} px, so give "
                    f"{math.ceil(value / multiple) * multiple}."
                )
        self.window, self.halo, self.multiple = window, halo, multiple
        self.with_coord, self.progress = with_coord, progress

    def spans(self, side: int, other: int = LEAST_READ, kept: slice | None = None) -> list[Span]:
        """The windows along one side of an image, in order.

        Args:
            side: its length, px.
            other: length of the image's other side; where it is short, more is read along this one.
            kept: what of the side is to be stained; None for all. The first window begins at a multiple before it.
        """
        begin, end = (0, side) if kept is None else (kept.start // self.multiple * self.multiple, kept.stop)
        least = math.ceil(LEAST_READ**2 / min(other, LEAST_READ) / self.multiple) * self.multiple
        number = math.ceil((end - begin) / self.window)
        size = math.ceil((end - begin) / number / self.multiple) * self.multiple
        spans = []
        for start in range(begin, end, size):
            stop = min(start + size, end)
            first, last = max(0, start - self.halo), min(side, stop + self.halo)
            if last - first < least:
                first = max(0, last - least) // self.multiple * self.multiple
                last = min(side, max(last, first + least))
            spans.append(Span(slice(start, stop), slice(first, last), slice(start - first, stop - first)))
        return spans

    def __call__(
        self,
        inputs: Tensor,
        network: Callable[..., Tensor],
        *args: Any,
        kept: tuple[slice, slice] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Stain images.

        Args:
            inputs: (B, C, H, W).
            network: (1, C, h, w) → (1, C', h, w); called by several threads.
            args: for the network.
            kept: rows and columns to stain; None for all.
            kwargs: for the network.

        Returns:
            (B, C', H, W), or of what is kept.
        """
        inputs = inputs.as_subclass(Tensor)  # MONAI's meta data would be copied with each window
        height, width = inputs.shape[2:]
        down, across = kept or (slice(0, height), slice(0, width))
        rows, columns = self.spans(height, width, down), self.spans(width, height, across)
        top, left = rows[0].kept.start, columns[0].kept.start
        windows = [(image, row, column) for image in range(len(inputs)) for row in rows for column in columns]
        with tqdm(total=len(windows), dynamic_ncols=True, disable=not self.progress) as bar:

            def stain(window: tuple[int, Span, Span]) -> Tensor:
                image, row, column = window
                source = inputs[image : image + 1, :, row.read, column.read]
                place = [slice(image, image + 1), slice(None), row.kept, column.kept]
                made = network(source, *([[place]] if self.with_coord else []), *args, **kwargs)
                bar.update()
                return made[..., row.cut, column.cut].clone()

            alone = inputs.device.type == "cpu" and len(windows) >= torch.get_num_threads()
            parts = share_out(stain, windows) if alone else [stain(window) for window in windows]
        size = (rows[-1].kept.stop - top, columns[-1].kept.stop - left)
        stained = parts[0].new_empty(len(inputs), parts[0].shape[1], *size)
        for (image, row, column), part in zip(windows, parts, strict=True):
            stained[image, :, moved(row.kept, top), moved(column.kept, left)] = part[0]
        return stained[..., down.start - top :, across.start - left :]


def moved(part: slice, origin: int) -> slice:
    """A part of a side, counted from elsewhere."""
    return slice(part.start - origin, part.stop - origin)


class Pointwise(nn.Module):
    """A 1×1 convolution as one matrix product.

    PyTorch takes another kernel for it with one thread than with several, and the two round differently.

    Args:
        convolution: what it replaces.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.register_buffer("weight", convolution.weight.detach().flatten(1).clone())
        self.register_buffer("bias", None if convolution.bias is None else convolution.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H, W), channels last."""
        return F.linear(x.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2)


def rounded_alike(network: nn.Module) -> nn.Module:
    """Replace layers whose rounding depends on the number of threads, in place."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and child.kernel_size == (1, 1) and child.stride == (1, 1):
                setattr(parent, name, Pointwise(child))
    return network
