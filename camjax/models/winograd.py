"""Winograd's algorithm for 3x3 convolutions of stride 1 (Lavin & Gray 2015)."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from camjax.models.conv_shape import Shape

KERNEL_TRANSFORM = np.asarray(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
"""G of F(4x4, 3x3) in Lavin & Gray 2015, "Fast Algorithms for Convolutional Neural Networks"."""


def winograd_kernel(kernel: Float[Array, "3 3 c o"]) -> Float[Array, "36 c o"]:
    """A 3x3 kernel in the domain where the convolution is a product for each of 6x6 frequencies."""
    # Along both axes in one product: one after the other, what lies between would be twice as large as the kernel.
    transform = jnp.asarray(np.kron(KERNEL_TRANSFORM, KERNEL_TRANSFORM), kernel.dtype)
    flat = kernel.reshape(9, -1)
    return jnp.matmul(transform, flat, precision=lax.Precision.HIGHEST).reshape(36, *kernel.shape[2:])


def winograd(x: Float[Array, "b h w c"], kernel: Float[Array, "36 c o"], shape: Shape) -> Float[Array, "b h2 w2 o"]:
    """A 3x3 convolution of stride 1 by Winograd's F(4x4, 3x3): 36 products for 16 outputs, where `direct` takes 144.

    Args:
        x: the features.
        kernel: from `winograd_kernel`.
        shape: of the convolution.
    """
    (top, _), (left, _) = shape.pads(x)
    batch, channels, outputs = x.shape[0], x.shape[-1], kernel.shape[-1]
    height, width = shape.output_size(x)
    rows, columns = -(-height // 4), -(-width // 4)
    x = jnp.pad(
        x, ((0, 0), (top, 4 * rows + 2 - x.shape[1] - top), (left, 4 * columns + 2 - x.shape[2] - left), (0, 0))
    )
    x = _computed_once(jnp.stack(_to_frequencies([x[:, i : i + 4 * rows - 3 : 4] for i in range(6)])))
    tiles = jnp.stack(_to_frequencies([x[:, :, :, j : j + 4 * columns - 3 : 4] for j in range(6)]), axis=1)
    products = jnp.einsum("fpc,fco->fpo", tiles.reshape(36, batch * rows * columns, channels), kernel)
    y = products.reshape(6, 6, batch, rows, columns, outputs)
    y = _computed_once(jnp.stack(_from_frequencies([y[:, j] for j in range(6)]), axis=4))
    lines = [line.reshape(batch, rows, 4 * columns, outputs) for line in _from_frequencies([y[i] for i in range(6)])]
    return jnp.stack(lines, axis=2).reshape(batch, 4 * rows, 4 * columns, outputs)[:, :height, :width]


def _computed_once(x: Array) -> Array:
    """Without it XLA fuses both passes over a tile, and computes the first one anew for each use by the second."""
    return lax.optimization_barrier(x)  # type: ignore[no-untyped-call]


def _to_frequencies(d: Sequence[Array]) -> list[Array]:
    """B^T d along one axis of 6x6 tiles, written out to share its sums."""
    a, b = d[4] - 4 * d[2], d[3] - 4 * d[1]
    c, e = d[4] - d[2], 2 * (d[3] - d[1])
    return [4 * d[0] - 5 * d[2] + d[4], a + b, a - b, c + e, c - e, 4 * d[1] - 5 * d[3] + d[5]]


def _from_frequencies(m: Sequence[Array]) -> list[Array]:
    """A^T m along one axis: 4 outputs from 6 frequencies."""
    a, b = m[1] + m[2], m[1] - m[2]
    c, d = m[3] + m[4], m[3] - m[4]
    return [m[0] + a + c, b + 2 * d, a + 4 * c, b + 8 * d + m[5]]
