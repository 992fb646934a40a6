"""Gradient methods: all k classes for one pass through the network and one batched pass back to the layer.

A method is a rule (`camjax.methods.rules`) and, where
it explains something else than a class's score, what is pulled back in its place.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int

from camjax.core.maps import resize_space
from camjax.core.relu import guided
from camjax.core.result import CamResult
from camjax.core.sharding import varying_like
from camjax.methods.rules import Rule
from camjax.methods.tail import Look, Tail
from camjax.methods.target import MethodError, Wanted, answer, chosen_classes, score_table

Cotangents = Callable[[Float[Array, "b n"], Int[Array, "b k"]], Float[Array, "b k n"]]
"""`cotangents(scores, classes)`: which sum of the scores is explained for each class."""


def one_hot(scores: Float[Array, "b n"], classes: Int[Array, "b k"]) -> Float[Array, "b k n"]:
    """The class's own score."""
    return jax.nn.one_hot(classes, scores.shape[-1], dtype=scores.dtype)


@dataclasses.dataclass(frozen=True)
class Contrast:
    """What sets a class apart from the classes of the closest scores (Finer-CAM).

    Attributes:
        gamma: how much of the mean of their scores is taken away from the class's.
        references: how many classes are the closest; all others, where there are fewer.
    """

    gamma: float = 0.6
    references: int = 3

    def __call__(self, scores: Float[Array, "b n"], classes: Int[Array, "b k"]) -> Float[Array, "b k n"]:
        """See `Cotangents`.

        Raises:
            MethodError: there is no other class.
        """
        count = scores.shape[-1]
        references = min(self.references, count - 1)
        if references < 1:
            raise MethodError("finer-cam compares a class with others, and there is only one score")
        own = one_hot(scores, classes)
        distances = jnp.abs(scores[:, None] - jnp.einsum("bn,bkn->bk", scores, own, precision="highest")[..., None])
        distances = jnp.where(own > 0, jnp.inf, distances)
        closest = jnp.argsort(distances, stable=True)[..., :references]
        return own - self.gamma * jax.nn.one_hot(closest, count, dtype=scores.dtype).mean(2)


class Pulled(NamedTuple):
    """What comes with gradients from one pass.

    Attributes:
        outputs: of the network.
        scores: of all classes.
        classes: those explained.
    """

    outputs: Float[Array, "b ..."]
    scores: Float[Array, "b n"]
    classes: Int[Array, "b k"]


def pulled_back(
    tail: Tail, wanted: Wanted, cotangents: Cotangents = one_hot
) -> Callable[[Array], tuple[Float[Array, "b k ..."], Pulled]]:
    """The gradients at the layer as a function of the layer, so that they have derivatives themselves."""

    def pull(activations: Array) -> tuple[Array, Pulled]:
        def scores_of(activations: Array) -> tuple[Array, Array]:
            outputs = tail.run(activations)
            return score_table(outputs, wanted.target), outputs

        scores, backward, outputs = jax.vjp(scores_of, activations, has_aux=True)
        fixed = lax.stop_gradient(scores)
        classes = chosen_classes(fixed, wanted)
        rows = varying_like(cotangents(fixed, classes), scores)
        gradients = jax.vmap(lambda row: backward(row)[0], 1, 1)(rows)
        return gradients, Pulled(outputs, scores, classes)

    return pull


@dataclasses.dataclass(frozen=True)
class Gradient:
    """Explains by a rule of activations and gradients.

    Attributes:
        rule: from one image's activations and one class's gradients to a map.
        cotangents: what is differentiated.
        guided: whether only what is positive goes back through the network's ReLUs (Springenberg et al. 2015).
        second_order: takes half of the Hessian's product with the activations away from the gradients (ShapleyCAM), for
            the price of one more pass back and forth through what comes after the layer.
    """

    rule: Rule
    cotangents: Cotangents = one_hot
    guided: bool = False
    second_order: bool = False

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """See `camjax.methods.method.Explain`."""
        tail = look.tail(look.images)
        if self.guided:
            tail = tail._replace(run=guided(tail.run))
        pull = pulled_back(tail, wanted, self.cotangents)
        if self.second_order:
            gradients, along, seen = jax.linearize(pull, tail.activations, has_aux=True)
            gradients = gradients - 0.5 * along(tail.activations)
        else:
            gradients, seen = pull(tail.activations)
        maps = by_class(self.rule, tail.grid(tail.activations), jax.vmap(tail.grid, 1, 1)(gradients))
        return answer(seen.outputs, seen.scores, seen.classes, maps)


def by_class(
    rule: Rule, activations: Float[Array, "b *space c"], gradients: Float[Array, "b k *space c"]
) -> Float[Array, "b k *space"]:
    """A rule of every picture and class."""
    maps: Array = jax.vmap(jax.vmap(rule, (None, 0)))(activations, gradients)
    return maps


@dataclasses.dataclass(frozen=True)
class GuidedCam:
    """Selvaraju et al. 2017 (Guided Grad-CAM): guided backpropagation at the picture, times what is positive in a map.

    Attributes:
        at_layer: makes the map, which is resized bilinearly to the picture.
        at_input: makes that of the picture from guided gradients.
    """

    at_layer: Rule
    at_input: Rule

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """See `camjax.methods.method.Explain`."""
        coarse = Gradient(self.at_layer)(look, wanted)
        whole = Tail(look.images, look.forward, lambda array: array.astype(coarse.maps.dtype))
        fixed = wanted._replace(classes=coarse.classes)
        fine = Gradient(self.at_input, guided=True)(look._replace(tail=lambda _: whole), fixed)
        large = resize_space(jax.nn.relu(coarse.maps), look.images.shape[1:-1])
        return coarse._replace(maps=large * fine.maps)
