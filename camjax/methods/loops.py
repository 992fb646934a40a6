"""Asking a network hundreds of times, a few at a time: copies of the pictures, or of a layer, that are made in a loop.

All copies never exist at once. One pass gives every class's score, so k classes cost what one does.
"""

import math
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from camjax.core.canonical import one_by_one
from camjax.methods.tail import Look, Tail
from camjax.methods.target import Target, score_table

T = TypeVar("T")


def in_chunks(function: Callable[[Int[Array, " m"]], T], count: int, most: int) -> T:
    """`function` of the numbers 0 to count, at most so many at a time.

    Args:
        function: of numbers; its results begin with their axis.
        count: how many numbers.
        most: how many at a time.

    Returns:
        The results of all numbers.
    """
    numbers, _ = chunks_of(count, most)
    found = one_by_one(function, numbers)
    return jax.tree.map(lambda array: array.reshape(numbers.size, *array.shape[2:])[:count], found)


def chunks_of(count: int, most: int) -> tuple[Int[Array, "chunks m"], Float[Array, "chunks m"]]:
    """The numbers 0 to count in chunks as equal as can be, so that their program is compiled once.

    Returns:
        The numbers, the last one again where the last chunk has room for more; and 1 for each that is the first of its
        kind, else 0.
    """
    chunks = math.ceil(count / most)
    numbers = jnp.arange(chunks * math.ceil(count / chunks)).reshape(chunks, -1)
    return jnp.minimum(numbers, count - 1), (numbers < count).astype(jnp.float32)


def scores_of_copies(
    look: Look, target: Target, copies: Callable[[Int[Array, " m"]], Float[Array, "b m *space c"]], count: int
) -> Float[Array, "count b n"]:
    """Every class's score of changed copies of the pictures.

    Args:
        look: the network and the pictures.
        target: what is explained.
        copies: makes those of some numbers.
        count: how many there are of each picture.
    """
    return in_chunks(lambda numbers: scores_of_images(look, target, copies(numbers)), count, at_a_time(look))


def scores_of_images(look: Look, target: Target, images: Float[Array, "b m *space c"]) -> Float[Array, "m b n"]:
    """Every class's score of copies of the pictures, all at once."""
    b, m = images.shape[:2]
    # The batch's axis goes first, so that a sharded one stays where it is.
    tail = look.tail(images.reshape(b * m, *images.shape[2:]))
    table = score_table(tail.run(tail.activations), target)
    return jnp.moveaxis(table.reshape(b, m, -1), 1, 0)


def scores_of_changes(
    look: Look, tail: Tail, target: Target, changed: Callable[[Int[Array, ""]], Array], count: int
) -> Float[Array, "count b n"]:
    """Every class's score where the layer is changed; only what comes after it is computed again.

    Args:
        look: the network and the pictures.
        tail: what comes after the layer.
        target: what is explained.
        changed: makes the layer's array of one number.
        count: how many there are.
    """

    def scores(numbers: Int[Array, " m"]) -> Float[Array, "m b n"]:
        return jax.vmap(lambda number: score_table(tail.run(changed(number)), target))(numbers)

    return in_chunks(scores, count, at_a_time(look))


def at_a_time(look: Look) -> int:
    """How many copies of every picture of the batch go through the network at once."""
    return max(1, look.room() // look.images.shape[0])
