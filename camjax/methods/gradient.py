"""Gradient methods: a map from a layer's activations and the gradients of a class's score with respect to them.

A rule is a pure function `rule(A, G) -> map` of one image's activations and one class's gradients, both
`(*space, c)`. `explain` gives it those of all k classes for the price of one pass through the network and one batched
backward pass through what comes after the layer: what comes before is neither differentiated nor stored.

Raw maps are signed and share one unit, the score's first order in the layer: the spatial mean of a HiRes-CAM map is the
sum of activations times gradients. At the layer that a pooled linear head reads, Grad-CAM and HiRes-CAM are CAM.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from camjax.core.layers import on_grid
from camjax.core.model import Model
from camjax.core.names import named_arrays, tap
from camjax.core.precision import at_least_float32
from camjax.core.result import CamResult
from camjax.methods.target import Target, chosen_classes, probabilities_at, score_table

Rule = Callable[[Float[Array, "*space c"], Float[Array, "*space c"]], Float[Array, "*space"]]


def grad_cam(activations: Float[Array, "*space c"], gradients: Float[Array, "*space c"]) -> Float[Array, "*space"]:
    """Selvaraju et al. 2017: each channel weighed by its gradient, summed over space."""
    weights = gradients.sum(tuple(range(gradients.ndim - 1)))
    return jnp.einsum("...c,c->...", activations, weights, precision="highest")


def hires_cam(activations: Float[Array, "*space c"], gradients: Float[Array, "*space c"]) -> Float[Array, "*space"]:
    """Draelos & Carin 2020: activations times gradients, place by place."""
    return math.prod(gradients.shape[:-1]) * (activations * gradients).sum(-1)


def explain(
    model: Model,
    layer: str,
    rule: Rule,
    images: Float[Array, "b h w c"],
    *,
    target: Target,
    classes: Array | None,
    top_k: int,
) -> CamResult:
    """The top classes of a batch and a raw map for each, as large as the layer.

    Args:
        model: whose network it is.
        layer: where.
        rule: which map.
        images: normalised.
        target: what is explained; see `camjax.make_explainer`.
        classes: `(k,)` or `(b, k)` int32, or None for the top ones.
        top_k: how many.
    """
    value = named_arrays(model.forward, model.params, images)[layer]

    def scores_with(added: Array) -> tuple[Array, tuple[Array, Array]]:
        logits, arrays = tap(model.forward, add={layer: added}, read=[layer])(model.params, images)
        return score_table(logits, target), (logits, arrays[layer])

    scores, backward, (logits, activations) = jax.vjp(scores_with, jnp.zeros(value.shape, value.dtype), has_aux=True)
    chosen = chosen_classes(scores, classes, top_k)
    one_hot = jax.nn.one_hot(chosen, scores.shape[-1], dtype=scores.dtype)
    gradients = jax.vmap(lambda cotangents: backward(cotangents)[0], 1, 1)(one_hot)
    dtype = at_least_float32(activations.dtype)
    size = images.shape[1:3]

    def grid(array: Array) -> Array:
        return on_grid(model, layer, array, (size[0], size[1])).astype(dtype)

    maps = jax.vmap(jax.vmap(rule, (None, 0)))(grid(activations), jax.vmap(grid, 1, 1)(gradients))
    known = (chosen >= 0) & (chosen < scores.shape[-1])
    maps = jnp.where(known[..., None, None], maps, jnp.nan)
    return CamResult(logits, chosen, probabilities_at(logits, scores, chosen), maps)
