"""ResNet (He et al. 2015), Wide ResNet and ResNeXt from one definition, with torchvision's and timm's names.

Bottleneck v1.5: the stride sits on the 3x3 convolution. Every module has torchvision's name (`layer3.2.conv2`); `stem`
is what leaves the max-pool.
"""

import dataclasses
import functools
import types
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx
from jax import Array
from jaxtyping import Float

from camjax.core.names import named_array
from camjax.errors import CheckpointError
from camjax.models.configs import within
from camjax.models.family import Architecture, Family, timm_arguments
from camjax.models.layers import BatchNorm, Chain, Conv, Linear, max_pool
from camjax.models.layout import Layout, Table, Tensors, batch_norm, conv, linear
from camjax.models.network import Network


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
    """What tells one member of the family from another.

    Attributes:
        depths: blocks in each of the four stages.
        bottleneck: blocks of 1x1, 3x3, 1x1 convolutions with four times the width coming out, instead of two 3x3.
        widths: channels of each stage, before the expansion.
        stem_width: channels of the first convolution.
        groups: feature groups of the bottleneck's 3x3 convolution (ResNeXt).
        group_width: channels per group at a stage width of 64 (Wide ResNet, ResNeXt).
        num_classes: outputs of the head.
    """

    depths: tuple[int, int, int, int]
    bottleneck: bool
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    stem_width: int = 64
    groups: int = 1
    group_width: int = 64
    num_classes: int = 1000

    @property
    def expansion(self) -> int:
        """Channels that leave a block, per channel of its stage's width."""
        return 4 if self.bottleneck else 1

    def inner(self, width: int) -> int:
        """Channels inside a bottleneck of a stage of that width."""
        return width * self.group_width // 64 * self.groups


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions beside a shortcut."""

    norms = types.MappingProxyType({"conv1": "bn1", "conv2": "bn2"})

    def __init__(self, inputs: int, width: int, *, stride: int, config: ResNetConfig, rngs: nnx.Rngs) -> None:
        self.conv1 = Conv(inputs, width, 3, stride=stride, rngs=rngs)
        self.bn1 = BatchNorm(width)
        self.conv2 = Conv(width, width, 3, rngs=rngs)
        self.bn2 = BatchNorm(width)
        self.downsample = shortcut(inputs, width * config.expansion, stride, rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The block's features, after its last ReLU."""
        y = jax.nn.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return jax.nn.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nnx.Module):
    """1x1, 3x3, 1x1 convolutions beside a shortcut."""

    norms = types.MappingProxyType({"conv1": "bn1", "conv2": "bn2", "conv3": "bn3"})

    def __init__(self, inputs: int, width: int, *, stride: int, config: ResNetConfig, rngs: nnx.Rngs) -> None:
        inner = config.inner(width)
        outputs = width * config.expansion
        self.conv1 = Conv(inputs, inner, 1, rngs=rngs)
        self.bn1 = BatchNorm(inner)
        self.conv2 = Conv(inner, inner, 3, stride=stride, groups=config.groups, rngs=rngs)
        self.bn2 = BatchNorm(inner)
        self.conv3 = Conv(inner, outputs, 1, rngs=rngs)
        self.bn3 = BatchNorm(outputs)
        self.downsample = shortcut(inputs, outputs, stride, rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The block's features, after its last ReLU."""
        y = jax.nn.relu(self.bn1(self.conv1(x)))
        y = jax.nn.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return jax.nn.relu(y + (x if self.downsample is None else self.downsample(x)))


def shortcut(inputs: int, outputs: int, stride: int, rngs: nnx.Rngs) -> nnx.Module | None:
    """A projection (a strided 1x1 convolution, normalised) where the shapes differ, else None: the identity."""
    if stride == 1 and inputs == outputs:
        return None
    return Chain([Conv(inputs, outputs, 1, stride=stride, rngs=rngs), BatchNorm(outputs)])


class ResNet(Network):
    """The network. Its stages: `stem` (after the max-pool, stride 4) and `layer1` to `layer4` (strides 4, 8, 16, 32).

    Each is what leaves its last ReLU.

    Args:
        config: which member of the family.
        rngs: for the initial weights.
    """

    order = ("stem", "layer1", "layer2", "layer3", "layer4")
    layer = "layer4"
    norms = types.MappingProxyType({"conv1": "bn1"})

    def __init__(self, config: ResNetConfig, *, rngs: nnx.Rngs) -> None:
        self.conv1 = Conv(3, config.stem_width, 7, stride=2, rngs=rngs)
        self.bn1 = BatchNorm(config.stem_width)
        block = Bottleneck if config.bottleneck else BasicBlock
        inputs = config.stem_width
        for stage, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True), start=1):
            blocks = []
            for index in range(depth):
                stride = 2 if stage > 1 and index == 0 else 1
                blocks.append(block(inputs, width, stride=stride, config=config, rngs=rngs))
                inputs = width * config.expansion
            setattr(self, f"layer{stage}", Chain(blocks))
        self.fc = Linear(inputs, config.num_classes, rngs=rngs)

    def stage(self, name: str, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """One stage's features; see `Network.stage`."""
        if name == "stem":
            return named_array(max_pool(jax.nn.relu(self.bn1(self.conv1(x))), 3, stride=2), "stem")
        return super().stage(name, x)


def torchvision_table(config: ResNetConfig) -> Table:
    """Names of torchvision and timm."""
    table = conv("conv1", "conv1") | batch_norm("bn1", "bn1") | linear("fc", "fc")
    for block, inner, projected in _blocks(config):
        for layer in range(1, inner + 1):
            table |= conv(f"{block}.conv{layer}", f"{block}.conv{layer}")
            table |= batch_norm(f"{block}.bn{layer}", f"{block}.bn{layer}")
        if projected:
            table |= conv(f"{block}.downsample.0", f"{block}.downsample.0")
            table |= batch_norm(f"{block}.downsample.1", f"{block}.downsample.1")
    return table


def transformers_table(config: ResNetConfig) -> Table:
    """Names of Hugging Face transformers, which counts stages and layers from 0."""
    embedder = "resnet.embedder.embedder"
    table = conv("conv1", f"{embedder}.convolution") | batch_norm("bn1", f"{embedder}.normalization")
    table |= linear("fc", "classifier.1")
    for block, inner, projected in _blocks(config):
        stage, index = block.removeprefix("layer").split(".")
        theirs = f"resnet.encoder.stages.{int(stage) - 1}.layers.{index}"
        for layer in range(1, inner + 1):
            table |= conv(f"{block}.conv{layer}", f"{theirs}.layer.{layer - 1}.convolution")
            table |= batch_norm(f"{block}.bn{layer}", f"{theirs}.layer.{layer - 1}.normalization")
        if projected:
            table |= conv(f"{block}.downsample.0", f"{theirs}.shortcut.convolution")
            table |= batch_norm(f"{block}.downsample.1", f"{theirs}.shortcut.normalization")
    return table


def _blocks(config: ResNetConfig) -> list[tuple[str, int, bool]]:
    """Every block's name, its number of convolutions, and whether its shortcut is a projection."""
    blocks = []
    inputs = config.stem_width
    for stage, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True), start=1):
        for index in range(depth):
            outputs = width * config.expansion
            projected = inputs != outputs or (stage > 1 and index == 0)
            blocks.append((f"layer{stage}.{index}", 3 if config.bottleneck else 2, projected))
            inputs = outputs
    return blocks


