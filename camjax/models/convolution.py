"""Three ways to compute one convolution, and which is fastest where.

Each takes features `(b, h, w, c)` and gives `(b, h2, w2, o)` in their dtype; all equal `direct` up to rounding. On a
CPU, XLA computes a direct convolution at the speed of its matrix products; Winograd's algorithm needs a quarter of
those. A depthwise one takes XLA up to sixty times longer than a sum of shifted products does. `benchmarks/README.md`
has the measurements behind `choose`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike
from jaxtyping import Float

from camjax.models.layers import Size, sides

Pads = Sequence[tuple[int, int]]
Algorithm = Literal["direct", "shifted", "winograd"]

GROUP_CHANNELS = 32
"""A CPU computes groups of fewer channels faster as larger ones with zeros where channels do not meet."""

FEW_TILES = 16
"""With so few tiles of 4x4 outputs, reading Winograd's kernel (four times the size) costs more than it saves."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a convolution is, apart from its input's size.

    Attributes:
        size: side of the kernel where it is square, else its rows and columns.
        stride: step, the same along both axes.
        padding: `"SAME"` as TensorFlow, or zeros before and after along each axis.
        groups: feature groups.
        inputs: channels in.
        outputs: channels out.
    """

    size: Size
    stride: int
    padding: str | Pads
    groups: int
    inputs: int
    outputs: int

    @property
    def window(self) -> tuple[int, int]:
        """The kernel's rows and columns."""
        return sides(self.size)

    def pads(self, x: Float[Array, "b h w c"]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Zeros before and after along each axis."""
        if isinstance(self.padding, str):
            strides = (self.stride, self.stride)
            rows, columns = lax.padtype_to_pads(x.shape[1:3], self.window, strides, self.padding)
        else:
            rows, columns = self.padding
        return rows, columns

    def output_size(self, x: Float[Array, "b h w c"]) -> tuple[int, int]:
        """Height and width of the result."""
        height, width = (
            (side + sum(pad) - size) // self.stride + 1
            for side, pad, size in zip(x.shape[1:3], self.pads(x), self.window, strict=True)
        )
        return height, width

    def fills(self, x: Float[Array, "b h w c"]) -> bool:
        """Whether the kernel is as large as the features, and neither is a single place."""
        whole = self.groups == 1 and self.window == x.shape[1:3] != (1, 1)
        return whole and not any(sum(pad) for pad in self.pads(x))

    def tiles(self, x: Float[Array, "b h w c"]) -> int:
        """How many tiles of 4x4 the results make, over the batch."""
        return x.shape[0] * math.prod(-(-side // 4) for side in self.output_size(x))


def suits_winograd(shape: Shape, dtype: DTypeLike, platform: str) -> bool:
    """Whether Winograd's algorithm wins where there are tiles enough.

    cuDNN and TPUs choose for themselves, and its sums would lose what precision 16 bits have.
    """
    plain = shape.window == (3, 3) and shape.stride == 1 and shape.groups == 1 and shape.inputs >= 16
    return plain and platform == "cpu" and jnp.dtype(dtype) == np.float32


def choose(shape: Shape, tiles: int, dtype: DTypeLike, platform: str) -> Algorithm:
    """The fastest way on a platform: the one place where that is decided.

    Args:
        shape: of the convolution.
        tiles: how many tiles of 4x4 its outputs make, over the batch.
        dtype: of the features.
        platform: `"cpu"`, `"gpu"` or `"tpu"`.
    """
    if platform != "cpu":
        return "direct"
    if shape.groups == shape.inputs == shape.outputs:
        return "shifted"
    return "winograd" if suits_winograd(shape, dtype, platform) and tiles > FEW_TILES else "direct"


def merged_groups(shape: Shape, platform: str) -> int:
    """In how many groups to compute a grouped convolution; as many as it has where that is fastest.

    Args:
        shape: of the convolution.
        platform: `"cpu"`, `"gpu"` or `"tpu"`.
    """
    if platform != "cpu" or shape.groups in (1, shape.inputs):
        return shape.groups
    most = GROUP_CHANNELS * shape.groups // shape.inputs
    return shape.groups // max(n for n in range(1, max(most, 1) + 1) if shape.groups % n == 0)


def merge_groups(kernel: Float[Array, "k l i o"], groups: int, fewer: int) -> Float[Array, "k l j o"]:
    """The kernel of the same convolution in fewer groups, zero where channels were in different ones.

    Args:
        kernel: of a convolution.
        groups: how many it has.
        fewer: how many it is to have; they divide `groups`.
    """
    rows, columns, inputs, outputs = kernel.shape
    together = groups // fewer
    blocks = kernel.reshape(rows, columns, inputs, fewer, together, outputs // groups)
    apart = jnp.eye(together, dtype=kernel.dtype)
    placed = jnp.einsum("klifno,mn->klmifno", blocks, apart, precision=lax.Precision.HIGHEST)
    return placed.reshape(rows, columns, together * inputs, outputs)


def direct(x: Float[Array, "b h w c"], kernel: Float[Array, "k l i o"], shape: Shape) -> Float[Array, "b h2 w2 o"]:
    """XLA's own convolution; a product where there is but one place to put the kernel.

    Of such a convolution, as VGG has instead of its first linear layer, the gradient would be taken at every place
    where the kernel overlaps the features by as little as a corner.
    """
    if shape.fills(x):
        return lax.dot_general(x, kernel, (((1, 2, 3), (0, 1, 2)), ((), ())))[:, None, None, :]
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(shape.stride, shape.stride),
        padding=shape.pads(x),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=shape.groups,
    )


def shifted(x: Float[Array, "b h w c"], kernel: Float[Array, "k l 1 c"], shape: Shape) -> Float[Array, "b h2 w2 c"]:
    """A depthwise convolution as a sum of shifted products."""
    x = jnp.pad(x, ((0, 0), *shape.pads(x), (0, 0)))
    rows, columns = shape.window
    step, bottom, right = shape.stride, x.shape[1] - rows + 1, x.shape[2] - columns + 1
    places = [(row, column) for row in range(rows) for column in range(columns)]
    return sum(  # type: ignore[return-value]  # a kernel has at least one place
        x[:, i : i + bottom : step, j : j + right : step] * kernel[i, j][None, None] for i, j in places
    )


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


ALGORITHMS: Mapping[Algorithm, Callable[[Array, Array, Shape], Array]] = {
    "direct": direct,
    "shifted": shifted,
    "winograd": winograd,
}
