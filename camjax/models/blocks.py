"""A strided convolution of few channels as one of stride 1 over blocks of places.

The first convolution of a network reads 3 channels, which leaves a GPU's tensor cores, made for 8 or more at a time,
mostly idle. Where its stride is 2, each block of 2x2 places becomes one place of 12 channels ("space to depth"), and a
kernel of 7x7 one of 4x4.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from camjax.models.conv_shape import Shape

FEW_CHANNELS = 4
BYTES = 16
"""Tensor cores read so many at a time, so the channels of a place are filled up to a multiple of that."""


def suits_blocks(shape: Shape) -> bool:
    """Whether a convolution has few channels and a stride, and does not choose its padding by the size."""
    return (
        shape.groups == 1 and shape.inputs <= FEW_CHANNELS and shape.stride > 1 and not isinstance(shape.padding, str)
    )


def block_kernel(kernel: Float[Array, "k l i o"], shape: Shape) -> Float[Array, "o m n j"]:
    """The same kernel over blocks, outputs first: `j` are the `stride * stride * i` channels of a block and zeros.

    Args:
        kernel: of the convolution.
        shape: of it.

    Raises:
        ValueError: its padding is not given in numbers.
    """
    if isinstance(shape.padding, str):
        raise ValueError(f"the padding {shape.padding!r} depends on the size of the features")
    rows, columns = (
        jnp.asarray(_places(size, shape.stride, before), kernel.dtype)
        for size, (before, _) in zip(shape.window, shape.padding, strict=True)
    )
    blocks = jnp.einsum("mpk,nql,klio->omnpqi", rows, columns, kernel, precision=lax.Precision.HIGHEST)
    blocks = blocks.reshape(*blocks.shape[:3], -1)
    return jnp.pad(blocks, (*[(0, 0)] * 3, (0, -blocks.shape[-1] % (BYTES // kernel.dtype.itemsize))))


def _places(size: int, stride: int, before: int) -> np.ndarray:
    """1 where a block's place `p` holds the kernel's place `k`: `(m, p, k)`, along one axis with `before` zeros."""
    first = -before // stride  # the block of the first place that the kernel reads
    places = np.zeros(((size - 1 - before) // stride - first + 1, stride, size))
    for k in range(size):
        block, place = divmod(k - before, stride)
        places[block - first, place, k] = 1
    return places


def over_blocks(x: Float[Array, "b h w i"], kernel: Float[Array, "o m n j"], shape: Shape) -> Float[Array, "b h2 w2 o"]:
    """The convolution.

    Args:
        x: the features.
        kernel: from `block_kernel`.
        shape: of the convolution.
    """
    stride, pads = shape.stride, shape.pads(x)
    outputs = shape.output_size(x)
    x = jnp.pad(x, ((0, 0), *((0, -side % stride) for side in x.shape[1:3]), (0, 0)))
    batch, (rows, columns) = x.shape[0], (side // stride for side in x.shape[1:3])
    x = x.reshape(batch, rows, stride, columns, stride, shape.inputs).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(batch, rows, columns, stride * stride * shape.inputs)
    x = jnp.pad(x, (*[(0, 0)] * 3, (0, kernel.shape[-1] - x.shape[-1])))
    before = [-(-pad[0] // stride) for pad in pads]
    after = [
        output - 1 - blocks - zeros + size
        for output, blocks, zeros, size in zip(outputs, (rows, columns), before, kernel.shape[1:3], strict=True)
    ]
    return lax.conv_general_dilated(
        x, kernel, (1, 1), list(zip(before, after, strict=True)), dimension_numbers=("NHWC", "OHWI", "NHWC")
    )
