"""What comes after a layer, as a function of what is added there: all that a method needs to know of a network.

Where a layer is pooled and read by one linear head, the head is all that comes after it, and the layer's gradients are
its columns: no pass through the network backwards, and a large batch can go forwards in parts.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from camjax.core.layers import on_grid
from camjax.core.model import LinearHead, Model
from camjax.core.names import named_arrays, tap
from camjax.core.precision import at_least_float32


class Tail(NamedTuple):
    """The network after a layer, for one batch of images.

    Attributes:
        run: `run(added) -> (outputs, activations)`: what the network gives where that is added at the layer, and the
            layer with it.
        nothing: zeros of the layer's shape and dtype.
        grid: `grid(array) -> (b, *space, c)`: an array like the layer's with its places in order, at least float32.
    """

    run: Callable[[Array], tuple[Array, Array]]
    nothing: Array
    grid: Callable[[Array], Array]


Look = Callable[[Callable[[Array], Array]], Tail]
"""`look(change) -> Tail`: the tail for the normalised images after `change`, which treats each image by itself."""


def unchanged(images: Array) -> Array:
    """The images as they are."""
    return images


def network_tail(model: Model, layer: str, images: Float[Array, "b h w c"]) -> Tail:
    """What comes after any layer.

    Args:
        model: whose network it is.
        layer: its name.
        images: normalised.
    """
    value = named_arrays(model.forward, model.params, images)[layer]
    size = (images.shape[1], images.shape[2])

    def run(added: Array) -> tuple[Array, Array]:
        outputs, arrays = tap(model.forward, add={layer: added}, read=[layer])(model.params, images)
        return outputs, arrays[layer]

    def grid(array: Array) -> Array:
        return on_grid(model, layer, array, size).astype(at_least_float32(array.dtype))

    return Tail(run, jnp.zeros(value.shape, value.dtype), grid)


def head_tail(features: Float[Array, "b *space c"], head: LinearHead) -> Tail:
    """What comes after the layer that a verified pooled linear head reads.

    Args:
        features: the layer's.
        head: see `camjax.core.pooled.verified`.
    """
    dtype = at_least_float32(features.dtype)
    features = features.astype(dtype)

    def run(added: Array) -> tuple[Array, Array]:
        activations = features + added
        pooled = activations.mean(tuple(range(1, activations.ndim - 1)))
        outputs = jnp.dot(pooled, head.kernel.astype(dtype), precision="highest")
        return outputs if head.bias is None else outputs + head.bias.astype(dtype)[None, :], activations

    return Tail(run, jnp.zeros_like(features), lambda array: array)
