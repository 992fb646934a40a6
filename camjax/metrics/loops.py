"""Asking a network what it says of changed pictures: a chunk of copies at a time, for all maps of a batch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from camjax.methods.classes import at_classes
from camjax.methods.loops import in_chunks
from camjax.methods.target import scores_at

Score = Callable[[Array], Array]
"""`score(images) -> (b, n)`: what a network says, as probabilities or logits, of normalised images `(b, *space, c)` of
any number. It is traced, so it may close over parameters; whoever calls a metric compiles it."""

Copy = Callable[[Int[Array, ""], Int[Array, ""]], Float[Array, "b *space c"]]
"""`copy(map, change)`: every picture, changed in the way of that number because of its map of that number."""


def clean_scores(score: Score, images: Float[Array, "b *space c"], classes: Int[Array, "b k"]) -> Float[Array, "b k"]:
    """The scores of the pictures as they are; NaN for a class that does not exist."""
    return scores_at(score(images), classes)


def scores_of_changed(
    score: Score, copy: Copy, classes: Int[Array, "b k"], changes: int, room: int
) -> Float[Array, "b k changes"]:
    """Each map's own class's score of the copies that are made because of it.

    Args:
        score: the network.
        copy: makes the copies.
        classes: of the maps.
        changes: how many there are for each map.
        room: how many pictures may go through the network at once.

    Returns:
        NaN for a class that does not exist.
    """
    b, k = classes.shape

    def some(numbers: Int[Array, " m"]) -> Float[Array, "m b"]:
        which = numbers // changes
        # The batch's axis goes first, so that a sharded one stays where it is.
        made = jax.vmap(copy, out_axes=1)(which, numbers % changes)
        table = score(made.reshape(b * len(numbers), *made.shape[2:])).reshape(b, len(numbers), -1)
        at: Callable[[Array, Array], Array] = jax.vmap(jax.vmap(at_classes))
        return at(table, classes[:, which, None])[..., 0].T

    found = in_chunks(some, k * changes, max(1, room // b))
    return jnp.moveaxis(found.reshape(k, changes, b), 2, 0)
