"""A network made ready for inference: normalisations folded into convolutions, each computed the fastest way.

A batch normalisation after a convolution only scales and shifts its outputs, so its factor belongs into the kernel and
its offset becomes a bias. What is left is convolution + bias + residual + ReLU: on a GPU, the form that XLA has one
cuDNN call for; on a CPU, one pass over what a matrix product has written.
"""

from collections.abc import Mapping

from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from camjax.models.convolution import ALGORITHMS, Shape, choose, suits_winograd, winograd_kernel
from camjax.models.layers import BatchNorm, Conv, channelwise


class InferenceConv(nnx.Module):
    """A convolution, the normalisation after it folded in.

    Args:
        conv: the convolution.
        norm: what follows it, if anything does.
        dtype: of the kernel and the bias: cuDNN fuses no bias of another dtype.
        platform: `"cpu"`, `"gpu"` or `"tpu"`.
    """

    def __init__(self, conv: Conv, norm: BatchNorm | None, *, dtype: DTypeLike, platform: str) -> None:
        kernel, bias = conv.kernel[...], None
        if norm is not None:
            factor, bias = norm.factor_and_offset()
            kernel = kernel * factor[None, None, None, :]
        size, _, inputs, outputs = kernel.shape
        self.shape = Shape(size, conv.stride, conv.padding, conv.groups, inputs * conv.groups, outputs)
        self.platform = platform
        self.kernel = nnx.Param(kernel.astype(dtype))
        suits = suits_winograd(self.shape, dtype, platform)
        self.winograd = nnx.Param(winograd_kernel(kernel)) if suits else None
        self.bias = None if bias is None else nnx.Param(bias.astype(dtype))

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The convolved and shifted features, in the dtype of `x`."""
        algorithm = choose(self.shape, self.shape.tiles(x), x.dtype, self.platform)
        kernel = self.kernel if algorithm != "winograd" or self.winograd is None else self.winograd
        y = ALGORITHMS[algorithm](x, kernel[...].astype(x.dtype), self.shape)
        return y if self.bias is None else y + channelwise(self.bias[...], y)


class Identity(nnx.Module):
    """Where a normalisation was."""

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """The features, unchanged."""
        return x


def fold(network: nnx.Module, *, dtype: DTypeLike, platform: str) -> None:
    """Replaces every convolution of a network, and the normalisations after them, in place.

    A module tells in `norms` which of its normalisations follows which convolution. Those that follow none (the first
    of a pre-activation block) stay.

    Args:
        network: changed; merge or clone one for it.
        dtype: what the network is to compute in.
        platform: `"cpu"`, `"gpu"` or `"tpu"`.
    """
    modules = [node for _, node in nnx.iter_graph(network) if isinstance(node, nnx.Module)]
    for module in modules:
        norms: Mapping[str, str] = getattr(module, "norms", {})
        for name, conv in [(name, child) for name, child in vars(module).items() if isinstance(child, Conv)]:
            norm = getattr(module, norms[name]) if name in norms else None
            setattr(module, name, InferenceConv(conv, norm, dtype=dtype, platform=platform))
            if norm is not None:
                setattr(module, norms[name], Identity())
