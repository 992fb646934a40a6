"""Five ways to compute one convolution, and which is fastest where.

Each takes features `(b, h, w, c)` and gives `(b, h2, w2, o)` in their dtype; all equal `direct` up to rounding. XLA's
CPU backend computes a matrix product at the machine's speed and a direct convolution at half of it or, where the
convolution is depthwise, at a fiftieth; so there each convolution becomes products or sums. `benchmarks/README.md` has
the measurements behind `choose`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike
from jaxtyping import Float

Pads = Sequence[tuple[int, int]]
Algorithm = Literal["direct", "pointwise", "patches", "shifted", "winograd"]

CACHE_BYTES = 2**24
"""A Winograd kernel larger than this is read from memory at every call and loses to `patches`."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a convolution is, apart from its input's size.

    Attributes:
        size: side of the square kernel.
        stride: step, the same along both axes.
        padding: `"SAME"` as TensorFlow, or zeros before and after along each axis.
        groups: feature groups.
        inputs: channels in.
        outputs: channels out.
    """

    size: int
    stride: int
    padding: str | Pads
    groups: int
    inputs: int
    outputs: int

    def pads(self, x: Float[Array, "b h w c"]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Zeros before and after along each axis."""
        window, strides = (self.size, self.size), (self.stride, self.stride)
        if isinstance(self.padding, str):
            rows, columns = lax.padtype_to_pads(x.shape[1:3], window, strides, self.padding)
        else:
            rows, columns = self.padding
        return rows, columns


def choose(shape: Shape, dtype: DTypeLike, platform: str) -> Algorithm:
    """The fastest way on a platform: the one place where that is decided.

    cuDNN and TPUs choose for themselves. Winograd's sums would lose what precision 16 bits have.
    """
    if platform != "cpu":
        return "direct"
    if shape.groups == shape.inputs == shape.outputs:
        return "shifted"
    if shape.groups > 1:
        return "direct"
    if shape.size == 1:
        return "pointwise"
    if shape.size != 3 or shape.inputs < 16:
        return "direct"
    fits = 4 * 36 * shape.inputs * shape.outputs <= CACHE_BYTES
    if shape.stride == 1 and fits and jnp.dtype(dtype) == np.float32:
        return "winograd"
    return "patches"


def direct(x: Float[Array, "b h w c"], kernel: Float[Array, "k k i o"], shape: Shape) -> Float[Array, "b h2 w2 o"]:
    """XLA's own convolution."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(shape.stride, shape.stride),
        padding=shape.pads(x),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=shape.groups,
    )


def pointwise(x: Float[Array, "b h w c"], kernel: Float[Array, "1 1 c o"], shape: Shape) -> Float[Array, "b h2 w2 o"]:
    """A 1x1 convolution as one matrix product."""
    return jnp.einsum("bhwc,co->bhwo", x[:, :: shape.stride, :: shape.stride], kernel[0, 0])


def patches(x: Float[Array, "b h w c"], kernel: Float[Array, "k k c o"], shape: Shape) -> Float[Array, "b h2 w2 o"]:
    """A matrix product over the patches that the kernel sees (im2col), `k * k * c` long."""
    columns = jnp.concatenate(list(_taps(x, shape).values()), axis=-1)
    return jnp.einsum("bhwc,co->bhwo", columns, kernel.reshape(-1, kernel.shape[-1]))


def shifted(x: Float[Array, "b h w c"], kernel: Float[Array, "k k 1 c"], shape: Shape) -> Float[Array, "b h2 w2 c"]:
    """A depthwise convolution as a sum of shifted products."""
    return sum(  # type: ignore[return-value]  # a kernel has at least one tap
        tap * kernel[row, column][None, None] for (row, column), tap in _taps(x, shape).items()
    )


def _taps(x: Float[Array, "b h w c"], shape: Shape) -> dict[tuple[int, int], Float[Array, "b h2 w2 c"]]:
    """What each place of the kernel multiplies, for every output at once."""
    x = jnp.pad(x, ((0, 0), *shape.pads(x), (0, 0)))
    last = [side - shape.size for side in x.shape[1:3]]
    step = shape.stride
    places = [(row, column) for row in range(shape.size) for column in range(shape.size)]
    return {(i, j): x[:, i : i + last[0] + 1 : step, j : j + last[1] + 1 : step] for i, j in places}


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
    transform = jnp.asarray(KERNEL_TRANSFORM, kernel.dtype)
    transformed = jnp.einsum("ir,js,rsco->ijco", transform, transform, kernel, precision=lax.Precision.HIGHEST)
    return transformed.reshape(36, *kernel.shape[2:])


def winograd(x: Float[Array, "b h w c"], kernel: Float[Array, "36 c o"], shape: Shape) -> Float[Array, "b h2 w2 o"]:
    """A 3x3 convolution of stride 1 by Winograd's F(4x4, 3x3): 36 products for 16 outputs, where `direct` takes 144.

    Args:
        x: the features.
        kernel: from `winograd_kernel`.
        shape: of the convolution.
    """
    (top, bottom), (left, right) = shape.pads(x)
    batch, channels, outputs = x.shape[0], x.shape[-1], kernel.shape[-1]
    height, width = x.shape[1] + top + bottom - 2, x.shape[2] + left + right - 2
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


ALGORITHMS: Mapping[Algorithm, Callable[[Array, Array, Shape], Array]] = {
    "direct": direct,
    "pointwise": pointwise,
    "patches": patches,
    "shifted": shifted,
    "winograd": winograd,
}
