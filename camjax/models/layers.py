"""The layers every network here is made of.

Conventions: images and features are NHWC, convolution kernels HWIO. Parameters are float32; computation follows the
dtype of the input, so one set of parameters serves float32 and bfloat16.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax
from jaxtyping import Float

from camjax.core.precision import at_least_float32

Size = int | tuple[int, int]
Padding = str | Sequence[tuple[int, int]]
Edges = Literal["filled", "whole", "ceil"]
Activation = Callable[[Array], Array]


class Undrawn(nnx.Rngs):
    """For a network of which only the shapes are wanted: to trace its random weights takes longer than all the rest."""

    def params(self) -> Array:
        """The same key for every layer."""
        return self.default.key[...]


def drawn(rngs: nnx.Rngs, initial: nnx.Initializer, shape: Sequence[int]) -> Float[Array, "..."]:
    """Initial weights, float32; of `Undrawn`, zeros.

    Args:
        rngs: for the key.
        initial: draws them.
        shape: of them.
    """
    if isinstance(rngs, Undrawn):
        return jnp.zeros(shape, jnp.float32)
    return initial(rngs.params(), tuple(shape), jnp.float32)


class Conv(nnx.Module):
    """A 2-D convolution.

    Args:
        inputs: channels in.
        outputs: channels out.
        size: side of the kernel where it is square, else its rows and columns.
        stride: step, the same along both axes.
        padding: `"SAME"` pads as TensorFlow does (more at the end when the stride leaves an odd rest). None pads
            `(size - 1) // 2` on every side, as PyTorch's networks do; the two differ whenever the stride is not 1.
        groups: feature groups; `groups == inputs` is a depthwise convolution.
        bias: whether it adds one, as it does where no normalisation follows.
        rngs: for the He-normal initial kernel.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: Size,
        *,
        stride: int = 1,
        padding: Padding | None = None,
        groups: int = 1,
        bias: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        shape = (*sides(size), inputs // groups, outputs)
        deviation = math.sqrt(2 / math.prod(shape[:3]))  # He et al. 2015, by the inputs of one output
        self.kernel = nnx.Param(drawn(rngs, nnx.initializers.normal(deviation), shape))
        self.bias = nnx.Param(jnp.zeros(outputs, jnp.float32)) if bias else None
        self.stride = stride
        self.padding = symmetric(size) if padding is None else padding
        self.groups = groups

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The convolved features, in the dtype of `x`."""
        y = lax.conv_general_dilated(
            x,
            self.kernel[...].astype(x.dtype),
            window_strides=(self.stride, self.stride),
            padding=self.padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=self.groups,
        )
        return y if self.bias is None else y + channelwise(self.bias[...], y)


class BatchNorm(nnx.Module):
    """Batch normalisation (Ioffe & Szegedy 2015) by its running statistics, or, after `module.train()`, by the batch's.

    Args:
        channels: size of the last axis.
        eps: added to the variance: 1e-5 in PyTorch's networks, 1e-3 in TensorFlow's.
        activation: applied to the result, where a checkpoint's own layer does both.
        momentum: of the running statistics in training: what they keep at every step.
    """

    def __init__(
        self, channels: int, *, eps: float = 1e-5, activation: Activation | None = None, momentum: float = 0.9
    ) -> None:
        self.scale = nnx.Param(jnp.ones(channels, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(channels, jnp.float32))
        self.mean = nnx.BatchStat(jnp.zeros(channels, jnp.float32))
        self.var = nnx.BatchStat(jnp.ones(channels, jnp.float32))
        self.eps = eps
        self.activation = activation
        self.momentum = momentum
        self.use_running_average = True

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """The normalised features, in the dtype of `x`."""
        if self.use_running_average:
            factor, offset = self.factor_and_offset()
        else:
            factor, offset = self._by_the_batch(x)
        y = x * channelwise(factor, x) + channelwise(offset, x)
        return y if self.activation is None else self.activation(y)

    def factor_and_offset(self) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
        """The normalisation as one multiply-add a pixel, in the parameters' own precision."""
        return self._factor_and_offset(self.mean[...], self.var[...])

    def _factor_and_offset(
        self, mean: Float[Array, " c"], var: Float[Array, " c"]
    ) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
        factor = self.scale[...] * lax.rsqrt(var + self.eps)
        return factor, self.bias[...] - mean * factor

    def _by_the_batch(self, x: Float[Array, "b h w c"]) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
        """Normalises by the batch's biased variance and remembers the unbiased one, as PyTorch does."""
        values = x.astype(self.mean.dtype)
        mean, var = values.mean((0, 1, 2)), values.var((0, 1, 2))
        count = math.prod(x.shape[:3])
        for statistic, found in ((self.mean, mean), (self.var, var * (count / max(count - 1, 1)))):
            statistic[...] = self.momentum * statistic[...] + (1 - self.momentum) * lax.stop_gradient(found)
        return self._factor_and_offset(mean, var)


class LayerNorm(nnx.Module):
    """Layer normalisation (Ba et al. 2016) over the last axis, of any number of axes.

    Args:
        channels: size of the last axis.
        eps: added to the variance.
    """

    def __init__(self, channels: int, *, eps: float = 1e-6) -> None:
        self.scale = nnx.Param(jnp.ones(channels, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(channels, jnp.float32))
        self.eps = eps

    def __call__(self, x: Float[Array, "*places c"]) -> Float[Array, "*places c"]:
        """The normalised features, in the dtype of `x`; the statistics are computed in at least float32."""
        values = x.astype(at_least_float32(x.dtype))
        mean = values.mean(-1, keepdims=True)
        y = (values - mean) * lax.rsqrt(values.var(-1, keepdims=True) + self.eps)
        return (y * channelwise(self.scale[...], y) + channelwise(self.bias[...], y)).astype(x.dtype)


class Dense(nnx.Module):
    """A linear layer at every place, in the dtype of its input.

    Args:
        inputs: channels in.
        outputs: channels out.
        bias: whether it adds one.
        rngs: for the initial kernel.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, rngs: nnx.Rngs) -> None:
        self.kernel = nnx.Param(drawn(rngs, nnx.initializers.lecun_normal(), (inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs, jnp.float32)) if bias else None

    def __call__(self, x: Float[Array, "*places c"]) -> Float[Array, "*places c2"]:
        """The features."""
        y = x @ self.kernel[...].astype(x.dtype)
        return y if self.bias is None else y + channelwise(self.bias[...], y)


class MLP(nnx.Module):
    """Two linear layers at every place, GELU between.

    Args:
        width: channels in and out.
        inner: channels between.
        rngs: for the initial kernels.
    """

    def __init__(self, width: int, inner: int, *, rngs: nnx.Rngs) -> None:
        self.fc1 = Dense(width, inner, rngs=rngs)
        self.fc2 = Dense(inner, width, rngs=rngs)

    def __call__(self, x: Float[Array, "*places c"]) -> Float[Array, "*places c"]:
        """Each place's features."""
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False))


