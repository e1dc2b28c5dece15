"""The U-net that maps one face frame to its dynamic representation; the only file that knows Flax.

`encode` and `decode` are separate methods, and `decode` hands every feature map on its way to a `tap`: the place where
person filters (or anything else of type array -> array) are put between the layers of a frozen model.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

Tap = Callable[[str, jax.Array], jax.Array]


def no_tap(site: str, h: jax.Array) -> jax.Array:
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
    def __call__(self, h):  # [B, H, W, C] -> [B, H, W, C]
        channels = h.shape[-1]
        gain = self.param("gain", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        h32 = h.astype(jnp.float32)
        mean, second = h32.mean((1, 2)), jnp.square(h32).mean((1, 2))  # [B, C]

        def over_group(m):
            by_group = m.reshape(m.shape[0], self.groups, channels // self.groups).mean(-1, keepdims=True)
            return jnp.broadcast_to(by_group, (*by_group.shape[:2], channels // self.groups)).reshape(m.shape)

        mean, second = over_group(mean), over_group(second)
        scale = gain * jax.lax.rsqrt(jnp.maximum(second - jnp.square(mean), 0) + self.epsilon)
        shift = bias - mean * scale
        return (h32 * scale[:, None, None] + shift[:, None, None]).astype(h.dtype)


def convolve(h, kernel):  # [B, H, W, C], [3, 3, C, D] -> [B, H, W, D]
    """3x3 convolution with zeros around."""
    return jax.lax.conv_general_dilated(h, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


# Doubled places 2i and 2i + 1 are copies of place i: row [a, y] sums the taps of phase a that fall on neighbour y.
_PHASES = np.asarray([[[1, 0, 0], [0, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 0], [0, 0, 1]]], np.float32)


def convolve_doubled(h, kernel):  # [B, H, W, C], [3, 3, C, D] -> [B, 2H, 2W, D]
    """`convolve` of h after nearest-neighbour doubling, without doubling it.

    The four phases of the output are one convolution at the lower resolution with four times the channels (sub-pixel
    convolution, Shi et al. 2016): as many operations, but on few wide channels, where both CPU and GPU are at their best.
    """
    (b, height, width, c), d = h.shape, kernel.shape[-1]
    small = jnp.einsum("ayi,bxj,ijcd->yxcabd", _PHASES, _PHASES, kernel).astype(h.dtype).reshape(3, 3, c, 4 * d)
    phases = convolve(h, small).reshape(b, height, width, 2, 2, d)
    return phases.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * height, 2 * width, d)


class Conv(nn.Module):
    """3x3 convolution without bias, of h [B, H, W, C] joined with `below` [B, H/2, W/2, C'] doubled, where there is one."""

    channels: int

    @nn.compact
    def __call__(self, h, below=None):
        upper = 0 if below is None else below.shape[-1]
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, 3, upper + h.shape[-1], self.channels))
        joined = convolve(h, kernel[:, :, upper:].astype(h.dtype))
        return joined if below is None else joined + convolve_doubled(below, kernel[:, :, :upper])


class Block(nn.Module):
    """Two 3x3 convolutions, each with group normalisation and leaky ReLU; the first also takes what comes from below."""

    channels: int
    groups: int

    @nn.compact
    def __call__(self, h, below=None):
        for source in (below, None):
            h = nn.leaky_relu(GroupNorm(self.groups)(Conv(self.channels)(h, source)), 0.1)
        return h


def halve(h):  # [B, H, W, C] -> [B, H/2, W/2, C]
    """Mean over 2x2 places."""
    b, height, width, c = h.shape
    return h.reshape(b, height // 2, 2, width // 2, 2, c).mean((2, 4), dtype=h.dtype)


class UNet(nn.Module):
    """Frame -> dynamic representation, both image-shaped.

    Attributes:
      channels: a level each, from full resolution down; the last is the bottleneck.
      groups: of GroupNorm; lowered to a divisor where a level has fewer channels.
      maps: maps of the dynamic representation: 2 (before and after the centre frame) or 1.
      image_channels: C of the frames and of every map.
      dtype: of the activations; parameters and output are float32.
    """

    channels: tuple[int, ...]
    groups: int = 8
    maps: int = 2
    image_channels: int = 3
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        groups = [next(g for g in range(min(self.groups, c), 0, -1) if c % g == 0) for c in self.channels]
        self.encoder = [Block(c, g) for c, g in zip(self.channels, groups)]
        self.decoder = [Block(c, g) for c, g in zip(self.channels[:-1], groups[:-1])]
        # A narrower map before upsampling: two thirds of the decoder's work at full resolution.
        self.narrow = [nn.Conv(c, (1, 1), use_bias=False, dtype=self.dtype) for c in self.channels[:-1]]
        self.head = nn.Conv(self.maps * self.image_channels, (1, 1), dtype=jnp.float32)

    def encode(self, frames):
        """Frames [B, H, W, C], uint8 or floats in [0, 1] -> features, a tuple of [B, H/2^l, W/2^l, channels[l]].

        The last is the bottleneck, the others the skips. Raises ValueError when H or W cannot be halved often enough.
        """
        factor = 2 ** (len(self.channels) - 1)
        if frames.shape[1] % factor or frames.shape[2] % factor:
            raise ValueError(
                f"Frames of {frames.shape[1]}x{frames.shape[2]} cannot go through {len(self.channels)} levels: "
                f"height and width must be multiples of {factor}."
            )
        h = ((frames / 255.0 if frames.dtype == jnp.uint8 else frames) - 0.5).astype(self.dtype)
        features = []
        for level, block in enumerate(self.encoder):
            h = block(h if level == 0 else halve(h))
            features.append(h)
        return tuple(features)

    def decode(self, features, tap: Tap = no_tap):
        """Features -> dynamic representation [B, maps, H, W, C], float32.

        `tap(site, h)` sees, and may replace, every feature map at the sites 'bottleneck', 'skip<l>' (before it joins
        the decoder at level l) and 'decoder<l>' (after the decoder's block of level l).
        """
        h = tap("bottleneck", features[-1])
        for level in reversed(range(len(self.channels) - 1)):
            skip = tap(f"skip{level}", features[level])
            h = self.decoder[level](skip, self.narrow[level](h))
            h = tap(f"decoder{level}", h)
        maps = self.head(h.astype(jnp.float32))  # [B, H, W, maps * C]
        maps = maps.reshape(*maps.shape[:-1], self.maps, self.image_channels)
        return jnp.moveaxis(maps, -2, 1)

    def __call__(self, frames):
        return self.decode(self.encode(frames))


def init(model: UNet, key: jax.Array, image_size: int):
    """Fresh parameters of `model` for square frames of `image_size` pixels.

    Kernels are normal with variance 1 / fan-in (LeCun et al. 1998), gains one, biases zero. All kernels come from one
    draw: as a draw each, they cost half a minute of compilation on CPU.
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


def encode(model: UNet, params, frames):
    """See UNet.encode."""
    return model.apply(params, frames, method="encode")


def decode(model: UNet, params, features, tap: Tap = no_tap):
    """See UNet.decode."""
    return model.apply(params, features, tap, method="decode")
