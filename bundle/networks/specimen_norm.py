"""Instance norm with the statistics of one section of a specimen, for all windows and slices that are stained of it.

Instance norm (Ulyanov et al. 2016) takes mean and deviation from the window, so what a grey becomes depends on what
else is in the window: a network that learnt from sections through an implant stains bone black where there is none.
With the statistics of one section that looks as those of the training did, a pixel's stain depends on the source in a
field around it alone, and that field is the same everywhere in the specimen.
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bundle.common.errors import InputError
from bundle.networks.accelerate import Accelerated, Choice
from bundle.networks.halo import HaloInferer
from bundle.networks.layers import is_instance_norm
from bundle.networks.sections import Sections

AT_ONCE = 2**18  # values that are summed in fp32
TILE = 12  # px, which the tiles of 4 and of 6 px divide
LARGEST = 2048  # px a side that one pass learns from; a larger image is learnt in tiles


def moments(x: Tensor, at_once: int = AT_ONCE) -> Tensor:
    """Mean and variance of each channel of (B, C, H, W): (2, C), float64.

    Some rows of pixels at a time, which stay in the cache: a seventh of the time of ``torch.var_mean``.
    """
    rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    shift = rows[:1].float()  # so that a large mean does not hide a small variance
    first = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
    second = torch.zeros_like(first)
    for part in rows.split(max(1, at_once // x.shape[1])):
        away = part.float() - shift
        first += away.sum(0)
        second += (away * away).sum(0)
    mean = first / rows.shape[0]
    return torch.stack([shift[0].double() + mean, (second / rows.shape[0] - mean * mean).clamp(min=0.0)])


class SpecimenNorm(nn.Module):
    """Instance norm without learnt scale that can take mean and deviation from one image, and keep them.

    Until it is told to, it is plain instance norm, to the bit.

    Args:
        channels: of the image.
        eps: added to the variance.
        slope: 0 for a ReLU after it, 1 for none.
    """

    mean: Tensor
    deviation: Tensor
    first: Tensor
    second: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, slope: float = 1.0) -> None:
        super().__init__()
        self.eps, self.slope = eps, slope
        self.learning, self.settled, self.images = False, False, 0.0
        for name in ("mean", "deviation", "first", "second"):  # no part of the weights
            self.register_buffer(name, torch.ones(1, channels, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same; while it learns, B is 1 and the image's own statistics are taken."""
        if not self.learning and not self.settled:
            y = F.group_norm(x, x.shape[1], eps=self.eps)
            return torch.relu_(y) if self.slope == 0.0 else y
        mean, deviation = self.mean, self.deviation
        if self.learning:
            exact, variance = moments(x).view(2, 1, -1, 1, 1).unbind(0)
            self.first, self.second = self.first + exact, self.second + variance + exact * exact
            self.images += 1.0
            mean, deviation = exact.float(), torch.sqrt(variance + self.eps).float()
        y = torch.addcmul(-mean / deviation, x.float(), 1 / deviation).to(x.dtype)
        return torch.relu_(y) if self.slope == 0.0 else y

    @torch.jit.export
    def begin(self) -> None:
        """Learn from the images that follow."""
        self.learning, self.images = True, 0.0
        nothing = torch.zeros_like(self.mean, dtype=torch.float64)
        self.first, self.second = nothing, nothing

    @torch.jit.export
    def learnt(self) -> Tensor:
        """End that; mean and logarithm of the deviation of each channel, (2 C)."""
        self.learning = False
        mean = self.first / self.images
        variance = (self.second / self.images - mean * mean).clamp(min=0.0)
        return torch.cat([mean.flatten(), torch.log(variance + self.eps).flatten() / 2]).float()

    @torch.jit.export
    def settle(self, statistics: Tensor) -> None:
        """Take these (2 C) from now on."""
        mean, deviation = statistics.view(2, 1, -1, 1, 1).unbind(0)
        self.mean, self.deviation, self.settled = mean, torch.exp(deviation), True

    @torch.jit.export
    def unsettle(self) -> None:
        """Be plain instance norm again."""
        self.settled = False


