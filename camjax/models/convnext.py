"""ConvNeXt (Liu et al. 2022) and ConvNeXt V2 (Woo et al. 2023) with timm's names.

A block is a 7x7 convolution of each channel by itself, a layer normalisation and a two-layer perceptron, beside a
shortcut. V2 has a global response normalisation inside the perceptron, V1 a learned scale behind it.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from camjax.core.precision import at_least_float32
from camjax.errors import CheckpointError
from camjax.images.preprocess import Preprocess
from camjax.models.configs import within
from camjax.models.family import Architecture, Family, timm_arguments
from camjax.models.layers import Chain, Conv, Dense, LayerNorm, Linear, channelwise, global_average
from camjax.models.layout import Layout, Read, Table, conv, linear, norm
from camjax.models.network import Network

_VALID = ((0, 0), (0, 0))


@dataclasses.dataclass(frozen=True)
class ConvNeXtConfig:
    """What tells one member of the family from another.

    Attributes:
        depths: blocks in each stage.
        widths: channels of each stage.
        response: V2's global response normalisation instead of V1's scale.
        num_classes: outputs of the head.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...] = (96, 192, 384, 768)
    response: bool = False
    num_classes: int = 1000


class GlobalResponseNorm(nnx.Module):
    """Scales every channel by its norm over all places, relative to the other channels'."""

    def __init__(self, channels: int, *, eps: float = 1e-6) -> None:
        self.scale = nnx.Param(jnp.zeros(channels, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(channels, jnp.float32))
        self.eps = eps

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """The features, and those scaled."""
        squares = jnp.square(x.astype(at_least_float32(x.dtype))).sum((1, 2), keepdims=True)
        # The root of zero has no slope: a channel that is zero everywhere would make every gradient NaN.
        norms = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)
        relative = (norms / (norms.mean(-1, keepdims=True) + self.eps)).astype(x.dtype)
        return x + channelwise(self.bias[...], x) + channelwise(self.scale[...], x) * (x * relative)


