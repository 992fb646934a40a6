"""The pass that every method begins with: of the pictures as they are."""

from typing import NamedTuple

from jax import Array
from jaxtyping import Float, Int

from camjax.methods.tail import Look, Tail
from camjax.methods.target import Wanted, chosen_classes, score_table


class Clean(NamedTuple):
    """What the network says of the pictures.

    Attributes:
        tail: what comes after the layer.
        outputs: of the network.
        scores: of all classes.
        classes: those explained.
    """

    tail: Tail
    outputs: Float[Array, "b ..."]
    scores: Float[Array, "b n"]
    classes: Int[Array, "b k"]


def clean_pass(look: Look, wanted: Wanted) -> Clean:
    """One pass of the pictures as they are, and the classes that are explained because of it."""
    tail = look.tail(look.images)
    outputs = tail.run(tail.activations)
    scores = score_table(outputs, wanted.target)
    return Clean(tail, outputs, scores, chosen_classes(scores, wanted))