def statistics_of(network: nn.Module) -> int:
    """How many statistics the instance norms of a network have: F."""
    groups = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
    return sum(2 * norm.num_channels for norm in groups if is_instance_norm(norm))


def with_specimen_norms(network: nn.Module, scripted: bool = False) -> tuple[nn.Module, list[Any]]:
    """A copy of a network with :class:`SpecimenNorm` where it has instance norm.

    Args:
        network: a generator, as trained or accelerated.
        scripted: make each norm TorchScript's, so that two modules of a script may have it.

    Returns:
        The copy, and its norms in order.

    Raises:
        InputError: if it has no instance norm.
    """
    own, norms = copy.deepcopy(network), []
    for parent in list(own.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.GroupNorm) and is_instance_norm(child):
                norm: Any = SpecimenNorm(child.num_channels, child.eps, getattr(child, "slope", 1.0))
                norm = norm.to(next(iter(own.state_dict().values())).device)
                setattr(parent, name, torch.jit.script(norm) if scripted else norm)
                norms.append(getattr(parent, name))
            elif hasattr(child, "learnt"):  # of an arithmetic that has norms of its own
                norms.append(child)
    if not norms:
        raise InputError("normalisation is 'specimen', but this network has no instance norm; leave it at 'window'.")
    return own, norms


