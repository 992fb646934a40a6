"""ADCC (Poppi et al. 2021) and ARCC: one number of several that a map must not be bad in any of."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from camjax.metrics.scaling import pearson, unit_range


def coherency(maps: Float[Array, "*batch h w"], again: Float[Array, "*batch h w"]) -> Float[Array, "*batch"]:
    """How alike the map is to that of the picture seen through it: Pearson's correlation, as a part of [0, 1].

    Args:
        maps: of any unit.
        again: by the same method, of each picture times its map in [0, 1], at the same class.

    Returns:
        1 for the same map; 0 for a constant one, which shows nothing; NaN for one with a NaN.
    """
    one, other = (each.reshape(*each.shape[:-2], -1) for each in (maps, again))
    correlation = pearson(one, other)
    constant = jnp.any(jnp.stack([jnp.all(unit_range(each, (-1,)) == 0, -1) for each in (one, other)]), 0)
    return jnp.where(constant & ~jnp.isnan(correlation), 0, (correlation + 1) / 2)


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
