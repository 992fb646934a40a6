"""Ablation-CAM, LIFT-CAM and Recipro-CAM: what becomes of a score where a part of the layer is taken out or kept."""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from camjax.core.differences import change_along
from camjax.core.model import LinearHead
from camjax.core.result import CamResult
from camjax.core.sharding import varying_like
from camjax.errors import LayerError
from camjax.methods.classes import at_classes
from camjax.methods.clean import clean_pass
from camjax.methods.gradient import one_hot
from camjax.methods.loops import scores_of_changes
from camjax.methods.rules import weighed
from camjax.methods.tail import Look, Tail
from camjax.methods.target import MethodError, Target, Wanted, answer, score_table, scores_at


@dataclasses.dataclass(frozen=True)
class Ablation:
    """Ramaswamy & Desai 2020: each channel weighed by how far the score falls without it.

    The paper divides that by the score, which scales a map as a whole, and turns it round where the score is negative;
    this does not, so that the classes' maps share one unit. Where a linear head reads the layer's mean, the fall is the
    head's column times that mean, without another pass.
    """

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """See `camjax.methods.method.Explain`."""
        tail, outputs, scores, classes = clean_pass(look, wanted)
        if tail.head is not None and wanted.target == "logit":
            falls = _contributions(tail, tail.head, classes)
        else:

            def without(channel: Int[Array, ""]) -> Array:
                return jnp.where(jnp.arange(tail.activations.shape[-1]) == channel, 0, tail.activations)

            found = scores_of_changes(look, tail, wanted.target, without, tail.activations.shape[-1])
            falls = scores_at(scores, classes)[None] - scores_at(found, classes)
        return answer(outputs, scores, classes, _summed(tail.grid(tail.activations), falls))


@dataclasses.dataclass(frozen=True)
class Lift:
    """Jung & Oh 2021 (LIFT-CAM): each channel weighed by its share in the score.

    The shares sum up to the score less the score of a layer that is zero. A linear head tells them exactly; elsewhere
    they are DeepLIFT's, by its rescale rule for the operations of the network (`camjax.core.differences`).
    """

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """See `camjax.methods.method.Explain`.

        Raises:
            MethodError: there is no rule for an operation of the network.
        """
        tail, outputs, scores, classes = clean_pass(look, wanted)
        if tail.head is not None and wanted.target == "logit":
            shares = _contributions(tail, tail.head, classes)
        else:
            shares = lifted_shares(tail, wanted.target, one_hot(scores, classes))
        return answer(outputs, scores, classes, _summed(tail.grid(tail.activations), shares))


@dataclasses.dataclass(frozen=True)
class Recipro:
    """Byun & Lee 2022 (Recipro-CAM): at each place, the score where the layer is zero everywhere else.

    Tokens that belong to no place stay. Beside a token of the image, its neighbours stay in part (Byun & Lee 2023,
    ViT-Recipro-CAM): the last attention would see nothing else of the picture. At the layer that a pooled linear head
    reads, each place by itself gives CAM over the number of places, plus the bias.

    Attributes:
        gaussian: whether a quarter of each place is kept, an eighth of the four beside it and a sixteenth of those at
            its corners, instead of it alone; None is where the layer has tokens.
    """

    gaussian: bool | None = None

    def __call__(self, look: Look, wanted: Wanted) -> CamResult:
        """See `camjax.methods.method.Explain`."""
        tail, outputs, scores, classes = clean_pass(look, wanted)
        space = jax.eval_shape(tail.grid, tail.activations).shape[1:-1]
        has_tokens = tail.activations.ndim != len(space) + 2
        shares = (0.5, 0.25) if (has_tokens if self.gaussian is None else self.gaussian) else (1.0, 0.0)
        keep = keep_places(tail, space)
        found = scores_of_changes(
            look,
            tail,
            wanted.target,
            lambda place: tail.activations * keep(_around(place, space, *shares)),
            math.prod(space),
        )
        maps = jnp.moveaxis(scores_at(found, classes), 0, -1).reshape(*classes.shape, *space)
        return answer(outputs, scores, classes, maps)


def _around(place: Int[Array, ""], space: tuple[int, ...], here: float, beside: float) -> Float[Array, " places"]:
    """How much of every place is kept: along each axis, so much of one and of its two neighbours."""
    axes = []
    for centre, length in zip(jnp.unravel_index(place, space), space, strict=True):
        steps = jnp.abs(jnp.arange(length) - centre)
        axes.append(jnp.where(steps == 0, here, jnp.where(steps == 1, beside, 0.0)))
    return functools.reduce(lambda kept, axis: jnp.outer(kept, axis).ravel(), axes)


def keep_places(tail: Tail, space: tuple[int, ...]) -> Callable[[Array], Array]:
    """From which places are kept, `(places,)`, to what the layer is multiplied with, 1 also where no place is."""
    like = jax.eval_shape(tail.grid, tail.activations)
    back = jax.linear_transpose(tail.grid, tail.activations)

    def of_layer(kept: Array) -> Array:
        on_grid = kept.astype(like.dtype).reshape(1, *space, 1)
        (array,) = back(varying_like(jnp.broadcast_to(on_grid, like.shape), tail.activations))
        return array

    placeless = 1 - of_layer(jnp.ones(math.prod(space)))
    return lambda kept: of_layer(kept) + placeless


def _contributions(tail: Tail, head: LinearHead, classes: Int[Array, "b k"]) -> Float[Array, "c b k"]:
    """Each channel's mean times its entry in the head's column: its part of the logit."""
    means = tail.activations.mean(tuple(range(1, tail.activations.ndim - 1)))
    kernel = head.kernel.astype(means.dtype)
    columns = jax.vmap(lambda row: at_classes(kernel, row), out_axes=1)(classes)
    return means.T[..., None] * columns


def lifted_shares(tail: Tail, target: Target, cotangents: Float[Array, "b k n"]) -> Float[Array, "c b k"]:
    """Each channel's part, over all its places, of how far scores are from those of a layer that is zero.

    Args:
        tail: what comes after the layer.
        target: what is explained.
        cotangents: the sum of the scores whose parts are asked for, of each class.

    Raises:
        MethodError: there is no rule for an operation of the network.
    """
    nothing = varying_like(jnp.zeros_like(tail.activations), tail.activations)

    def scores(activations: Array) -> Array:
        return score_table(tail.run(activations), target)

    try:
        table, backward = jax.vjp(change_along(scores, tail.activations, nothing), tail.activations)
    except LayerError as error:
        raise MethodError(f"lift-cam cannot explain this layer: {error}; ablation-cam weighs channels alike") from error
    multipliers = jax.vmap(lambda row: backward(row)[0], 1, 1)(varying_like(cotangents, table))
    parts = (tail.activations[:, None] * multipliers).astype(cotangents.dtype)
    return jnp.moveaxis(parts.sum(tuple(range(2, parts.ndim - 1))), -1, 0)


def _summed(grid: Float[Array, "b *space c"], weights: Float[Array, "c b k"]) -> Float[Array, "b k *space"]:
    maps: Array = jax.vmap(jax.vmap(weighed, (None, 1)), (0, 1))(grid, weights)
    return maps
