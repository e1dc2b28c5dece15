"""What a run costs: FLOP, bytes and passes over the frames of every stage, from the settings' numbers alone.

Pure arithmetic on plain numbers: nothing is computed here, no device is asked. FLOP are those of the layers' shapes, as XLA
counts them: a multiplication and an addition are two, and a 3x3 convolution does nothing outside of the picture. Seconds are
FLOP by the rate that a device reaches, which `Rates` has: measured (stages/plan.py) or tabulated.

Letters: s side of the face in pixels, c channels, L levels.
"""

import itertools
from typing import NamedTuple

from facedyn.core.person_filters import DYNAMIC_REPRESENTATION

# FLOP for each number that a convolution gives, of the group normalisation and the leaky ReLU behind it, by XLA's count.
NORMALISED = 9
# FLOP for each number of a window's frames, of the rank loss and its gradient.
OF_LOSS = 12
# Work of the closed form and its blocks for each row, site and pair of coordinates, in FLOP at the rate of a large product:
# gathering windows, products at lags, whitening. Measured, not counted (benchmarks/plan.py).
OF_SOLVE = 2400
# Numbers that are in memory at once for each number of the finest feature map: in evaluation; with gradients, a level's all.
LIVE, LIVE_WITH_GRADIENTS = 4, 24


class Network(NamedTuple):
    """The U-net: side of the face, channels of its levels, of the frames and maps of its result, bytes of an activation."""

    size: int
    channels: tuple[int, ...]
    image_channels: int = 3
    maps: int = 2
    bytes: int = 4

    @property
    def sides(self) -> tuple[int, ...]:
        """Side of each level's feature map."""
        return tuple(self.size >> level for level in range(len(self.channels)))

    @property
    def pixels(self) -> int:
        """Numbers of a frame."""
        return self.size**2 * self.image_channels


class Rates(NamedTuple):
    """FLOP a second that a device reaches, all of it together, and what it has.

    Attributes:
      forward, backward: in the U-net, evaluated and differentiated.
      simple: in element-by-element work: the rank loss.
      small: in the closed form, beside its U-net.
      products: in the float32 matrix products of the trait heads, on the host.
      frames: decoded frames a second of the host.
      memory: bytes of each device.
      host_memory: bytes.
      devices, cores: how many.
    """

    forward: float
    backward: float
    simple: float
    small: float
    products: float
    frames: float
    memory: float
    host_memory: float
    devices: int = 1
    cores: int = 1

    @property
    def on_host(self) -> bool:
        """Whether the device is the host's own CPU, so that both share memory and cores."""
        return self.memory == self.host_memory


class Stage(NamedTuple):
    """What a stage takes: seconds, FLOP, how often every frame is read, most bytes at once on the host and on a device."""

    name: str
    seconds: float
    flop: float
    passes: float
    host_bytes: float
    device_bytes: float


def convolution(side: int, channels_in: int, channels_out: int) -> int:
    """FLOP of a 3x3 convolution of a square with zeros around, which are not multiplied with."""
    return 2 * channels_in * channels_out * (3 * side - 2) ** 2


def block(side: int, channels_in: int, channels: int) -> int:
    """FLOP of two 3x3 convolutions, each with its normalisation."""
    both = convolution(side, channels_in, channels) + convolution(side, channels, channels)
    return both + 2 * NORMALISED * channels * side**2


def encoder(net: Network) -> int:
    """FLOP of a frame through the encoder.

    >>> encoder(Network(8, (4, 8))) < encoder(Network(16, (4, 8)))
    True
    """
    inputs = (net.image_channels, *net.channels)
    return sum(block(side, c_in, c) for side, c_in, c in zip(net.sides, inputs, net.channels))


def decoder(net: Network, head: bool = True) -> int:
    """FLOP of a frame through the decoder; `head`: also through the 1x1 convolution to the maps."""
    total, levels = 0, list(zip(net.sides, net.channels))
    for (side, c), (deeper, c_deeper) in itertools.pairwise(levels):
        total += 2 * c_deeper * c * deeper**2 + block(side, 2 * c, c)
    return total + head * 2 * net.channels[0] * net.maps * net.pixels


def window_loss(net: Network, half_length: int) -> int:
    """FLOP of the rank loss of a window, and of its gradient by the maps."""
    return OF_LOSS * 2 * half_length * net.pixels


def training_step(net: Network, half_length: int) -> tuple[int, int]:
    """FLOP of a window in pretraining: (U-net forward and backward, rank loss)."""
    return 3 * (encoder(net) + decoder(net)), window_loss(net, half_length)


def filters(net: Network, sites: tuple[str, ...], kind: str) -> int:
    """FLOP of the person filters on one frame."""
    total = 0
    for side, c in (site_shape(net, name) for name in sites):
        total += 2 * side**2 * c * {"depthwise": 9, "full": 9 * c}.get(kind, c)
    return total


def fit_step(net: Network, half_length: int, sites: tuple[str, ...], kind: str, kept: bool) -> tuple[int, int, int]:
    """FLOP of a row in one step through the decoder, encoder's features kept or not: (forward, backward, rank loss).

    The decoder is frozen: only its input is differentiated, which costs as much as evaluating it.
    """
    forward = (not kept) * encoder(net) + decoder(net) + filters(net, sites, kind)
    return forward, decoder(net) + 2 * filters(net, sites, kind), window_loss(net, half_length)


def states(net: Network, sites: tuple[str, ...], rank: int) -> int:
    """FLOP of a frame's states at the sites, from pixels on; of the decoder what lies before the last of them."""
    result = DYNAMIC_REPRESENTATION in sites
    behind = result or any(name.startswith("decoder") for name in sites)
    shapes = [site_shape(net, name) for name in sites]
    return encoder(net) + behind * decoder(net, head=result) + sum(2 * side**2 * c * rank for side, c in shapes)


def solve(rows: int, sites: int, rank: int) -> int:
    """FLOP of a unit's closed form: its normal equations and the other blocks."""
    return OF_SOLVE * rows * sites * rank**2


def gram(rows: int, features: int, folds: int, sets: float) -> float:
    """FLOP of the products of a head's features in every fold, a symmetric half of them, and the factors of `sets` of them."""
    return folds * (float(rows) ** 2 * features + sets * float(rows) ** 3 / 3)


def site_shape(net: Network, name: str) -> tuple[int, int]:
    """(side, channels) of the feature map at a site."""
    if name == DYNAMIC_REPRESENTATION:
        return net.size, net.maps * net.image_channels
    level = len(net.channels) - 1 if name == "bottleneck" else int(name.removeprefix("skip").removeprefix("decoder"))
    return net.sides[level], net.channels[level]


def activations(net: Network, frames: int, gradients: bool) -> int:
    """Bytes of the feature maps of so many frames in one call."""
    finest = net.size**2 * net.channels[0]
    return frames * finest * max(net.bytes, 4) * (LIVE_WITH_GRADIENTS if gradients else LIVE)


def chunk(unit_bytes: float, host_unit_bytes: float, memory: float, host_memory: float, devices: int) -> int:
    """Units that one of the devices fits at once: as many as it has memory for and the host for those of all, at least one.

    >>> chunk(10, 1, 100, 1000, 4), chunk(10, 50, 100, 1000, 4), chunk(200, 1, 100, 1000, 4)
    (10, 5, 1)
    """
    return int(max(1, min(memory // max(1.0, unit_bytes), host_memory // max(1.0, host_unit_bytes * devices))))
