"""The U-net that maps one face frame to its dynamic representation; the only file that knows Flax.

`encode` and `decode` are separate methods, and `decode` hands every feature map on its way to a `tap`: the place where
person filters (or anything else of type array -> array) are put between the layers of a frozen model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32, PRNGKeyArray, PyTree, Real

from facedyn.core.shapes import AnyArray

Tap = Callable[[str, AnyArray], AnyArray]
Frames: TypeAlias = Real[AnyArray, "B H W C"]
# Finest first.
Features: TypeAlias = tuple[Float[AnyArray, "B _ _ _"], ...]


def no_tap(site: str, h: AnyArray) -> AnyArray:
    """Leaves every feature map as it is."""
    return h


class GroupNorm(nn.Module):
    """Group normalisation (Wu & He 2018) by two moments a channel and one fused scale and shift.

    Equal to normalising reshaped groups, without the reshapes, which cost a third of a training step on CPU. The
    moments are taken in float32 whatever the input's type.
    """

    groups: int
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, h: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        channels = h.shape[-1]
        gain = self.param("gain", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        h32 = h.astype(jnp.float32)
        mean, second = h32.mean((1, 2)), jnp.square(h32).mean((1, 2))  # [B, C]

        def over_group(m):
            by_group = m.reshape(m.shape[0], self.groups, channels // self.groups).mean(-1, keepdims=True)
            return jnp.broadcast_to(by_group, (*by_group.shape[:2], channels // self.groups)).reshape(m.shape)

        mean, second = over_group(mean), over_group(second)
        scale = gain[None] * jax.lax.rsqrt(jnp.maximum(second - jnp.square(mean), 0) + self.epsilon)
        shift = bias[None] - mean * scale
        return (h32 * scale[:, None, None] + shift[:, None, None]).astype(h.dtype)


def convolve(h: Float[Array, "B H W C"], kernel: Float[Array, "3 3 C D"]) -> Float[Array, "B H W D"]:
    """3x3 convolution with zeros around, in the form that suits the hardware it is compiled for."""
    return jax.lax.platform_dependent(h, kernel, cpu=_convolve_columns, default=_convolve)


def _convolve(h: Float[Array, "B H W C"], kernel: Float[Array, "3 3 C D"]) -> Float[Array, "B H W D"]:
    return jax.lax.conv_general_dilated(h, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


# Channels that fill a vector register of a CPU.
CPU_CHANNELS = 16


@jax.custom_vjp
def _convolve_columns(h: Float[Array, "B H W C"], kernel: Float[Array, "3 3 C D"]) -> Float[Array, "B H W D"]:
    """`_convolve`, neighbouring columns at once where it has few channels.

    m columns of D channels are one column of m * D channels, of a convolution with a wider kernel and a stride of m: a third
    more operations (m = 2), at twice the speed.
    """
    (b, height, width, c), d = h.shape, kernel.shape[-1]
    m = math.gcd(width, max(1, CPU_CHANNELS // d))
    if m == 1:
        return _convolve(h, kernel)
    wide = jnp.stack([jnp.pad(kernel, ((0, 0), (j, m - 1 - j), (0, 0), (0, 0))) for j in range(m)], 3)
    wide = wide.reshape(3, m + 2, c, m * d)
    layouts = "NHWC", "HWIO", "NHWC"
    found = jax.lax.conv_general_dilated(h, wide, (1, m), padding=((1, 1), (1, 1)), dimension_numbers=layouts)
    return found.reshape(b, height, width, d)


def _convolve_columns_forward(h, kernel):
    return _convolve_columns(h, kernel), (h, kernel)


def _convolve_columns_backward(saved, cotangent):
    h, kernel = saved
    # The transpose of a strided convolution would be a dilated one, which is slow on CPU; this one is ours again.
    dh = _convolve_columns(cotangent, kernel[::-1, ::-1].swapaxes(2, 3))
    return dh, jax.vjp(partial(_convolve, h), kernel)[1](cotangent)[0]


_convolve_columns.defvjp(_convolve_columns_forward, _convolve_columns_backward)


class Conv(nn.Module):
    """3x3 convolution without bias."""

    channels: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, h: Float[Array, "B H W C"]) -> Float[Array, "B H W D"]:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, 3, h.shape[-1], self.channels))
        return convolve(h.astype(self.dtype), kernel.astype(self.dtype))


class Block(nn.Module):
    """Two 3x3 convolutions, each with group normalisation and leaky ReLU."""

    channels: int
    groups: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, h: Float[Array, "B H W C"]) -> Float[Array, "B H W D"]:
        for _ in range(2):
            h = Conv(self.channels, self.dtype)(h)
            h = nn.leaky_relu(GroupNorm(self.groups)(h), 0.1)
        return h


def halve(h: Float[Array, "B H W C"]) -> Float[Array, "B H//2 W//2 C"]:
    """Mean over 2x2 places."""
    b, height, width, c = h.shape
    return h.reshape(b, height // 2, 2, width // 2, 2, c).mean((2, 4), dtype=h.dtype)


def double(h: Float[Array, "B H W C"]) -> Float[Array, "B 2*H 2*W C"]:
    """Nearest-neighbour upsampling."""
    b, height, width, c = h.shape
    return jnp.broadcast_to(h[:, :, None, :, None], (b, height, 2, width, 2, c)).reshape(b, 2 * height, 2 * width, c)


class UNet(nn.Module):
    """Frame -> dynamic representation, both image-shaped.

    Attributes:
      channels: a level each, from full resolution down; the last is the bottleneck.
      groups: of GroupNorm; lowered to a divisor where a level has fewer channels.
      maps: maps of the dynamic representation: 2 (before and after the centre frame) or 1.
      image_channels: C of the frames and of every map.
      dtype: of the activations; parameters and output are float32.

    >>> model = UNet((4, 8), groups=2, image_channels=1)
    >>> params = init(model, jax.random.key(0), image_size=8)
    >>> decode(model, params, encode(model, params, jnp.zeros((3, 8, 8, 1)))).shape
    (3, 2, 8, 8, 1)
    """

    channels: tuple[int, ...]
    groups: int = 8
    maps: int = 2
    image_channels: int = 3
    dtype: DTypeLike = jnp.float32

    if TYPE_CHECKING:  # Flax freezes every module and gives it a hash; its annotations do not say so

        def __hash__(self) -> int: ...

    def setup(self) -> None:
        block = partial(Block, dtype=self.dtype)
        groups = [next(g for g in range(min(self.groups, c), 0, -1) if c % g == 0) for c in self.channels]
        self.encoder = [block(c, g) for c, g in zip(self.channels, groups)]
        self.decoder = [block(c, g) for c, g in zip(self.channels[:-1], groups[:-1])]
        # A narrower map before upsampling: two thirds of the decoder's work at full resolution.
        self.narrow = [nn.Conv(c, (1, 1), use_bias=False, dtype=self.dtype) for c in self.channels[:-1]]
        self.head = nn.Conv(self.maps * self.image_channels, (1, 1), dtype=jnp.float32)

    def encode(self, frames: Frames) -> Features:
        """Frames, uint8 or floats in [0, 1] -> features, [B, H/2^l, W/2^l, channels[l]] of each level l.

        The last is the bottleneck, the others the skips. Raises ValueError when H or W cannot be halved often enough.
        """
        factor = 2 ** (len(self.channels) - 1)
        if frames.shape[1] % factor or frames.shape[2] % factor:
            raise ValueError(
                f"Frames of {frames.shape[1]}x{frames.shape[2]} cannot go through {len(self.channels)} levels: "
                f"height and width must be multiples of {factor}."
            )
        pixels = jnp.asarray(frames)
        h = ((pixels / 255.0 if pixels.dtype == jnp.uint8 else pixels) - 0.5).astype(self.dtype)
        features = []
        for level, block in enumerate(self.encoder):
            h = block(h if level == 0 else halve(h))
            features.append(h)
        return tuple(features)

    def decode(self, features: Features, tap: Tap = no_tap) -> Float32[Array, "B M H W C"]:
        """Features -> dynamic representation.

        `tap(site, h)` sees, and may replace, every feature map at the sites 'bottleneck', 'skip<l>' (before it joins
        the decoder at level l), 'decoder<l>' (after the decoder's block of level l) and 'dynamic_representation' (the
        result, its maps side by side as channels: [B, H, W, maps * C]).
        """
        h = tap("bottleneck", features[-1])
        for level in reversed(range(len(self.channels) - 1)):
            skip = tap(f"skip{level}", features[level])
            h = self.decoder[level](jnp.concatenate([double(self.narrow[level](h)), skip], -1))
            h = tap(f"decoder{level}", h)
        maps = tap("dynamic_representation", self.head(h.astype(jnp.float32)))  # [B, H, W, maps * C]
        maps = maps.reshape(*maps.shape[:-1], self.maps, self.image_channels)
        return jnp.moveaxis(maps, -2, 1)

    def __call__(self, frames: Frames) -> Float32[Array, "B M H W C"]:
        return self.decode(self.encode(frames))


@partial(jax.jit, static_argnums=(0, 2))
def init(model: UNet, key: PRNGKeyArray, image_size: int) -> PyTree:
    """Fresh parameters of `model` for square frames of `image_size` pixels.

    Kernels are normal with variance 1 / fan-in (LeCun et al. 1998), gains one, biases zero. All kernels come from one
    draw: as a draw each, they cost half a minute of compilation on CPU. One program, since a kernel each is one to compile.
    """
    frames = jax.ShapeDtypeStruct((1, image_size, image_size, model.image_channels), jnp.float32)
    shapes = jax.eval_shape(model.init, key, frames)
    sizes = [leaf.size if leaf.ndim > 1 else 0 for leaf in jax.tree.leaves(shapes)]
    pieces = iter(jnp.split(jax.random.normal(key, (sum(sizes),)), np.cumsum(sizes)[:-1]))

    def fresh(path, leaf):
        piece = next(pieces)
        if leaf.ndim > 1:
            return piece.reshape(leaf.shape) * np.prod(leaf.shape[:-1]) ** -0.5
        return jnp.ones(leaf.shape) if path[-1].key == "gain" else jnp.zeros(leaf.shape)

    return jax.tree_util.tree_map_with_path(fresh, shapes)


def encode(model: UNet, params: PyTree, frames: Frames) -> Features:
    """See UNet.encode."""
    return cast(Features, model.apply(params, frames, method="encode"))


def decode(model: UNet, params: PyTree, features: Features, tap: Tap = no_tap) -> Float32[Array, "B M H W C"]:
    """See UNet.decode."""
    return cast(Array, model.apply(params, features, tap, method="decode"))


def feature_maps(model: UNet, params: PyTree, frames: Frames) -> dict[str, Float[Array, "B _ _ _"]]:
    """Every feature map that a tap sees, by site. Under jit, what is not used is not computed."""
    found = {}

    def keep(site, h):
        found[site] = h
        return h

    decode(model, params, encode(model, params, frames), keep)
    return found


def pooled_features(model: UNet, params: PyTree, frames: Frames) -> Float32[Array, " features"]:
    """Mean of skips and bottleneck over places and frames, side by side."""
    return jnp.concatenate([h.astype(jnp.float32).mean((0, 1, 2)) for h in encode(model, params, frames)])
