"""EfficientNet-Lite (Tan & Le 2019, in the Lite form of TensorFlow's TPU models): no squeeze-and-excitation, ReLU6.

Two architectures have the same parameters and compute differently: timm's `tf_efficientnet_lite0`, with the padding and
epsilon of the TensorFlow network whose weights it has, and its `efficientnet_lite0`, trained in PyTorch with PyTorch's.
"""

import dataclasses
import functools
import types

import jax
from flax import nnx
from jax import Array
from jaxtyping import Float

from camjax.images.preprocess import Preprocess
from camjax.models.configs import within
from camjax.models.family import Architecture, Family, timm_arguments
from camjax.models.layers import BatchNorm, Conv, Linear
from camjax.models.layout import Layout, Table, batch_norm, classes_of, conv, linear
from camjax.models.network import Network

PADDINGS = {"same": "SAME", "symmetric": None}
"""TensorFlow's padding and PyTorch's, as `Conv` takes them; they differ where the stride is not 1."""


@dataclasses.dataclass(frozen=True)
class EfficientNetLiteConfig:
    """The stages of the network, one entry of each tuple a stage.

    Attributes:
        depths: blocks.
        kernel_sizes: side of the depthwise kernel.
        strides: of the first block.
        expansions: how many times wider a block is inside.
        widths: channels out.
        stem_width: channels of the first convolution.
        head_width: channels of the last convolution, which is pooled.
        num_classes: outputs of the linear head.
        padding: `"same"` as TensorFlow pads, or `"symmetric"` as PyTorch does.
        eps: of every normalisation.
    """

    depths: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
    kernel_sizes: tuple[int, ...] = (3, 3, 5, 3, 5, 5, 3)
    strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
    expansions: tuple[int, ...] = (1, 6, 6, 6, 6, 6, 6)
    widths: tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)
    stem_width: int = 32
    head_width: int = 1280
    num_classes: int = 1000
    padding: str = "same"
    eps: float = 1e-3


class InvertedBottleneck(nnx.Module):
    """Widen (unless the expansion is 1), filter each channel by itself, narrow; a shortcut where the shapes agree."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel_size: int,
        stride: int,
        expansion: int,
        config: EfficientNetLiteConfig,
        rngs: nnx.Rngs,
    ) -> None:
        inner = inputs * expansion
        layer = functools.partial(ConvNorm, config=config, rngs=rngs)
        self.expand = None if expansion == 1 else layer(inputs, inner, 1)
        self.depthwise = layer(inner, inner, kernel_size, stride=stride, groups=inner)
        self.project = layer(inner, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The block's features."""
        y = x if self.expand is None else jax.nn.relu6(self.expand(x))
        y = jax.nn.relu6(self.depthwise(y))
        y = self.project(y)
        return x + y if self.residual else y


class ConvNorm(nnx.Module):
    """A convolution and its normalisation, with the config's padding and epsilon."""

    norms = types.MappingProxyType({"conv": "bn"})

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        config: EfficientNetLiteConfig,
        rngs: nnx.Rngs,
    ) -> None:
        padding = PADDINGS[config.padding]
        self.conv = Conv(inputs, outputs, size, stride=stride, padding=padding, groups=groups, rngs=rngs)
        self.bn = BatchNorm(outputs, eps=config.eps)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The normalised features, before any activation."""
        return self.bn(self.conv(x))


class EfficientNetLite(Network):
    """The network.

    Its features: `stem` (stride 2), `stage1` to `stage7` (each stage's output, which has no ReLU; strides 2, 4, 8, 16,
    16, 32 and 32) and `head` (after the last convolution and its ReLU6; stride 32).

    Args:
        config: its stages.
        rngs: for the initial weights.
    """

    pooled = "head"

    def __init__(self, config: EfficientNetLiteConfig, *, rngs: nnx.Rngs) -> None:
        self.stem = ConvNorm(3, config.stem_width, 3, stride=2, config=config, rngs=rngs)
        numbered = tuple(f"stage{number}" for number in range(1, len(config.depths) + 1))
        self.stages = ("stem", *numbered, "head")
        inputs = config.stem_width
        for stage, (name, depth) in enumerate(zip(numbered, config.depths, strict=True)):
            blocks = []
            for index in range(depth):
                block = InvertedBottleneck(
                    inputs,
                    config.widths[stage],
                    kernel_size=config.kernel_sizes[stage],
                    stride=config.strides[stage] if index == 0 else 1,
                    expansion=config.expansions[stage],
                    config=config,
                    rngs=rngs,
                )
                blocks.append(block)
                inputs = config.widths[stage]
            setattr(self, name, nnx.List(blocks))
        self.last = ConvNorm(inputs, config.head_width, 1, config=config, rngs=rngs)
        self.fc = Linear(config.head_width, config.num_classes, rngs=rngs)

    def stage(self, name: str, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """One stage's features; see `Network.stage`."""
        if name == "stem":
            return jax.nn.relu6(self.stem(x))
        if name == "head":
            return jax.nn.relu6(self.last(x))
        for block in getattr(self, name):
            x = block(x)
        return x


