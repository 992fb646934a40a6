"""Sums that a run over any number of images keeps of their numbers; they merge over batches, processes and hosts."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float


class Sums(NamedTuple):
    """What is kept of numbers, apart for each index of the arrays, such as each method, layer and metric.

    Attributes:
        numbers: How many numbers there were; NaN is none.
        total: Sum of the numbers.
        spread: Sum of the squares of their differences from their mean. A sum of squares would lose them beside the
            mean: float32 keeps none of the spread of 1,000 and 1,000.01.
    """

    numbers: Float[Array, "*shape"]
    total: Float[Array, "*shape"]
    spread: Float[Array, "*shape"]


def sums_of(values: Float[Array, " n *shape"]) -> Sums:
    """Sums values along the first axis; where that is sharded, along all of it."""
    known = ~jnp.isnan(values)
    numbers, total = known.astype(values.dtype).sum(0), jnp.where(known, values, 0).sum(0)
    apart = jnp.where(known, values - (total / jnp.maximum(numbers, 1))[None], 0)
    return Sums(numbers, total, (apart**2).sum(0))


def merged(one: Sums, other: Sums) -> Sums:
    """Merges the sums of two sets of numbers (Chan, Golub & LeVeque 1979)."""
    numbers = one.numbers + other.numbers
    apart = jnp.where((one.numbers == 0) | (other.numbers == 0), 0, mean(one) - mean(other))
    between = apart**2 * one.numbers * (other.numbers / jnp.maximum(numbers, 1))
    return Sums(numbers, one.total + other.total, one.spread + other.spread + between)


def mean(sums: Sums) -> Float[Array, "*shape"]:
    """Returns the mean of the numbers; NaN of none."""
    return sums.total / jnp.where(sums.numbers == 0, jnp.nan, sums.numbers)


def standard_error(sums: Sums) -> Float[Array, "*shape"]:
    """Returns the standard error of the mean; NaN of fewer than two numbers."""
    return jnp.sqrt(sums.spread / jnp.where(sums.numbers < 2, jnp.nan, sums.numbers * (sums.numbers - 1)))
