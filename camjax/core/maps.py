"""Maps: how they are resized and scaled.

Arrays are `(..., h, w)`, of any float dtype, in any unit.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike
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

    Each axis is one small matrix product, with the weights of `jax.image.resize` applied to the differences between
    neighbouring values. So a constant map stays constant to the bit, and so does every region whose neighbourhood is
    constant: resizing neither breaks ties nor adds a pattern of rounding. Bicubic overshoots: in two dimensions the
    result can leave the range of the input by up to 45 % of it with a = -0.75.

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
    first = maps.ndim - len(size)
    if interpolation == "nearest":
        return jax.image.resize(maps, (*maps.shape[:first], *size), interpolation, antialias=False)
    # One product per axis, which takes the first axis and appends the last one, so that the large result of the last
    # product has its axes in order; `jax.image.resize` of all axes transposes it.
    for side in size:
        if maps.shape[first] == side:  # untouched: a product with the identity would spread infinities
            maps = jnp.moveaxis(maps, first, -1)
            continue
        with_steps = jnp.concatenate([maps, jnp.diff(maps, axis=first)], first)
        weights = _difference_weights(maps.shape[first], side, interpolation, maps.dtype)
        maps = jnp.tensordot(with_steps, weights, (first, 0), precision="highest")
    return maps


def _difference_weights(
    count: int, side: int, interpolation: Interpolation, dtype: np.dtype
) -> Float[Array, "values_and_steps side"]:
    """Returns interpolation weights for `count` values followed by their `count - 1` steps from each to the next.

    Resized value j is `x[n] + sum_i w[i, j] (x[i] - x[n])`, where n is the value of the largest weight, and each
    difference is a sum of steps. Equal neighbours have steps of exactly 0, so that rounding of the weights, whose sum
    may be 0.99999994, cannot change them.
    """
    weights = jax.image.resize(jnp.eye(count, dtype=dtype), (count, side), interpolation, antialias=False)
    nearest = weights.argmax(0)
    # The step from i to i + 1 lies between x[n] and all values behind it, if i >= n, or else all values up to it.
    behind = jnp.cumsum(weights[:0:-1], 0)[::-1]
    up_to = jnp.cumsum(weights[:-1], 0)
    steps = jnp.where(jnp.arange(count - 1)[:, None] >= nearest[None], behind, -up_to)
    return jnp.concatenate([jax.nn.one_hot(nearest, count, dtype=dtype, axis=0), steps])


def rounding_tolerance(dtype: DTypeLike) -> float:
    """Returns the relative difference up to which values of a dtype are equal but for rounding.

    It is 100 times the resolution of float32 (1.2e-5) or of float64, for sums of hundreds of terms, or the resolution
    of a coarser dtype, to which such a sum was rounded once.
    """
    exact, own = (float(jnp.finfo(each).eps) for each in (at_least_float32(dtype), dtype))  # type: ignore[no-untyped-call]
    return max(100 * exact, own)


def is_flat(low: Any, high: Any) -> Any:  # noqa: ANN401
    """Returns whether maps are constant but for rounding, relative to their own magnitude.

    A map of values around 1e-20 is judged like one of values around 1. See `rounding_tolerance`.

    Args:
        low: The smallest value of each map, a JAX or NumPy array of floats.
        high: The largest value of each map, of the same shape and dtype.

    Returns:
        Booleans of the same shape; False where a value is NaN or infinite.
    """
    # Halves, because the difference of two huge values overflows; an infinite difference compares as False.
    half_spread, half_sum = high / 2 - low / 2, abs(high) / 2 + abs(low) / 2
    return (half_spread <= rounding_tolerance(high.dtype) * half_sum / 2) & (half_spread < np.inf)


def min_max_scaled(maps: Float[Array, "*any"], axes: tuple[int, ...]) -> Float[Array, "*any"]:
    """Scales values to [0, 1] by their minimum and maximum over some axes.

    Args:
        maps: Values of any float dtype and unit.
        axes: The axes of one map, over which the extremes are taken.

    Returns:
        The scaled values: zeros for a map that is constant but for rounding (`is_flat`), and NaN everywhere in a map
        with a NaN or an infinity, which has no scale.
    """
    low, high = maps.min(axes, keepdims=True), maps.max(axes, keepdims=True)
    flat = is_flat(low, high)
    # The inner `where` keeps the division, and so its gradient, finite.
    scaled = jnp.where(flat, 0, (maps - low) / jnp.where(flat, 1, high - low))
    # Not asked of the extremes: XLA's minimum of numbers and NaN may be a number.
    return jnp.where(jnp.isfinite(maps).all(axes, keepdims=True), scaled, jnp.nan)


def normalize_maps(maps: Float[Array, "*batch h w"]) -> Float[Array, "*batch h w"]:
    """Applies ReLU and scales each map to [0, 1] by its own minimum and maximum.

    Args:
        maps: Raw maps of any float dtype and unit.

    Returns:
        The normalised maps. A map that is constant but for rounding gives zeros: one whose minimum and maximum differ
        by no more than 1.2e-5 of their size in float32. A map with a NaN or an infinity is NaN everywhere.
    """
    return min_max_scaled(jnp.where(jnp.isfinite(maps), jax.nn.relu(maps), jnp.nan), (-2, -1))


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
