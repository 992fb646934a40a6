"""EfficientNet-Lite (Tan & Le 2019, in the Lite form of TensorFlow's TPU models): no squeeze-and-excitation, ReLU6.

Two architectures have the same parameters and compute differently: timm's `tf_efficientnet_lite0`, with the padding and
epsilon of the TensorFlow network whose weights it has, and its `efficientnet_lite0`, trained in PyTorch with PyTorch's.
"""

import dataclasses
import functools
import types
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
from flax import nnx
from jax import Array
from jaxtyping import Float

from camjax.images.preprocess import Preprocess
from camjax.models.configs import within
from camjax.models.family import Architecture, Family, timm_arguments
from camjax.models.layers import BatchNorm, Chain, Conv, Linear
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


class DepthwiseSeparable(nnx.Module):
    """Filter each channel by itself, then mix them; a shortcut where the shapes agree."""

    norms = types.MappingProxyType({"conv_dw": "bn1", "conv_pw": "bn2"})

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, layers: "Layers") -> None:
        self.conv_dw = layers.conv(inputs, inputs, size, stride=stride, groups=inputs)
        self.bn1 = layers.norm(inputs, activation=jax.nn.relu6)
        self.conv_pw = layers.conv(inputs, outputs, 1)
        self.bn2 = layers.norm(outputs)
        self.residual = stride == 1 and inputs == outputs

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The block's features."""
        y = self.bn1(self.conv_dw(x))
        y = self.bn2(self.conv_pw(y))
        return x + y if self.residual else y


class InvertedResidual(nnx.Module):
    """Widen, filter each channel by itself, narrow; a shortcut where the shapes agree."""

    norms = types.MappingProxyType({"conv_pw": "bn1", "conv_dw": "bn2", "conv_pwl": "bn3"})

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, expansion: int, layers: "Layers") -> None:
        inner = inputs * expansion
        self.conv_pw = layers.conv(inputs, inner, 1)
        self.bn1 = layers.norm(inner, activation=jax.nn.relu6)
        self.conv_dw = layers.conv(inner, inner, size, stride=stride, groups=inner)
        self.bn2 = layers.norm(inner, activation=jax.nn.relu6)
        self.conv_pwl = layers.conv(inner, outputs, 1)
        self.bn3 = layers.norm(outputs)
        self.residual = stride == 1 and inputs == outputs

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The block's features."""
        y = self.bn1(self.conv_pw(x))
        y = self.bn2(self.conv_dw(y))
        y = self.bn3(self.conv_pwl(y))
        return x + y if self.residual else y


class Layers(NamedTuple):
    """How a config makes its layers."""

    conv: Callable[..., Conv]
    norm: Callable[..., BatchNorm]


class EfficientNetLite(Network):
    """The network, its modules named as timm names them.

    Its stages: `bn1` (after the first convolution, its normalisation and ReLU6; stride 2), `blocks.0` to `blocks.6`
    (each one's output, which has no ReLU; strides 2, 4, 8, 16, 16, 32 and 32) and `bn2` (after the last convolution,
    its normalisation and ReLU6; stride 32).

    Args:
        config: its stages.
        rngs: for the initial weights.
    """

    layer = "bn2"
    linear = "classifier"
    norms = types.MappingProxyType({"conv_stem": "bn1", "conv_head": "bn2"})

    def __init__(self, config: EfficientNetLiteConfig, *, rngs: nnx.Rngs) -> None:
        layers = Layers(
            functools.partial(Conv, padding=PADDINGS[config.padding], rngs=rngs),
            functools.partial(BatchNorm, eps=config.eps),
        )
        self.conv_stem = layers.conv(3, config.stem_width, 3, stride=2)
        self.bn1 = layers.norm(config.stem_width, activation=jax.nn.relu6)
        blocks = []
        inputs = config.stem_width
        for size, stride, expansion, outputs, depth in zip(
            config.kernel_sizes, config.strides, config.expansions, config.widths, config.depths, strict=True
        ):
            stage: list[nnx.Module] = []
            for index in range(depth):
                step = stride if index == 0 else 1
                if expansion == 1:
                    stage.append(DepthwiseSeparable(inputs, outputs, size, step, layers))
                else:
                    stage.append(InvertedResidual(inputs, outputs, size, step, expansion, layers))
                inputs = outputs
            blocks.append(Chain(stage))
        self.blocks = nnx.List(blocks)
        self.conv_head = layers.conv(inputs, config.head_width, 1)
        self.bn2 = layers.norm(config.head_width, activation=jax.nn.relu6)
        self.classifier = Linear(config.head_width, config.num_classes, rngs=rngs)
        self.order = ("bn1", *(f"blocks.{number}" for number in range(len(blocks))), "bn2")

    def stage(self, name: str, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """One stage's features; see `Network.stage`."""
        x = {"bn1": self.conv_stem, "bn2": self.conv_head}[name](x) if name in ("bn1", "bn2") else x
        return super().stage(name, x)


def timm_table(config: EfficientNetLiteConfig) -> Table:
    """Names of timm, which are ours."""
    table = conv("conv_stem", "conv_stem") | batch_norm("bn1", "bn1")
    for _, _, block, layers in _blocks(config):
        for name, norm in layers.items():
            table |= conv(f"{block}.{name}", f"{block}.{name}") | batch_norm(f"{block}.{norm}", f"{block}.{norm}")
    return table | conv("conv_head", "conv_head") | batch_norm("bn2", "bn2") | linear("classifier", "classifier")


def efficientnet_pytorch_table(config: EfficientNetLiteConfig) -> Table:
    """The names of efficientnet-pytorch and its Lite sibling (`_blocks.N`, counted through)."""
    table = conv("conv_stem", "_conv_stem") | batch_norm("bn1", "_bn0")
    names = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
    for number, expanded, block, layers in _blocks(config):
        for (name, norm), (their_conv, their_norm) in zip(layers.items(), names[not expanded :], strict=True):
            table |= conv(f"{block}.{name}", f"_blocks.{number}.{their_conv}")
            table |= batch_norm(f"{block}.{norm}", f"_blocks.{number}.{their_norm}")
    return table | conv("conv_head", "_conv_head") | batch_norm("bn2", "_bn1") | linear("classifier", "_fc")


def _blocks(config: EfficientNetLiteConfig) -> Iterator[tuple[int, bool, str, Mapping[str, str]]]:
    """Every block's number, whether it widens, its name, and its convolutions with their normalisations."""
    places = [(stage, index) for stage, depth in enumerate(config.depths) for index in range(depth)]
    for number, (stage, index) in enumerate(places):
        expanded = config.expansions[stage] != 1
        layers = InvertedResidual.norms if expanded else DepthwiseSeparable.norms
        yield number, expanded, f"blocks.{stage}.{index}", layers


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
    title="EfficientNet-Lite (Tan & Le 2019)",
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
