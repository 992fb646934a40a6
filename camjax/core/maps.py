"""Maps: how they are resized and scaled.

Arrays are `(..., h, w)`, of any float dtype, in any unit.
"""

import operator
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from camjax.core.options import whole_number
from camjax.core.precision import at_least_float32

Interpolation = Literal["bicubic-pytorch", "bicubic", "bilinear", "nearest"]
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)

Size = int | Sequence[int]
"""One side for both, or (height, width)."""


def upsample(
    maps: Float[Array, "*batch h w"], size: Size, interpolation: Interpolation = "bicubic-pytorch"
) -> Float[Array, "*batch height width"]:
    """Resizes maps with half-pixel centres and no antialiasing, in float32.

    It is two small matrix products, one an axis, with the weights of `jax.image.resize`. Bicubic overshoots: in two
    dimensions the result can leave the range of the input by up to 45 % of it with a = -0.75.

    Args:
        maps: any float dtype; the last two axes are resized.
        size: `(height, width)`, or one number for both.
        interpolation: `"bicubic-pytorch"` is PyTorch's and OpenCV's (a = -0.75, border pixels repeated), `"bicubic"`
            Pillow's and TensorFlow's (a = -0.5, weights renormalised at the border), `"bilinear"`, or `"nearest"`.

    Raises:
        ValueError: a size is not positive, or an unknown interpolation.
    """
    return resize_space(maps, checked_size(size), interpolation)


def resize_space(
    maps: Float[Array, "*batch_and_space"], size: tuple[int, ...], interpolation: Interpolation = "bilinear"
) -> Float[Array, "*batch_and_size"]:
    """`upsample` of maps with any number of spatial axes: of signals, images, volumes.

    Args:
        maps: any float dtype; the last axes are resized.
        size: of each of these axes.
        interpolation: see `upsample`.

    Raises:
        ValueError: an unknown interpolation.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation {interpolation!r} is not one of {', '.join(INTERPOLATIONS)}")
    # In bfloat16 the interpolation weights themselves would be rounded to three digits.
    maps = maps.astype(at_least_float32(maps.dtype))
    if interpolation == "nearest" or any(map(operator.eq, maps.shape[maps.ndim - len(size) :], size)):
        return jax.image.resize(maps, (*maps.shape[: maps.ndim - len(size)], *size), interpolation, antialias=False)
    # One product an axis, which takes the first axis and gives the last one, so that the large result of the last
    # product is in its place; `jax.image.resize` of all axes transposes it. Only it leaves an axis as it is.
    first = maps.ndim - len(size)
    for side in size:
        before = maps.shape[first]
        identity = jnp.eye(before, dtype=maps.dtype)
        weights = jax.image.resize(identity, (before, side), interpolation, antialias=False)
        maps = jnp.tensordot(maps, weights, (first, 0), precision="highest")
    return maps


def normalize_maps(maps: Float[Array, "*batch h w"]) -> Float[Array, "*batch h w"]:
    """ReLU, then each map scaled to [0, 1] by its own minimum and maximum; a constant map gives zeros, NaN stays."""
    maps = jax.nn.relu(maps)
    low = maps.min((-2, -1), keepdims=True)
    spread = maps.max((-2, -1), keepdims=True) - low
    # The inner `where` keeps the division, and so its gradient, finite.
    return jnp.where(spread == 0, 0, (maps - low) / jnp.where(spread == 0, 1, spread))


def finish(
    maps: Float[Array, "*batch h w"], size: tuple[int, int] | None, interpolation: Interpolation, normalize: bool
) -> Float[Array, "*batch height width"]:
    """Raw maps at the size, and normalised or not, as they were asked for; see `upsample` and `normalize_maps`."""
    if size is not None:
        maps = upsample(maps, size, interpolation)
    return normalize_maps(maps) if normalize else maps


def checked_size(size: Size) -> tuple[int, int]:
    """(height, width) of a size.

    Raises:
        ValueError: it is neither a whole number nor two, or not positive.
    """
    sides = tuple(size) if isinstance(size, Iterable) else (size, size)
    try:
        height, width = map(whole_number, sides)
    except (TypeError, ValueError):
        raise ValueError(f"size must be a positive side, or (height, width), not {size!r}") from None
    if min(height, width) < 1:
        raise ValueError(f"size must be a positive side, or (height, width), not {height} x {width}")
    return height, width