def tiles(image: Tensor) -> list[Tensor]:
    """An image (1, C, H, W) in equal parts of at most ``LARGEST`` px a side."""
    rows = image.tensor_split(-(-image.shape[2] // LARGEST), 2)
    return [part for row in rows for part in row.tensor_split(-(-image.shape[3] // LARGEST), 3)]


def folded(network: nn.Module, statistics: Tensor) -> nn.Module:
    """A copy of a generator without the norms: what they would do with these statistics is in its convolutions.

    Args:
        network: a generator, as trained.
        statistics: (F), of :meth:`SpecimenNetwork.learn`.
    """
    own, norms = with_specimen_norms(network)
    settle(norms, statistics)
    for parent in own.modules():
        if isinstance(parent, nn.Sequential):
            layers = list(parent.named_children())
            for (_, first), (name, second) in zip(layers, layers[1:], strict=False):
                if isinstance(first, (nn.Conv2d, nn.ConvTranspose2d)) and isinstance(second, SpecimenNorm):
                    _fold(first, second)
                    setattr(parent, name, nn.Identity())
    return own


@torch.no_grad()
def _fold(convolution: nn.Conv2d | nn.ConvTranspose2d, norm: SpecimenNorm) -> None:
    """Let a convolution do the work of the norm after it, in float64 and rounded once."""
    mean, deviation = norm.mean.double().flatten(), norm.deviation.double().flatten()
    offset = 0.0 if convolution.bias is None else convolution.bias.double()
    outputs = (-1, 1, 1, 1) if isinstance(convolution, nn.Conv2d) else (1, -1, 1, 1)
    weight = convolution.weight.double() / deviation.view(outputs)
    convolution.weight = nn.Parameter(weight.to(convolution.weight))
    convolution.bias = nn.Parameter(((offset - mean) / deviation).to(convolution.weight))


def settle(norms: list[Any], statistics: Tensor) -> None:
    """Give norms their part of statistics (F), in order."""
    for norm, part in zip(norms, statistics.split([2 * norm.mean.shape[1] for norm in norms]), strict=True):
        norm.settle(part.to(norm.mean.device))


class SpecimenNetwork(nn.Module):
    """A generator whose instance norms have the statistics of one image.

    Args:
        network: a generator, as :func:`bundle.networks.accelerate.accelerate` gives it; a copy is made.
        learner: the same, to learn with; None for ``exact``, with which those of a training were learnt.
    """

    def __init__(self, network: nn.Module, learner: nn.Module | None = None) -> None:
        super().__init__()
        self._given = (network,)
        own: nn.Module = getattr(network, "exact", network) if learner is None else learner
        self.plain, self.norms = with_specimen_norms(own)
        self.settled: nn.Module | None = None

    @property
    def arithmetic(self) -> str:
        """How it computes, in one line."""
        return getattr(self.settled or self._given[0], "arithmetic", "")

    @torch.no_grad()
    def learn(self, image: Tensor) -> Tensor:
        """What the norms meet in an image.

        Args:
            image: (1, C, H, W) in [−1, 1].

        Returns:
            (F): for each norm the mean of each channel, and the logarithm of its deviation.
        """
        for norm in self.norms:
            norm.begin()
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            for tile in tiles(image.as_subclass(Tensor)):
                self.plain(tile.contiguous(memory_format=torch.channels_last))
        return torch.cat([norm.learnt() for norm in self.norms]).cpu()

    def settle(self, statistics: Tensor) -> None:
        """Take what :meth:`learn` gave from now on."""
        given = self._given[0]
        if isinstance(given, Accelerated):
            self.settled = given.like(folded(given.given, statistics))
        else:
            settle(self.norms, statistics)
            self.settled = self.plain

    @property
    def choice(self) -> Choice | None:
        """Of the arithmetic, where there is one."""
        return getattr(self._given[0], "choice", None)

    def choose(self, x: Tensor) -> None:
        """Choose the arithmetic, see :meth:`bundle.networks.accelerate.Accelerated.choose`; settled networks only."""
        if isinstance(self.settled, Accelerated):
            self.settled.choose(x)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H, W)."""
        return (self.settled or self.plain)(x)


class SpecimenInferer(HaloInferer):
    """Stains each image in windows side by side, all with the statistics of the image as a whole.

    Windows and halos are multiples of ``TILE`` pixels at the network's lowest resolution, so that Winograd's tiles lie
    alike in all of them. Windows of other sizes still round a little otherwise in a deep network: a tile's rounding
    depends on all of its pixels, so that what lies at the end of a halo comes nearer by a tile with each convolution.

    Args:
        window: side of a window at most, px; taken to the multiple below it, if it is not smaller than one.
        reach: of the network, px: beyond it the source does not matter to a pixel if the statistics are given.
        multiple: of the network: px to one at its lowest resolution.
        sections: of the training; None where they are not known.
        with_coord: see :class:`bundle.networks.halo.HaloInferer`.
        progress: likewise.

    Attributes:
        ratio: distance of the images that were stained last from the nearest section, the largest of them, in units of
            what sections usually have from each other; None where they are not known, 0 where that is not.
    """

    ratio: float | None

    def __init__(
        self,
        window: int,
        reach: int,
        multiple: int,
        sections: Sections | None = None,
        with_coord: bool = False,
        progress: bool = False,
    ) -> None:
        grid = TILE * multiple
        window, halo = max(1, window // grid) * grid, math.ceil(reach / grid) * grid
        super().__init__(window, halo, grid, with_coord, progress)
        self.sections, self.ratio = sections, None
        self._own: tuple[nn.Module, SpecimenNetwork] | None = None

    def settled(self) -> HaloInferer:
        """The same for a network that has its statistics already."""
        return HaloInferer(self.window, self.halo, self.multiple, self.with_coord, self.progress)

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Stain images.

        Args:
            inputs: (B, C, H, W) in [−1, 1].
            network: a generator with instance norm.
            args: none.
            kwargs: none.

        Returns:
            (B, C', H, W).
        """
        own, made, far = self._specimen(inputs, network), [], []
        for image in inputs.split(1):
            statistics = own.learn(image)
            own.settle(statistics)
            far.append(self._ratio(statistics))
            made.append(super().__call__(image, own))
        self.ratio = max((each for each in far if each is not None), default=None)
        return torch.cat(made)

    @torch.no_grad()
    def ratio_of(self, image: Tensor, network: Any) -> float | None:
        """What :attr:`ratio` would be if an image (1, C, H, W) in [−1, 1] was stained, without staining it."""
        return self._ratio(self._specimen(image, network).learn(image))

    def _specimen(self, inputs: Tensor, network: Any) -> SpecimenNetwork:
        if self._own is None or self._own[0] is not network:
            learner = None
            if isinstance(network, Accelerated):
                network.choose(inputs)
                learner = network.learner
            self._own = (network, SpecimenNetwork(network, learner))
        return self._own[1]

    def _ratio(self, statistics: Tensor) -> float | None:
        return None if self.sections is None else self.sections.distance(statistics) / self.sections.usual