def check_config(config: ResNetConfig) -> None:
    """Bounds of a config that was read from a file."""
    within("depths", config.depths, 1, 128)
    within("number of blocks", sum(config.depths), 4, 128)
    within("widths", (*config.widths, config.stem_width), 1, 1 << 14)
    within("groups and group_width", (config.groups, config.group_width), 1, 1 << 12)
    if min(config.widths) * config.group_width < 64:
        raise ValueError(
            f"a stage of {min(config.widths)} channels with a group_width of {config.group_width} is empty"
        )


TRANSFORMERS = {"num_channels": 3, "hidden_act": "relu", "downsample_in_first_stage": False}
"""Options of transformers' `ResNetConfig` that change what is computed and no key, with the values that are ours."""


def from_transformers(config: Mapping[str, Any]) -> Architecture:
    """The network that a `config.json` of transformers describes; what it leaves out has transformers' own default."""
    kind = config.get("layer_type", "bottleneck")
    if kind not in ("basic", "bottleneck"):
        raise ValueError(f"layer_type {kind!r} is not basic or bottleneck")
    bottleneck = kind == "bottleneck"
    for option, ours in {**TRANSFORMERS, "downsample_in_bottleneck": False}.items():
        without_effect = option == "downsample_in_bottleneck" and not bottleneck
        if config.get(option, ours) != ours and not without_effect:
            raise CheckpointError(f"the ResNet has {option}={config[option]!r}, which camjax's does not")
    expansion = 4 if bottleneck else 1
    sizes = config.get("hidden_sizes", [256, 512, 1024, 2048])
    if not all(type(size) is int and size % expansion == 0 for size in sizes):
        raise ValueError(f"hidden_sizes {sizes!r} are not multiples of {expansion}")
    fields = {
        "depths": config.get("depths", [3, 4, 6, 3]),
        "bottleneck": bottleneck,
        "widths": [size // expansion for size in sizes],
        "stem_width": config.get("embedding_size", 64),
    }
    shape = FAMILY.read_config(fields)
    name = f"resnet{2 + sum(shape.depths) * (3 if bottleneck else 2)}"
    return Architecture(name, FAMILY, shape)


def _suits(tensors: Tensors, config: ResNetConfig) -> bool:
    """Whether the first bottleneck is as wide as the config's; ResNet, Wide ResNet and ResNeXt have the same keys."""
    kernel = tensors.get("layer1.0.conv2.weight")
    inner = config.inner(config.widths[0])
    return not config.bottleneck or kernel is None or kernel.shape[:2] == (inner, inner // config.groups)


FAMILY = Family(
    name="resnet",
    title="ResNet (He et al. 2015), Wide ResNet, ResNeXt",
    config=ResNetConfig,
    module=ResNet,
    layouts={
        "torchvision": Layout(torchvision_table, "fc.weight", suits=_suits),
        "transformers": Layout(
            transformers_table,
            "classifier.1.weight",
            # transformers has neither Wide ResNets nor ResNeXts.
            holds=lambda config: (config.groups, config.group_width) == (1, 64),
        ),
    },
    others=("resnetaa50", "resnetblur18", "resnetblur50"),
    check=check_config,
    from_timm=timm_arguments(
        act_layer="relu", norm_layer="batchnorm", output_stride=32, aa_layer=None, block_args=None
    ),
    from_transformers={"resnet": from_transformers},
)

_preset = functools.partial(Architecture, family=FAMILY)
ARCHITECTURES = (
    _preset("resnet18", config=ResNetConfig(depths=(2, 2, 2, 2), bottleneck=False)),
    _preset("resnet34", config=ResNetConfig(depths=(3, 4, 6, 3), bottleneck=False)),
    _preset("resnet50", config=ResNetConfig(depths=(3, 4, 6, 3), bottleneck=True)),
    _preset("resnet101", config=ResNetConfig(depths=(3, 4, 23, 3), bottleneck=True)),
    _preset("resnet152", config=ResNetConfig(depths=(3, 8, 36, 3), bottleneck=True)),
    _preset("wide_resnet50_2", config=ResNetConfig(depths=(3, 4, 6, 3), bottleneck=True, group_width=128)),
    _preset("resnext50_32x4d", config=ResNetConfig(depths=(3, 4, 6, 3), bottleneck=True, groups=32, group_width=4)),
)