class Linear(nnx.Module):
    """The head: `pooled @ kernel + bias`, in float32 whatever the features' dtype.

    Args:
        inputs: channels in.
        outputs: classes.
        rngs: for the initial kernel.
    """

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs) -> None:
        self.kernel = nnx.Param(drawn(rngs, nnx.initializers.lecun_normal(), (inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs, jnp.float32))

    def __call__(self, x: Float[Array, "b c"]) -> Float[Array, "b n"]:
        """The logits, float32."""
        return x.astype(self.kernel.dtype) @ self.kernel[...] + self.bias[...][None, :]


class Chain(nnx.List[Any]):
    """Layers in a row, each named by its place in it, as PyTorch's `Sequential`.

    A convolution's normalisation stands right behind it.

    Args:
        layers: in order.
    """

    def __init__(self, layers: Sequence[nnx.Module]) -> None:
        super().__init__(layers)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """What the last of them gives."""
        for layer in self:
            x = layer(x)
        return x


def channelwise(vector: Float[Array, " c"], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """A per-channel vector in the shape and dtype that multiplies or adds to `x`, whose last axis are the channels."""
    return vector.astype(x.dtype).reshape((1,) * (x.ndim - 1) + vector.shape)


def sides(size: Size) -> tuple[int, int]:
    """The rows and columns of a kernel of that size."""
    return (size, size) if isinstance(size, int) else size


def symmetric(size: Size) -> tuple[tuple[int, int], tuple[int, int]]:
    """PyTorch's usual padding for a kernel of that size: the same on opposite sides."""
    row, column = ((side - 1) // 2 for side in sides(size))
    return ((row, row), (column, column))


def max_pool(
    x: Float[Array, "b h w c"], size: int, *, stride: int, edges: Edges = "filled"
) -> Float[Array, "b h2 w2 c"]:
    """Max pooling as PyTorch's; a border is -inf, never a zero that a negative feature would lose to.

    Its gradient goes to the first maximum of a window, row by row, as PyTorch's does: the black border of a padded
    picture is nothing but ties.

    Args:
        x: the features.
        size: side of the window.
        stride: from one to the next.
        edges: `"filled"` has the usual padding on every side, `"whole"` none: what is left at the end is left out.
            `"ceil"` has a last window for that (PyTorch's `ceil_mode`, without padding).
    """
    if edges == "filled":
        pads = symmetric(size)
    else:
        rows, columns = ((side - size if edges == "ceil" else 0) for side in x.shape[1:3])
        pads = ((0, -rows % stride), (0, -columns % stride))
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf)
    # XLA's CPU backend walks a window pixel by pixel; on a GPU the slices take three quarters of the windows' time.
    slices = functools.partial(_max_of_slices, size=size, stride=stride)
    windows = functools.partial(_max_of_windows, size=size, stride=stride)
    return lax.platform_dependent(x, cpu=slices, cuda=slices, default=windows)


def _max_of_windows(x: Float[Array, "b h w c"], *, size: int, stride: int) -> Float[Array, "b h2 w2 c"]:
    least = np.asarray(-np.inf, x.dtype)  # no JAX array, which JAX would not know as the start of a maximum
    return lax.reduce_window(x, least, lax.max, (1, size, size, 1), (1, stride, stride, 1), "VALID")


def _max_of_slices(x: Float[Array, "b h w c"], *, size: int, stride: int) -> Float[Array, "b h2 w2 c"]:
    bottom, right = (side - size + 1 for side in x.shape[1:3])
    # Along each row first: so the first of the rows that have the maximum wins, and in it the first pixel.
    columns = functools.reduce(_first_maximum, [x[:, :, j : j + right : stride] for j in range(size)])
    return functools.reduce(_first_maximum, [columns[:, i : i + bottom : stride] for i in range(size)])


@jax.custom_jvp
def _first_maximum(first: Float[Array, "..."], second: Float[Array, "..."]) -> Float[Array, "..."]:
    """The larger one, NaN before any number; unlike `jnp.maximum`, whose derivative halves a tie, all of the first."""
    return jnp.maximum(first, second)


@_first_maximum.defjvp
def _first_maximum_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    first, second = primals
    chosen = (second > first) | jnp.isnan(second)
    # Not the maximum by itself: XLA's `max` is a sixth faster than the selection that has this derivative.
    return _first_maximum(first, second), jnp.where(chosen, tangents[1], tangents[0])


def global_average(x: Float[Array, "b h w c"]) -> Float[Array, "b c"]:
    """Global average pooling, accumulated in at least float32."""
    return x.astype(at_least_float32(x.dtype)).mean(axis=(-3, -2))
