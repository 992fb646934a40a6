"""The ways to compute a convolution, and which is fastest where.

Each takes features `(b, h, w, c)` and gives `(b, h2, w2, o)` in their dtype, with a kernel of its own; all equal
`direct` up to rounding. `benchmarks/README.md` has the measurements behind `choose`.

On a CPU, XLA computes a direct convolution at the speed of its matrix products; Winograd's algorithm needs a quarter of
those. A depthwise one takes XLA up to sixty times longer than a sum of shifted products does. On a GPU, cuDNN wants
kernels with their outputs first, and XLA would transpose any others at every call.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike
from jaxtyping import Float

from camjax.models.blocks import block_kernel, over_blocks, suits_blocks
from camjax.models.conv_shape import Shape
from camjax.models.winograd import winograd, winograd_kernel

Algorithm = Literal["direct", "shifted", "winograd", "cudnn", "blocks"]

GROUP_CHANNELS = 32
"""A CPU computes groups of fewer channels faster as larger ones with zeros where channels do not meet."""

FEW_TILES = 16
"""With so few tiles of 4x4 outputs, reading Winograd's kernel (four times the size) costs more than it saves."""


def algorithms(shape: Shape, dtype: DTypeLike, platform: str) -> tuple[Algorithm, ...]:
    """The ways that can be the fastest on a platform, so that their kernels have to be there.

    Args:
        shape: of the convolution.
        dtype: of the features.
        platform: `"cpu"`, `"gpu"` or `"tpu"`.
    """
    if platform == "gpu":
        return ("blocks",) if suits_blocks(shape) else ("cudnn",)
    if platform != "cpu":
        return ("direct",)
    if shape.groups == shape.inputs == shape.outputs:
        return ("shifted",)
    # In 16 bits Winograd's sums would lose what precision there is.
    plain = shape.window == (3, 3) and shape.stride == 1 and shape.groups == 1 and shape.inputs >= 16
    return ("direct", "winograd") if plain and jnp.dtype(dtype) == np.float32 else ("direct",)


def choose(shape: Shape, tiles: int, dtype: DTypeLike, platform: str) -> Algorithm:
    """The fastest way on a platform, one of `algorithms`: the one place where that is decided.

    Args:
        shape: of the convolution.
        tiles: how many tiles of 4x4 its outputs make, over the batch.
        dtype: of the features.
        platform: `"cpu"`, `"gpu"` or `"tpu"`.
    """
    found = algorithms(shape, dtype, platform)
    if "winograd" in found:
        return "winograd" if tiles > FEW_TILES else "direct"
    return found[0]


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


def as_it_is(kernel: Float[Array, "k l i o"], shape: Shape) -> Float[Array, "k l i o"]:
    """The kernel."""
    return kernel


def outputs_first(kernel: Float[Array, "k l i o"], shape: Shape) -> Float[Array, "o k l i"]:
    """The kernel as cuDNN reads it."""
    return kernel.transpose(3, 0, 1, 2)


def direct(x: Float[Array, "b h w c"], kernel: Float[Array, "k l i o"], shape: Shape) -> Float[Array, "b h2 w2 o"]:
    """XLA's own convolution; a product where there is but one place to put the kernel.

    Of such a convolution, as VGG has instead of its first linear layer, the gradient would be taken at every place
    where the kernel overlaps the features by as little as a corner.
    """
    return _convolve(x, kernel, shape, "HWIO")


def cudnn(x: Float[Array, "b h w c"], kernel: Float[Array, "o k l i"], shape: Shape) -> Float[Array, "b h2 w2 o"]:
    """`direct` with a kernel that has its outputs first."""
    return _convolve(x, kernel, shape, "OHWI")


def _convolve(x: Float[Array, "b h w c"], kernel: Array, shape: Shape, layout: str) -> Float[Array, "b h2 w2 o"]:
    if shape.fills(x):
        axes = tuple(map(layout.index, "HWI"))
        return lax.dot_general(x, kernel, (((1, 2, 3), axes), ((), ())))[:, None, None, :]
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(shape.stride, shape.stride),
        padding=shape.pads(x),
        dimension_numbers=("NHWC", layout, "NHWC"),
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


class Way(NamedTuple):
    """How a convolution is computed.

    Attributes:
        kernel: `kernel(kernel, shape)` makes the kernel that it reads from the convolution's own, `(k, l, i, o)`.
        compute: `compute(x, kernel, shape)`.
    """

    kernel: Callable[[Array, Shape], Array]
    compute: Callable[[Array, Array, Shape], Array]


WAYS: Mapping[Algorithm, Way] = {
    "direct": Way(as_it_is, direct),
    "shifted": Way(as_it_is, shifted),
    "winograd": Way(lambda kernel, _: winograd_kernel(kernel), winograd),
    "cudnn": Way(outputs_first, cudnn),
    "blocks": Way(block_kernel, over_blocks),
}
