"""A convolution with its normalisation as one layer, which many networks are made of."""

import types

import jax
from flax import nnx
from jax import Array
from jaxtyping import Float

from camjax.models.layers import Activation, BatchNorm, Conv, Padding, Size
from camjax.models.layout import Table, batch_norm, conv


class ConvNorm(nnx.Module):
    """A convolution, a batch normalisation and an activation; `bn` is what leaves the last of them.

    Args:
        inputs: channels in.
        outputs: channels out.
        size: as `Conv` has it.
        stride: as `Conv` has it.
        padding: as `Conv` has it.
        groups: as `Conv` has it.
        eps: of the normalisation.
        activation: behind it.
        rngs: for the initial kernel.
    """

    norms = types.MappingProxyType({"conv": "bn"})

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: Size,
        *,
        stride: int = 1,
        padding: Padding | None = None,
        groups: int = 1,
        eps: float = 1e-5,
        activation: Activation | None = jax.nn.relu,
        rngs: nnx.Rngs,
    ) -> None:
        self.conv = Conv(inputs, outputs, size, stride=stride, padding=padding, groups=groups, rngs=rngs)
        self.bn = BatchNorm(outputs, eps=eps, activation=activation)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The features."""
        return self.bn(self.conv(x))


class ConvNormReLU(ConvNorm):
    """The same with ReLU outside the normalisation, so that `bn` is what torchvision's modules of that name give.

    Args:
        inputs: as `ConvNorm` has them, and so on.
        outputs: channels out.
        size: of the kernel.
        stride: of the convolution.
        padding: of the convolution.
        eps: of the normalisation.
        rngs: for the initial kernel.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: Size,
        *,
        stride: int = 1,
        padding: Padding | None = None,
        eps: float = 1e-5,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(inputs, outputs, size, stride=stride, padding=padding, eps=eps, activation=None, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The features."""
        return jax.nn.relu(super().__call__(x))


def conv_norm(ours: str, their_conv: str, their_norm: str) -> Table:
    """The lines of a `ConvNorm`."""
    return conv(f"{ours}.conv", their_conv) | batch_norm(f"{ours}.bn", their_norm)
