"""Scores of pictures that were changed for one class each: b x k passes, where a change for all needs b."""

import jax
from jax import Array
from jaxtyping import Float, Int

from camjax.methods.loops import scores_of_images
from camjax.methods.tail import Look
from camjax.methods.target import Target, scores_at


def own_scores(
    look: Look, target: Target, images: Float[Array, "b k *space c"], classes: Int[Array, "b k"]
) -> Float[Array, "b k"]:
    """The score of each class in the copy of the picture that is its own; NaN for one that does not exist.

    Args:
        look: the network and the pictures.
        target: what is explained.
        images: a copy for each class.
        classes: of the copies.
    """
    table = scores_of_images(look, target, images)  # (k, b, n)
    own: Array = jax.vmap(scores_at, (0, 1), 1)(table, classes[:, :, None])
    return own[..., 0]
