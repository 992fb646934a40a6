"""What comes after a layer, as a function of the layer: all that a method needs to know of a network.

What comes before the layer is computed once, and neither differentiated nor stored. Where a layer is pooled and read by
one linear head, the head is all that comes after it, and the layer's gradients are its columns: no pass through the
network backwards, and a large batch can go forwards in parts.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from camjax.core.layers import on_grid, with_input
from camjax.core.model import LinearHead, Model
from camjax.core.names import cut
from camjax.core.precision import at_least_float32
from camjax.errors import LayerError


class Tail(NamedTuple):
    """The network after a layer, for one batch of images.

    Attributes:
        activations: the layer's.
        run: `run(activations) -> outputs`: what the network gives where the layer is that.
        grid: `grid(array) -> (b, *space, c)`: an array like the layer's with its places in order, at least float32.
        head: all that comes after the layer, where that is its mean and one linear layer.
    """

    activations: Array
    run: Callable[[Array], Array]
    grid: Callable[[Array], Array]
    head: LinearHead | None = None


def _no_attention() -> NoReturn:
    raise LayerError("this look at a network does not know its attention")


class Look(NamedTuple):
    """A network and a batch, as a method sees them.

    Attributes:
        images: the batch, normalised; also signals `(b, t, c)` or volumes `(b, d, h, w, c)`.
        tail: `tail(images) -> Tail`: what comes after the layer, for these images or others like them, of any number.
        forward: `forward(images) -> outputs`: the whole network.
        room: `room()`: how many pictures may go through the network at once.
        attended: `attended()`: its attention, where it is a transformer; see `camjax.methods.attention`.
    """

    images: Float[Array, "b *space c"]
    tail: Callable[[Array], Tail]
    forward: Callable[[Array], Array]
    room: Callable[[], int] = lambda: 32
    attended: Callable[[], Any] = _no_attention


def network_tail(
    model: Model, layer: str, images: Float[Array, "b *space c"], features: Float[Array, "b ..."] | None = None
) -> Tail:
    """What comes after any layer.

    Args:
        model: whose network it is.
        layer: its name.
        images: normalised.
        features: the layer's, where they are known.
    """
    activations, run = cut(with_input(model.forward), layer, features)(model.params, images)
    size = images.shape[1:-1]

    def grid(array: Array) -> Array:
        return on_grid(model, layer, array, size).astype(at_least_float32(array.dtype))

    return Tail(activations, run, grid)


def head_tail(features: Float[Array, "b *space c"], head: LinearHead) -> Tail:
    """What comes after the layer that a verified pooled linear head reads.

    Args:
        features: the layer's.
        head: see `camjax.core.pooled.verified`.
    """
    dtype = at_least_float32(features.dtype)

    def run(activations: Array) -> Array:
        pooled = activations.mean(tuple(range(1, activations.ndim - 1)))
        outputs = jnp.dot(pooled, head.kernel.astype(dtype), precision="highest")
        return outputs if head.bias is None else outputs + head.bias.astype(dtype)[None, :]

    return Tail(features.astype(dtype), run, lambda array: array, head)