class Perceptron(nnx.Module):
    """Widen four times, GELU, narrow, at every place by itself."""

    def __init__(self, width: int, *, response: bool, rngs: nnx.Rngs) -> None:
        self.fc1 = Dense(width, 4 * width, rngs=rngs)
        self.grn = GlobalResponseNorm(4 * width) if response else None
        self.fc2 = Dense(4 * width, width, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """The features."""
        y = jax.nn.gelu(self.fc1(x), approximate=False)
        return self.fc2(y if self.grn is None else self.grn(y))


class Block(nnx.Module):
    """A convolution of each channel, a normalisation and a perceptron, beside a shortcut."""

    def __init__(self, width: int, *, response: bool, rngs: nnx.Rngs) -> None:
        self.conv_dw = Conv(width, width, 7, groups=width, bias=True, rngs=rngs)
        self.norm = LayerNorm(width)
        self.mlp = Perceptron(width, response=response, rngs=rngs)
        self.gamma = None if response else nnx.Param(jnp.full(width, 1e-6, jnp.float32))

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """The block's features."""
        y = self.mlp(self.norm(self.conv_dw(x)))
        return x + (y if self.gamma is None else y * channelwise(self.gamma[...], y))


class Stage(nnx.Module):
    """Half the height and width, but for the first stage, and blocks."""

    def __init__(self, inputs: int, width: int, blocks: list[Block], *, first: bool, rngs: nnx.Rngs) -> None:
        halved = Conv(inputs, width, 2, stride=2, padding=_VALID, bias=True, rngs=rngs)
        self.downsample = None if first else Chain([LayerNorm(inputs), halved])
        self.blocks = Chain(blocks)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The stage's features."""
        return self.blocks(x if self.downsample is None else self.downsample(x))


class Head(nnx.Module):
    """The mean over places, its layer normalisation, and a linear layer."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs) -> None:
        self.norm = LayerNorm(inputs)
        self.fc = Linear(inputs, outputs, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b n"]:
        """The logits."""
        return self.fc(self.norm(global_average(x)))


class ConvNeXt(Network):
    """The network. Its stages: `stem` (stride 4) and `stages.0` to `stages.3` (strides 4, 8, 16 and 32).

    Args:
        config: which member of the family.
        rngs: for the initial weights.
    """

    linear = None

    def __init__(self, config: ConvNeXtConfig, *, rngs: nnx.Rngs) -> None:
        inputs = config.widths[0]
        self.stem = Chain([Conv(3, inputs, 4, stride=4, padding=_VALID, bias=True, rngs=rngs), LayerNorm(inputs)])
        stages = []
        for number, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True)):
            blocks = [Block(width, response=config.response, rngs=rngs) for _ in range(depth)]
            stages.append(Stage(inputs, width, blocks, first=number == 0, rngs=rngs))
            inputs = width
        self.stages = nnx.List(stages)
        self.head = Head(inputs, config.num_classes, rngs=rngs)
        self.order = ("stem", *(f"stages.{number}" for number in range(len(stages))))
        self.layer = self.order[-1]

    def classify(self, x: Float[Array, "b h w c"]) -> Float[Array, "b n"]:
        """The logits from the last stage's features."""
        return self.head(x)


def timm_table(config: ConvNeXtConfig) -> Table:
    """Names of timm, which are ours."""
    table = conv("stem.0", "stem.0", bias=True) | norm("stem.1", "stem.1")
    for number, depth in enumerate(config.depths):
        stage = f"stages.{number}"
        if number:
            table |= norm(f"{stage}.downsample.0", f"{stage}.downsample.0")
            table |= conv(f"{stage}.downsample.1", f"{stage}.downsample.1", bias=True)
        for block in (f"{stage}.blocks.{index}" for index in range(depth)):
            table |= conv(f"{block}.conv_dw", f"{block}.conv_dw", bias=True) | norm(f"{block}.norm", f"{block}.norm")
            for layer in ("mlp.fc1", "mlp.fc2"):
                table |= linear(f"{block}.{layer}", f"{block}.{layer}")
            if config.response:
                table |= norm(f"{block}.mlp.grn", f"{block}.mlp.grn")
            else:
                table[f"{block}.gamma"] = Read((f"{block}.gamma",))
    return table | norm("head.norm", "head.norm") | linear("head.fc", "head.fc")


def torchvision_table(config: ConvNeXtConfig) -> Table:
    """Names of torchvision: everything by its place."""
    table = conv("stem.0", "features.0.0", bias=True) | norm("stem.1", "features.0.1")
    for number, depth in enumerate(config.depths):
        stage, theirs = f"stages.{number}", f"features.{2 * number + 1}"
        if number:
            table |= norm(f"{stage}.downsample.0", f"features.{2 * number}.0")
            table |= conv(f"{stage}.downsample.1", f"features.{2 * number}.1", bias=True)
        for index in range(depth):
            block, there = f"{stage}.blocks.{index}", f"{theirs}.{index}"
            table |= conv(f"{block}.conv_dw", f"{there}.block.0", bias=True) | norm(f"{block}.norm", f"{there}.block.2")
            table |= linear(f"{block}.mlp.fc1", f"{there}.block.3") | linear(f"{block}.mlp.fc2", f"{there}.block.5")
            table[f"{block}.gamma"] = Read((f"{there}.layer_scale",), lambda scale: scale[:, 0, 0])
    return table | norm("head.norm", "classifier.0") | linear("head.fc", "classifier.2")


def check_config(config: ConvNeXtConfig) -> None:
    """Bounds of a config that was read from a file."""
    if len(config.depths) != len(config.widths):
        raise ValueError(f"depths {config.depths} and widths {config.widths} differ in length")
    within("number of stages", len(config.depths), 1, 8)
    within("depths", config.depths, 1, 64)
    within("widths", config.widths, 1, 1 << 13)


def from_timm(config: ConvNeXtConfig, arguments: Mapping[str, Any]) -> ConvNeXtConfig:
    """The config that timm's `model_args` leave as it is, or a refusal of what camjax does not compute."""
    read = timm_arguments(
        act_layer="gelu",
        output_stride=32,
        patch_size=4,
        kernel_sizes=7,
        stem_type="patch",
        conv_bias=True,
        conv_mlp=arguments.get("conv_mlp") is True,  # 1x1 convolutions instead of linear layers: the same numbers
        head_norm_first=False,
        use_grn=config.response,
        ls_init_value=None if config.response else arguments.get("ls_init_value", 1e-6),
    )
    if not config.response and "ls_init_value" in arguments and arguments["ls_init_value"] is None:
        raise CheckpointError("the network was made with ls_init_value=None, which camjax's does not have")
    return read(config, arguments)


FAMILY = Family(
    name="convnext",
    title="ConvNeXt (Liu et al. 2022), ConvNeXt V2 (Woo et al. 2023)",
    config=ConvNeXtConfig,
    module=ConvNeXt,
    layouts={
        "timm": Layout(timm_table, "head.fc.weight"),
        "torchvision": Layout(torchvision_table, "classifier.2.weight", holds=lambda config: not config.response),
    },
    check=check_config,
    from_timm=from_timm,
)

_TINY, _DEEP = (3, 3, 9, 3), (3, 3, 27, 3)
_preset = functools.partial(Architecture, family=FAMILY, preprocess=Preprocess(interpolation="bicubic"))


def _config(depths: tuple[int, ...], width: int, *, response: bool = False) -> ConvNeXtConfig:
    return ConvNeXtConfig(depths, tuple(width << stage for stage in range(4)), response)


_SIZES = {"tiny": (_TINY, 96), "small": (_DEEP, 96), "base": (_DEEP, 128), "large": (_DEEP, 192)}
_SMALL = {"atto": ((2, 2, 6, 2), 40), "femto": ((2, 2, 6, 2), 48), "pico": ((2, 2, 6, 2), 64)}
_V2 = _SMALL | {"nano": ((2, 2, 8, 2), 80)} | {name: _SIZES[name] for name in ("tiny", "base", "large")}
ARCHITECTURES = (
    *(_preset(f"convnext_{name}", config=_config(*size)) for name, size in _SIZES.items()),
    *(_preset(f"convnextv2_{name}", config=_config(*size, response=True)) for name, size in _V2.items()),
)
