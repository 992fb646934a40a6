"""Deep feature factorisation: a layer's activations as a few concepts, and how strong each is at every place.

Collins et al. 2018 ("Deep Feature Factorization for Concept Discovery"): the activations, a matrix of places by
channels, are nearly the product of two matrices without negative numbers: of each place's concepts, and of each
concept's channels. No class is asked for.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from camjax.core.options import whole_number
from camjax.core.precision import at_least_float32
from camjax.methods.target import MethodError

STEPS = 200
"""Sweeps over maps and vectors, as many as scikit-learn takes at most."""


class Factors(NamedTuple):
    """What activations are made of: `maps[j] * vectors[j]`, summed over the concepts, on top of `lowest`.

    Attributes:
        maps: how strong each concept is at each place, at least 0, in the activations' unit; the concept that explains
            most of them first.
        vectors: each concept's channels, at least 0, of length 1; all 0 for a concept that is nowhere.
        lowest: what was taken away from each channel before, at most 0.
        error: the length of what the factors leave unexplained, over that of what they explain and leave.
    """

    maps: Float[Array, "b concepts *space"]
    vectors: Float[Array, "b concepts c"]
    lowest: Float[Array, "b c"]
    error: Float[Array, " b"]


def factorise(activations: Float[Array, "b *space c"], concepts: int, *, steps: int = STEPS) -> Factors:
    """Factorises each picture's activations by itself.

    Activations that are at least 0, as behind a ReLU, are factorised as they are. Where a channel has negative values,
    its smallest one is taken away from it, in each picture: what is left says how much more there is of it than at the
    place with the least, which a ReLU would not. `activations[None]` is a batch as one picture with an axis more: its
    concepts are those of all pictures together, as in the paper.

    Each sweep solves for one concept's map, or vector, after the other while all else stays (hierarchical alternating
    least squares), so that the error never grows. The start is that of Boutsidis & Gallopoulos 2008 (NNDSVD), which has
    no chance in it.

    Args:
        activations: a layer's, any float dtype; any number of axes between the first and the last.
        concepts: how many; no more than a layer has places, or channels.
        steps: how many sweeps.

    Returns:
        The factors, at least float32.

    Raises:
        MethodError: it is no such number of concepts.
    """
    concepts = checked_concepts(concepts)
    values = activations.astype(at_least_float32(activations.dtype))
    space, channels = values.shape[1:-1], values.shape[-1]
    rows = values.reshape(len(values), math.prod(space), channels)
    if concepts > min(rows.shape[1:]):
        raise MethodError(
            f"concepts must be in 1..{min(rows.shape[1:])} at a layer of {rows.shape[1]} places and {channels} "
            f"channels, not {concepts}"
        )
    lowest = jnp.minimum(rows.min(1), 0)
    maps, vectors, error = jax.vmap(lambda one: _factors(one, concepts, steps))(rows - lowest[:, None])
    return Factors(maps.reshape(len(values), concepts, *space), vectors, lowest, error)


def checked_concepts(concepts: int) -> int:
    """How many concepts, as a Python int.

    Raises:
        MethodError: it is no whole number, or less than one.
    """
    try:
        count = whole_number(concepts)
    except TypeError:
        count = 0
    if count < 1:
        raise MethodError(f"concepts must be a positive whole number, not {concepts!r}")
    return count


def _factors(rows: Float[Array, "places c"], concepts: int, steps: int) -> tuple[Array, Array, Array]:
    """One picture's maps, vectors and error, of what is nowhere negative."""
    largest = rows.max()
    scale = jnp.where(largest > 0, largest, 1)  # squares of what is very small or large leave float32's range
    scaled = rows / scale

    def sweep(_: Array | int, factors: tuple[Array, Array]) -> tuple[Array, Array]:
        maps, vectors = factors
        maps = _solved(maps, vectors, scaled.T)
        return maps, _solved(vectors, maps, scaled)

    maps, vectors = lax.fori_loop(0, steps, sweep, _start(scaled, concepts))
    left = scaled - jnp.dot(maps.T, vectors, precision="highest")
    length = jnp.linalg.norm(scaled)
    error = jnp.where(length == 0, 0, jnp.linalg.norm(left) / jnp.where(length == 0, 1, length))
    lengths = jnp.linalg.norm(vectors, axis=1, keepdims=True)
    vectors, maps = vectors / jnp.where(lengths > 0, lengths, 1), maps * lengths
    order = jnp.argsort(jnp.linalg.norm(maps, axis=1), descending=True, stable=True)
    return scale * maps[order], vectors[order], error


def _solved(
    parts: Float[Array, "concepts n"], others: Float[Array, "concepts m"], values: Float[Array, "m n"]
) -> Array:
    """The parts, each in turn the best beside the others without negative numbers; `others.T @ parts` is `values`."""
    wanted = jnp.dot(others, values, precision="highest")
    gram = jnp.dot(others, others.T, precision="highest")

    def solve(number: Array | int, parts: Array) -> Array:
        own = gram[number, number]
        step = (wanted[number] - jnp.dot(gram[number], parts, precision="highest")) / jnp.where(own > 0, own, 1)
        return parts.at[number].set(jax.nn.relu(parts[number] + step))

    return lax.fori_loop(0, len(parts), solve, parts)


def _start(rows: Float[Array, "places c"], concepts: int) -> tuple[Float[Array, "k places"], Float[Array, "k c"]]:
    """Of each singular pair the positive or the negative parts, whichever say more; LAPACK's signs do not matter."""
    wide = rows.shape[0] <= rows.shape[1]
    short = rows if wide else rows.T
    values, vectors = jnp.linalg.eigh(jnp.dot(short, short.T, precision="highest"))  # the smaller Gram matrix
    left = vectors[:, ::-1].T[:concepts]
    roots = jnp.sqrt(jnp.maximum(values[::-1][:concepts], 0))[:, None]
    right = jnp.dot(left, short, precision="highest") / jnp.where(roots > 0, roots, 1)
    sides = [(jax.nn.relu(sign * left), jax.nn.relu(sign * right)) for sign in (1, -1)]
    weights = [jnp.linalg.norm(ends[0], axis=1) * jnp.linalg.norm(ends[1], axis=1) for ends in sides]
    heavier = (weights[0] >= weights[1])[:, None]
    long, other = (jnp.sqrt(roots) * jnp.where(heavier, sides[0][end], sides[1][end]) for end in (0, 1))
    return (long, other) if wide else (other, long)
