"""EfficientNet-Lite (Tan & Le 2019, in the Lite form of TensorFlow's TPU models): no squeeze-and-excitation, ReLU6.

TensorFlow's "SAME" padding and eps 1e-3, as the weights were trained with.
"""

import dataclasses
import types

import jax
from flax import nnx
from jax import Array
from jaxtyping import Float

from camjax.models.family import Architecture, Family, KeyTable
from camjax.models.layers import Activation, BatchNorm, Chain, Conv, Linear
from camjax.models.network import Network

EPS = 1e-3


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
    """

    depths: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
    kernel_sizes: tuple[int, ...] = (3, 3, 5, 3, 5, 5, 3)
    strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
    expansions: tuple[int, ...] = (1, 6, 6, 6, 6, 6, 6)
    widths: tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)
    stem_width: int = 32
    head_width: int = 1280
    num_classes: int = 1000


class InvertedBottleneck(nnx.Module):
    """Widen (unless the expansion is 1), filter each channel by itself, narrow; a shortcut where the shapes agree."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel_size: int, stride: int, expansion: int, rngs: nnx.Rngs
    ) -> None:
        inner = inputs * expansion
        self.expand = None if expansion == 1 else ConvNorm(inputs, inner, 1, activation=jax.nn.relu6, rngs=rngs)
        self.depthwise = ConvNorm(
            inner, inner, kernel_size, stride=stride, groups=inner, activation=jax.nn.relu6, rngs=rngs
        )
        self.project = ConvNorm(inner, outputs, 1, rngs=rngs)
        self.residual = stride == 1 and inputs == outputs

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The block's features."""
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.residual else y


class ConvNorm(nnx.Module):
    """A convolution with TensorFlow's padding, its normalisation, and an activation where one follows."""

    norms = types.MappingProxyType({"conv": "bn"})

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: Activation | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        self.conv = Conv(inputs, outputs, size, stride=stride, padding="SAME", groups=groups, rngs=rngs)
        self.bn = BatchNorm(outputs, eps=EPS, activation=activation)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The normalised features."""
        return self.bn(self.conv(x))


class EfficientNetLite(Network):
    """The network.

    Its stages: `stem` (stride 2), `stage1` to `stage7` (each one's output, which has no ReLU; strides 2, 4, 8, 16, 16,
    32 and 32) and `last` (after the last convolution and its ReLU6; stride 32).

    Args:
        config: its stages.
        rngs: for the initial weights.
    """

    layer = "last"

    def __init__(self, config: EfficientNetLiteConfig, *, rngs: nnx.Rngs) -> None:
        self.stem = ConvNorm(3, config.stem_width, 3, stride=2, activation=jax.nn.relu6, rngs=rngs)
        numbered = tuple(f"stage{number}" for number in range(1, len(config.depths) + 1))
        self.stages = ("stem", *numbered, "last")
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
                    rngs=rngs,
                )
                blocks.append(block)
                inputs = config.widths[stage]
            setattr(self, name, Chain(blocks))
        self.last = ConvNorm(inputs, config.head_width, 1, activation=jax.nn.relu6, rngs=rngs)
        self.fc = Linear(config.head_width, config.num_classes, rngs=rngs)


def timm_keys(config: EfficientNetLiteConfig) -> KeyTable:
    """Module names of timm (`blocks.STAGE.BLOCK`), and ours."""
    table = {
        "conv_stem": "stem.conv",
        "bn1": "stem.bn",
        "conv_head": "last.conv",
        "bn2": "last.bn",
        "classifier": "fc",
    }
    expanded = {"conv_pw": "expand", "conv_dw": "depthwise", "conv_pwl": "project"}
    plain = {"conv_dw": "depthwise", "conv_pw": "project"}
    for stage, depth in enumerate(config.depths):
        parts = plain if config.expansions[stage] == 1 else expanded
        for block in range(depth):
            for norm, (theirs, ours) in enumerate(parts.items(), start=1):
                table[f"blocks.{stage}.{block}.{theirs}"] = f"stage{stage + 1}.{block}.{ours}.conv"
                table[f"blocks.{stage}.{block}.bn{norm}"] = f"stage{stage + 1}.{block}.{ours}.bn"
    return table


def efficientnet_pytorch_keys(config: EfficientNetLiteConfig) -> KeyTable:
    """The names of efficientnet-pytorch and its Lite sibling (`_blocks.N`, counted through), and ours."""
    table = {
        "_conv_stem": "stem.conv",
        "_bn0": "stem.bn",
        "_conv_head": "last.conv",
        "_bn1": "last.bn",
        "_fc": "fc",
    }
    parts = {"expand": ("_expand_conv", "_bn0"), "depthwise": ("_depthwise_conv", "_bn1")}
    parts["project"] = ("_project_conv", "_bn2")
    number = 0
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            for ours, (conv, norm) in parts.items():
                if ours == "expand" and config.expansions[stage] == 1:
                    continue
                table[f"_blocks.{number}.{conv}"] = f"stage{stage + 1}.{block}.{ours}.conv"
                table[f"_blocks.{number}.{norm}"] = f"stage{stage + 1}.{block}.{ours}.bn"
            number += 1
    return table


FAMILY = Family(
    name="efficientnet_lite",
    config=EfficientNetLiteConfig,
    module=EfficientNetLite,
    head=EfficientNetLite.linear,
    layouts={"timm": timm_keys, "efficientnet-pytorch": efficientnet_pytorch_keys},
)

ARCHITECTURES = (Architecture("efficientnet_lite0", family=FAMILY, config=EfficientNetLiteConfig()),)
