"""Layers without weights that have names where a network's layers stand in a row."""

import jax
from flax import nnx
from jax import Array
from jaxtyping import Float

from camjax.models.layers import Edges, max_pool


class ReLU(nnx.Module):
    """The rectifier."""

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """The positive part."""
        return jax.nn.relu(x)


class MaxPool(nnx.Module):
    """The largest pixel of each window.

    Args:
        size: side of the window.
        stride: from one to the next.
        edges: as `max_pool` has them.
    """

    def __init__(self, size: int, stride: int, *, edges: Edges = "filled") -> None:
        self.size = size
        self.stride = stride
        self.edges = edges

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        """The pooled features."""
        return max_pool(x, self.size, stride=self.stride, edges=self.edges)
