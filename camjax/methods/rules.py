"""Gradient rules: from a layer's activations A and the gradients G of a score with respect to them to a map.

Every rule is a pure function `rule(A, G) -> map` of one image and one class; A and G are `(*space, c)` with any number
of spatial axes (signals, images, volumes), the map is `(*space)`.

Maps are raw: signed where the method is, without the ReLU that papers end with (`make_explainer(sign="positive")`).
They share one unit, the score's first order in the layer: the spatial mean of a HiRes-CAM map is the sum of A times G.
So rules that take the mean of the gradients elsewhere are larger here by the number of places, and at the layer that a
pooled linear head reads, CAM, Grad-CAM, HiRes-CAM and XGrad-CAM are the same numbers.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from camjax.methods.components import first_component

Rule = Callable[[Float[Array, "*space c"], Float[Array, "*space c"]], Float[Array, "*space"]]


def grad_cam(activations: Float[Array, "*space c"], gradients: Float[Array, "*space c"]) -> Float[Array, "*space"]:
    """Selvaraju et al. 2017: each channel weighed by its gradient, summed over space."""
    return weighed(activations, over_space(gradients))


def hires_cam(activations: Float[Array, "*space c"], gradients: Float[Array, "*space c"]) -> Float[Array, "*space"]:
    """Draelos & Carin 2020: activations times gradients, place by place."""
    return places(gradients) * (activations * gradients).sum(-1)


def element_wise(activations: Float[Array, "*space c"], gradients: Float[Array, "*space c"]) -> Float[Array, "*space"]:
    """pytorch-grad-cam's GradCAMElementWise: HiRes-CAM of the products that are positive."""
    return places(gradients) * jax.nn.relu(activations * gradients).sum(-1)


def layer_cam(activations: Float[Array, "*space c"], gradients: Float[Array, "*space c"]) -> Float[Array, "*space"]:
    """Jiang et al. 2021: HiRes-CAM of the gradients that are positive."""
    return places(gradients) * (activations * jax.nn.relu(gradients)).sum(-1)


def xgrad_cam(activations: Float[Array, "*space c"], gradients: Float[Array, "*space c"]) -> Float[Array, "*space"]:
    """Fu et al. 2020: each channel weighed by the mean of its gradients, weighed by its activations.

    A channel whose activations sum to zero has no weight. One that is signed and nearly does has a huge one: the method
    is meant for what comes out of a ReLU.
    """
    total = over_space(activations)
    weights = over_space(activations * gradients) / jnp.where(total == 0, 1, total)
    return weighed(activations, places(gradients) * jnp.where(total == 0, 0, weights))


def grad_cam_plus_plus(
    activations: Float[Array, "*space c"], gradients: Float[Array, "*space c"], eps: float = 1e-6
) -> Float[Array, "*space"]:
    """Chattopadhay et al. 2018: positive gradients, each weighed by how sharply the exponential of the score bends.

    Args:
        activations: the layer's.
        gradients: the score's.
        eps: added to the denominator, as pytorch-grad-cam does. It is not small where gradients are about 1e-3, as they
            are at a 7 x 7 layer: there it damps the weights towards the cube of the gradient. 0 is the paper's formula.
    """
    alphas = sharpness(activations, gradients**2, gradients**3, eps)
    return weighed(activations, over_space(alphas * jax.nn.relu(gradients)))


def eigen_grad_cam(
    activations: Float[Array, "*space c"], gradients: Float[Array, "*space c"]
) -> Float[Array, "*space"]:
    """The first principal component of activations times gradients (Muhammad & Yeasin 2020, with gradients)."""
    return places(gradients) * first_component(activations * gradients)


def seg_eigen_cam(activations: Float[Array, "*space c"], gradients: Float[Array, "*space c"]) -> Float[Array, "*space"]:
    """Chung & Ying 2025: the first principal component of activations times the size of the gradients."""
    return places(gradients) * first_component(activations * jnp.abs(gradients))


def steepest(activations: Float[Array, "*space c"], gradients: Float[Array, "*space c"]) -> Float[Array, "*space"]:
    """Simonyan et al. 2013: the largest gradient of a place by size, of any channel."""
    del activations
    return places(gradients) * jnp.abs(gradients).max(-1)


def sharpness(
    activations: Float[Array, "*space c"],
    squares: Float[Array, "*space c"],
    cubes: Float[Array, "*space c"],
    eps: float,
) -> Float[Array, "*space c"]:
    """Grad-CAM++'s alphas from the squares and cubes of the gradients; 0 where the gradient is."""
    total = activations.sum(tuple(range(activations.ndim - 1)), keepdims=True)
    denominator = 2 * squares + total * cubes + eps
    # It is also 0 where the gradient is -2 over the sum of the activations, which the ReLU removes.
    return jnp.where(denominator == 0, 0, squares / jnp.where(denominator == 0, 1, denominator))


def weighed(activations: Float[Array, "*space c"], weights: Float[Array, " c"]) -> Float[Array, "*space"]:
    """The sum of the channels by their weights."""
    return jnp.einsum("...c,c->...", activations, weights, precision="highest")


def over_space(array: Float[Array, "*space c"]) -> Float[Array, " c"]:
    """Each channel's sum."""
    return array.sum(tuple(range(array.ndim - 1)))


def places(array: Float[Array, "*space c"]) -> int:
    """How many places there are."""
    return math.prod(array.shape[:-1])
