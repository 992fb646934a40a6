"""The concepts of a layer, and what the network sees in each."""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from camjax.methods.ablation import keep_places
from camjax.methods.factorise import STEPS, factorise
from camjax.methods.tail import Look, Tail
from camjax.methods.target import Wanted, chosen_classes, probabilities_at, score_table


class Concepts(NamedTuple):
    """What a layer's activations are made of, a pytree of arrays.

    Attributes:
        logits: `(b, n)`, what the network gave for the pictures.
        classes: `(b, concepts, k)` int32, those that each concept speaks for, by falling score.
        probabilities: `(b, concepts, k)` float32, by the model's activation where the network looks at that concept
            alone; NaN where the target is not one score a class.
        maps: `(b, concepts, height, width)` float32, at least 0, in the activations' unit; the concept that explains
            most of them first.
        vectors: `(b, concepts, c)` float32, each concept's channels, at least 0, of length 1.
        error: `(b,)` float32 in [0, 1], the part of the activations' length that the concepts leave unexplained.
    """

    logits: Float[Array, "b ..."]
    classes: Int[Array, "b concepts k"]
    probabilities: Float[Array, "b concepts k"]
    maps: Float[Array, "b concepts *space"]
    vectors: Float[Array, "b concepts c"]
    error: Float[Array, " b"]


@dataclasses.dataclass(frozen=True)
class Factorise:
    """Collins et al. 2018 (deep feature factorisation), and the classes that the network sees in each concept.

    The network is asked what it sees where each place of the layer counts by how strong the concept is there, and all
    places together as much as before: the activations are multiplied with the concept's map over its mean. At the
    layer that a pooled linear head reads, this is the head of the mean over the concept's places, so that how much of
    the picture it covers does not matter. Tokens that belong to no place stay. All concepts go through what comes after
    the layer as one batch.

    Attributes:
        concepts: how many.
        steps: of `camjax.methods.factorise.factorise`.
    """

    concepts: int = 5
    steps: int = STEPS

    def __call__(self, look: Look, wanted: Wanted) -> Concepts:
        """As a method does, but for concepts where others explain classes; `wanted.top_k` classes for each."""
        tail = look.tail(look.images)
        factors = factorise(tail.grid(tail.activations), self.concepts, steps=self.steps)
        weighed = by_place(tail)

        def seen_in(shares: Float[Array, " b *space"]) -> tuple[Array, Array]:
            outputs = tail.run(weighed(shares))
            scores = score_table(outputs, wanted.target)
            classes = chosen_classes(scores, wanted)
            return classes, probabilities_at(outputs, wanted, classes)

        classes, probabilities = jax.vmap(seen_in, 1, 1)(_shares(factors.maps))
        logits = tail.run(tail.activations)
        return Concepts(logits, classes, probabilities, factors.maps, factors.vectors, factors.error)


def by_place(tail: Tail) -> Callable[[Float[Array, " b *space"]], Array]:
    """From what each place is multiplied with to the layer where it is; what is at no place stays."""
    like = jax.eval_shape(tail.grid, tail.activations)
    back = jax.linear_transpose(tail.grid, tail.activations)
    space = like.shape[1:-1]
    placeless = keep_places(tail, space)(jnp.zeros(math.prod(space)))

    def weighed(factors: Float[Array, " b *space"]) -> Array:
        (on_layer,) = back(jnp.broadcast_to(factors[..., None], like.shape).astype(like.dtype))
        return tail.activations * (on_layer + placeless)

    return weighed


def _shares(maps: Float[Array, "b concepts *space"]) -> Float[Array, "b concepts *space"]:
    """Each map over its mean; all 0 where it is."""
    means = maps.mean(tuple(range(2, maps.ndim)), keepdims=True)
    return maps / jnp.where(means > 0, means, 1)
