"""Maps and samples without their unit: what is left of them when a factor and an offset do not count.

A map's unit is arbitrary, so that a metric of its shape must not change when the map is multiplied by 1e-30 or 1e30,
whose squares leave the range of float32. Values that are equal but for rounding have no shape, since their spread would
be noise scaled to the full range.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from camjax.core.maps import min_max_scaled


def unit_range(values: Float[Array, "*shape"], axes: tuple[int, ...]) -> Float[Array, "*shape"]:
    """Scales values to [0, 1] by their minimum and maximum.

    Args:
        values: Numbers of any unit and size.
        axes: Axes along which the numbers belong together, such as those of a map.

    Returns:
        What `camjax.core.maps.min_max_scaled` gives, also for values of 1e-38 and 1e38: 0 where all are equal but for
        rounding, NaN where one is NaN or infinite.
    """
    return min_max_scaled(per_largest(values, axes), axes)


def per_largest(values: Float[Array, "*shape"], axes: tuple[int, ...]) -> Float[Array, "*shape"]:
    """Divides values by the largest of their sizes.

    Args:
        values: Numbers of any unit and size.
        axes: Axes along which the numbers belong together, such as those of a map.

    Returns:
        Values in [-1, 1] but for rounding; zeros stay zeros, and all are NaN where one is NaN or infinite.
    """
    largest = jnp.abs(values).max(axes, keepdims=True)
    # Asked of the values: on a CPU, XLA's maximum of many numbers loses a NaN among them (seen in jaxlib 0.10.2).
    finite = jnp.isfinite(values).all(axes, keepdims=True)
    # In two steps: the inverse of a number above 1e38 is below what float32 holds.
    scale = jax.lax.rsqrt(jnp.where(largest == 0, 1, largest))
    return jnp.where(finite, values * scale * scale, jnp.nan)


def pearson(one: Float[Array, "*batch n"], other: Float[Array, "*batch n"]) -> Float[Array, "*batch"]:
    """Computes Pearson's correlation along the last axis.

    Args:
        one: Samples of any unit and size.
        other: Samples of any unit and size, as many.

    Returns:
        A number in [-1, 1]; 0 where one of both is constant but for rounding, NaN where one has a NaN.
    """
    first, second = (unit - unit.mean(-1, keepdims=True) for unit in (unit_range(each, (-1,)) for each in (one, other)))
    sizes = jnp.sqrt((first**2).sum(-1)) * jnp.sqrt((second**2).sum(-1))
    return (first * second).sum(-1) / jnp.where(sizes == 0, 1, sizes)
