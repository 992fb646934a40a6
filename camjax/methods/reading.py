"""Which tokens a transformer's head reads, and how much of each: where rollouts of attention begin."""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from camjax.core.precision import at_least_float32

PARALLEL = 1e-3
"""Gradients point the same way up to this part of their length: bfloat16 turns them by about 1e-6 of it."""


def reading_weights(slopes: Float[Array, "b n c"], prefix: int) -> Float[Array, "b n"]:
    """Returns the part that each token has in what the head reads, from the gradients of a score at the tokens.

    Tokens whose gradients point in the same direction, or in opposite ones, are read by the same weights of the head:
    they are pooled, and each one's part in the pool is the 2-norm of its gradient. Of tokens that are read by other
    weights the norms say nothing, since a head may scale each of its inputs as it likes; every such pool has the same
    part in the whole. So the result is exactly

    - 1 at the class token where the head reads that alone,
    - equal for all patches where the head reads their mean, and for the class token too where that is in the mean,
    - 1/2 at each of two tokens that have heads of their own (DeiT's distilled networks),
    - 1/2 at the class token and 1/2 shared by the patches where the head reads the class token and the patches' mean
      side by side (DINOv2).

    Where the patches' own gradients point in different directions, the head weighs them by their values (maximum or
    attention pooling), and the part of each token, those of the prefix too, is its norm.

    Args:
        slopes: The gradients of a score with respect to the tokens that the head reads, of any float dtype and scale.
        prefix: The number of tokens before those that lie on the image.

    Returns:
        The parts, at least float32: not negative, their sum is 1. A token that the score does not depend on has exactly
        0. All are 0 where the score depends on none, and NaN where a gradient is not finite. They are constants: no
        gradient goes through them.
    """
    slopes = lax.stop_gradient(slopes.astype(at_least_float32(slopes.dtype)))
    # The largest first, so that squares of tiny or huge gradients stay in a float's range.
    largest = jnp.abs(slopes).max((1, 2), keepdims=True)
    slopes = slopes / jnp.where(largest == 0, 1, largest)
    sizes = _sizes(slopes)
    grid, grid_sizes = slopes[:, prefix:], sizes[:, prefix:]
    # The patches' direction is that of the largest gradient among them.
    strongest = jnp.take_along_axis(grid, grid_sizes.argmax(1)[:, None, None], 1)
    length = _sizes(strongest)[..., None]
    direction = strongest / jnp.where(length == 0, 1, length)
    along = jnp.abs(jnp.einsum("bnc,boc->bn", grid, direction, precision="highest"))
    linear = (along >= (1 - PARALLEL) * grid_sizes).all(1)
    # What is read: each token of the prefix, and all patches together. Those in one pool share the pool's total.
    reads = jnp.concatenate([slopes[:, :prefix], direction], 1)
    lengths = _sizes(reads)
    products = jnp.abs(jnp.einsum("bpc,bqc->bpq", reads, reads, precision="highest"))
    in_one_pool = products >= (1 - PARALLEL) * lengths[:, :, None] * lengths[:, None]
    in_one_pool = in_one_pool | ~linear[:, None, None]
    read_sizes = jnp.concatenate([sizes[:, :prefix], grid_sizes.sum(1, keepdims=True)], 1)
    totals = jnp.where(in_one_pool, read_sizes[:, None], 0).sum(-1)
    totals = jnp.where(totals == 0, 1, totals)
    pools = (read_sizes / totals).sum(1, keepdims=True)  # their number
    totals = jnp.concatenate([totals[:, :prefix], jnp.broadcast_to(totals[:, prefix:], grid_sizes.shape)], 1)
    parts = sizes / totals / jnp.where(pools == 0, 1, pools)
    return jnp.where(jnp.isfinite(sizes).all(1, keepdims=True), parts, jnp.nan)


def _sizes(slopes: Float[Array, "b m c"]) -> Float[Array, "b m"]:
    return jnp.linalg.norm(slopes, axis=-1)
