"""ADCC (Poppi et al. 2021) and ARCC: one number of several that a map must not be bad in any of."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float


def coherency(maps: Float[Array, "*batch h w"], again: Float[Array, "*batch h w"]) -> Float[Array, "*batch"]:
    """How alike the map is to that of the picture seen through it: Pearson's correlation, as a part of [0, 1].

    Args:
        maps: of any unit.
        again: by the same method, of each picture times its map in [0, 1], at the same class.

    Returns:
        1 for the same map; 0 for a constant one, which shows nothing; NaN for one with a NaN.
    """
    one, other = (_centred(each) for each in (maps, again))
    both = (one * other).sum((-2, -1))
    sizes = jnp.sqrt((one**2).sum((-2, -1)) * (other**2).sum((-2, -1)))
    return jnp.where(sizes == 0, 0, (both / jnp.where(sizes == 0, 1, sizes) + 1) / 2)


def adcc(
    coherency: Float[Array, "*batch"], complexity: Float[Array, "*batch"], drop: Float[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """The harmonic mean of coherency, 1 - complexity and 1 - average drop, in [0, 1]; higher is better.

    Args:
        coherency: see `coherency`.
        complexity: see `camjax.metrics.concentration.mean_size`.
        drop: see `camjax.metrics.faithfulness.confidence`.
    """
    return _harmonic_mean(coherency, 1 - complexity, 1 - drop)


def arcc(
    coherency: Float[Array, "*batch"], complexity: Float[Array, "*batch"], road: Float[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """The harmonic mean of coherency, 1 - complexity and twice ROAD in [0, 1]; higher is better.

    Args:
        coherency: see `coherency`.
        complexity: see `camjax.metrics.concentration.mean_size`.
        road: the combined number of `camjax.metrics.road.road`, of probabilities.
    """
    return _harmonic_mean(coherency, 1 - complexity, jnp.clip(2 * road, 0, 1))


def _harmonic_mean(*parts: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """0 where one part is, which is its limit."""
    product = jnp.stack(parts)
    nothing = (product <= 0).any(0)
    return jnp.where(nothing, 0, len(parts) / (1 / jnp.where(nothing[None], 1, product)).sum(0))


def _centred(maps: Float[Array, "*batch h w"]) -> Float[Array, "*batch h w"]:
    """Without its mean, the largest size 1, so that products leave no float's range; 0 where all are equal."""
    low, high = maps.min((-2, -1), keepdims=True), maps.max((-2, -1), keepdims=True)
    unit = jnp.where(high == low, 0, (maps - low) / jnp.where(high == low, 1, high - low))
    return jnp.where(jnp.isnan(low), jnp.nan, unit - unit.mean((-2, -1), keepdims=True))
