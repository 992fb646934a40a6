"""What a run over any number of pictures keeps of them: sums, which add up over batches, processes and hosts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float


class Sums(NamedTuple):
    """Of numbers, apart for each place of the arrays, such as each method, layer and metric.

    Attributes:
        numbers: how many there were; NaN is none.
        total: their sum.
        squares: the sum of their squares.
    """

    numbers: Float[Array, "*shape"]
    total: Float[Array, "*shape"]
    squares: Float[Array, "*shape"]


def sums_of(values: Float[Array, " n *shape"]) -> Sums:
    """The sums along the first axis; where that is sharded, of all of it."""
    known = ~jnp.isnan(values)
    numbers = jnp.where(known, values, 0)
    return Sums(known.astype(values.dtype).sum(0), numbers.sum(0), (numbers**2).sum(0))


def merged(one: Sums, other: Sums) -> Sums:
    """The sums of the numbers of both."""
    return jax.tree.map(jnp.add, one, other)


def mean(sums: Sums) -> Float[Array, "*shape"]:
    """Of the numbers; NaN of none."""
    return sums.total / jnp.where(sums.numbers == 0, jnp.nan, sums.numbers)


def standard_error(sums: Sums) -> Float[Array, "*shape"]:
    """Of the mean; NaN of fewer than two numbers."""
    spread = jnp.maximum(sums.squares - sums.total * mean(sums), 0)
    return jnp.sqrt(spread / jnp.where(sums.numbers < 2, jnp.nan, sums.numbers * (sums.numbers - 1)))