def timm_table(config: EfficientNetLiteConfig) -> Table:
    """Names of timm (`blocks.STAGE.BLOCK`)."""
    table = _layer("stem", "conv_stem", "bn1") | _layer("last", "conv_head", "bn2") | linear("fc", "classifier")
    expanded = {"conv_pw": "expand", "conv_dw": "depthwise", "conv_pwl": "project"}
    plain = {"conv_dw": "depthwise", "conv_pw": "project"}
    for stage, depth in enumerate(config.depths):
        parts = plain if config.expansions[stage] == 1 else expanded
        for block in range(depth):
            theirs = f"blocks.{stage}.{block}"
            for norm, (name, ours) in enumerate(parts.items(), start=1):
                table |= _layer(f"stage{stage + 1}.{block}.{ours}", f"{theirs}.{name}", f"{theirs}.bn{norm}")
    return table


def efficientnet_pytorch_table(config: EfficientNetLiteConfig) -> Table:
    """The names of efficientnet-pytorch and its Lite sibling (`_blocks.N`, counted through)."""
    table = _layer("stem", "_conv_stem", "_bn0") | _layer("last", "_conv_head", "_bn1") | linear("fc", "_fc")
    parts = {"expand": ("_expand_conv", "_bn0"), "depthwise": ("_depthwise_conv", "_bn1")}
    parts["project"] = ("_project_conv", "_bn2")
    number = 0
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            for ours, (name, norm) in parts.items():
                if ours == "expand" and config.expansions[stage] == 1:
                    continue
                theirs = f"_blocks.{number}"
                table |= _layer(f"stage{stage + 1}.{block}.{ours}", f"{theirs}.{name}", f"{theirs}.{norm}")
            number += 1
    return table


def _layer(ours: str, their_conv: str, their_norm: str) -> Table:
    """The lines of a `ConvNorm`."""
    return conv(f"{ours}.conv", their_conv) | batch_norm(f"{ours}.bn", their_norm)


def check_config(config: EfficientNetLiteConfig) -> None:
    """Bounds of a config that was read from a file."""
    stages = (config.depths, config.kernel_sizes, config.strides, config.expansions, config.widths)
    if not config.depths or len({len(values) for values in stages}) != 1:
        raise ValueError(f"depths {config.depths}, kernel_sizes, strides, expansions and widths differ in length")
    within("number of stages", len(config.depths), 1, 16)
    within("depths", config.depths, 1, 64)
    within("kernel_sizes", config.kernel_sizes, 1, 31)
    if not all(size % 2 for size in config.kernel_sizes):
        raise ValueError(f"kernel_sizes {config.kernel_sizes} are not all odd")
    within("strides and expansions", (*config.strides, *config.expansions), 1, 16)
    within("widths", (*config.widths, config.stem_width, config.head_width), 1, 1 << 14)
    within("eps", config.eps, 0, 1)
    if config.padding not in PADDINGS:
        raise ValueError(f"padding {config.padding!r} is not one of {', '.join(PADDINGS)}")


FAMILY = Family(
    name="efficientnet_lite",
    config=EfficientNetLiteConfig,
    module=EfficientNetLite,
    layouts={
        "timm": Layout(timm_table, classes_of("classifier.weight")),
        "efficientnet-pytorch": Layout(
            efficientnet_pytorch_table,
            classes_of("_fc.weight"),
            holds=lambda config: (config.padding, config.eps) == ("same", 1e-3),
        ),
    },
    check=check_config,
    from_timm=timm_arguments(act_layer="relu6", norm_layer="batchnorm", output_stride=32),
)

_halves = (0.5, 0.5, 0.5)
ARCHITECTURES = (
    Architecture(
        "efficientnet_lite0",
        family=FAMILY,
        config=EfficientNetLiteConfig(padding="symmetric", eps=1e-5),
        preprocess=Preprocess(interpolation="bicubic"),
    ),
    Architecture(
        "tf_efficientnet_lite0",
        family=FAMILY,
        config=EfficientNetLiteConfig(padding="same", eps=1e-3),
        preprocess=Preprocess(interpolation="bicubic", mean=_halves, std=_halves),
    ),
)
