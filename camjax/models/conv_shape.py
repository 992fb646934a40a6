"""What a convolution is, apart from its input's size."""

import dataclasses
import math
from collections.abc import Sequence

from jax import Array, lax
from jaxtyping import Float

from camjax.models.layers import Size, sides

Pads = Sequence[tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Shape:
    """A convolution of that kind.

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
