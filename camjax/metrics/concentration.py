"""How much of a map stands in how few pixels. Nothing is asked of the network, so neither says that a map is right."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from camjax.core.maps import normalize_maps
from camjax.metrics.scaling import per_largest


def sparseness(maps: Float[Array, "*batch h w"]) -> Float[Array, "*batch"]:
    """Chalasani et al. 2020: the Gini index of the map's sizes, in [0, 1); higher is more concentrated.

    Returns:
        `1 - 1 / n` for one pixel of n, 0 where all are equal, and so for a map of zeros; NaN for one with a NaN.
    """
    shares = jnp.sort(_shares(maps), axis=-1)
    n = shares.shape[-1]
    weights = (2 * jnp.arange(1, n + 1, dtype=shares.dtype) - n - 1) / n
    return jnp.einsum("...n,n->...", shares, weights, precision="highest")


def entropy(maps: Float[Array, "*batch h w"]) -> Float[Array, "*batch"]:
    """Bhatt et al. 2020, their complexity: the entropy of the map's sizes in nats, in [0, ln n]; lower is simpler.

    Returns:
        0 for one pixel, ln n where all are equal, and so for a map of zeros; NaN for one with a NaN.
    """
    return jax.scipy.special.entr(_shares(maps)).sum(-1)


def mean_size(maps: Float[Array, "*batch h w"]) -> Float[Array, "*batch"]:
    """Poppi et al. 2021, their complexity: the mean of the map scaled to [0, 1]; lower shows less of the picture."""
    return normalize_maps(maps).mean((-2, -1))


def _shares(maps: Float[Array, "*batch h w"]) -> Float[Array, "*batch n"]:
    """Each pixel's part of the sum of sizes; equal parts for a map of zeros."""
    sizes = per_largest(jnp.abs(maps).reshape(*maps.shape[:-2], -1), (-1,))
    sizes = jnp.where((sizes == 0).all(-1, keepdims=True), 1, sizes)
    return sizes / sizes.sum(-1, keepdims=True)
