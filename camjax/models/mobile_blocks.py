"""The blocks of mobile networks: a filter for each channel by itself, and 1x1 convolutions that mix channels."""

import types
from collections.abc import Callable
from typing import NamedTuple

import jax
from flax import nnx
from jax import Array
from jaxtyping import Float

from camjax.models.layers import Activation, BatchNorm, Conv, global_average


class Layers(NamedTuple):
    """How a config makes its layers.

    Attributes:
        conv: with the config's padding.
        norm: with its epsilon.
        activation: behind every normalisation but a block's last.
        excitation: `excitation(inputs, inner)`: the squeeze-and-excitation of a block that so many channels enter and
            that has so many inside, or None.
    """

    conv: Callable[..., Conv]
    norm: Callable[..., BatchNorm]
    activation: Activation
    excitation: Callable[[int, int], nnx.Module | None] = lambda _, __: None


class SqueezeExcite(nnx.Module):
    """Scales every channel by what two 1x1 convolutions make of the channels' means (Hu et al. 2017).

    Args:
        channels: in and out.
        squeezed: between the two.
        conv: makes a convolution.
        activation: between the two.
        gate: of what comes out, which scales.
    """

    def __init__(
        self,
        channels: int,
        squeezed: int,
        conv: Callable[..., Conv],
        activation: Activation,
        gate: Activation = jax.nn.sigmoid,
    ) -> None:
        self.conv_reduce = conv(channels, squeezed, 1, bias=True)
        self.conv_expand = conv(squeezed, channels, 1, bias=True)
        self.activation = activation
        self.gate = gate

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """The scaled features."""
        mean = global_average(x).astype(x.dtype)[:, None, None, :]
        return x * self.gate(self.conv_expand(self.activation(self.conv_reduce(mean))))


class DepthwiseSeparable(nnx.Module):
    """Filter each channel by itself, then mix them; a shortcut where the shapes agree."""

    norms = types.MappingProxyType({"conv_dw": "bn1", "conv_pw": "bn2"})

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, layers: Layers) -> None:
        self.conv_dw = layers.conv(inputs, inputs, size, stride=stride, groups=inputs)
        self.bn1 = layers.norm(inputs, activation=layers.activation)
        self.se = layers.excitation(inputs, inputs)
        self.conv_pw = layers.conv(inputs, outputs, 1)
        self.bn2 = layers.norm(outputs)
        self.residual = stride == 1 and inputs == outputs

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The block's features."""
        y = self.bn1(self.conv_dw(x))
        y = y if self.se is None else self.se(y)
        y = self.bn2(self.conv_pw(y))
        return x + y if self.residual else y


class InvertedResidual(nnx.Module):
    """Widen, filter each channel by itself, narrow; a shortcut where the shapes agree."""

    norms = types.MappingProxyType({"conv_pw": "bn1", "conv_dw": "bn2", "conv_pwl": "bn3"})

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, inner: int, layers: Layers) -> None:
        self.conv_pw = layers.conv(inputs, inner, 1)
        self.bn1 = layers.norm(inner, activation=layers.activation)
        self.conv_dw = layers.conv(inner, inner, size, stride=stride, groups=inner)
        self.bn2 = layers.norm(inner, activation=layers.activation)
        self.se = layers.excitation(inputs, inner)
        self.conv_pwl = layers.conv(inner, outputs, 1)
        self.bn3 = layers.norm(outputs)
        self.residual = stride == 1 and inputs == outputs

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The block's features."""
        y = self.bn1(self.conv_pw(x))
        y = self.bn2(self.conv_dw(y))
        y = y if self.se is None else self.se(y)
        y = self.bn3(self.conv_pwl(y))
        return x + y if self.residual else y


def divisible(channels: float) -> int:
    """The nearest multiple of 8 that is at most a tenth below."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
