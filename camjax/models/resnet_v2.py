"""Pre-activation ResNet (He et al. 2016, "Identity Mappings in Deep Residual Networks"), as MXNet and timm have it.

Normalisation and ReLU come before each convolution, a projection shortcut starts from the block's first activation, and
one more normalisation and ReLU follow the last block: those features, `norm`, are pooled. The stride sits on the 3x3
convolution. Module names are those of `camjax.models.resnet` where the module is the same.
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
from camjax.models.layers import BatchNorm, Conv, Linear, max_pool
from camjax.models.layout import Layout, Table, batch_norm, classes_of, conv, linear
from camjax.models.network import Network


@dataclasses.dataclass(frozen=True)
class ResNetV2Config:
    """What tells one member of the family from another.

    Attributes:
        depths: blocks in each of the four stages.
        bottleneck: blocks of 1x1, 3x3, 1x1 convolutions with four times the width coming out, instead of two 3x3.
        projections: for each stage, whether its first block's shortcut is a projection.
        widths: channels of each stage, before the expansion.
        stem_width: channels of the first convolution.
        num_classes: outputs of the head.
        eps: of every normalisation.
        input_norm: a normalisation of the input itself, which MXNet's networks learn instead of a fixed mean and std.
        stem_norm: normalisation and ReLU between the first convolution and the max-pool (MXNet).
    """

    depths: tuple[int, ...]
    bottleneck: bool = True
    projections: tuple[bool, ...] = (True, True, True, True)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem_width: int = 64
    num_classes: int = 1000
    eps: float = 1e-5
    input_norm: bool = False
    stem_norm: bool = False

    @property
    def expansion(self) -> int:
        """Channels that leave a block, per channel of its stage's width."""
        return 4 if self.bottleneck else 1


class PreActivationBlock(nnx.Module):
    """Two (3x3, 3x3) or three (1x1, 3x3, 1x1) convolutions, each after a normalisation and ReLU, beside a shortcut."""

    norms = types.MappingProxyType({"conv1": "bn2", "conv2": "bn3"})

    def __init__(
        self, inputs: int, width: int, *, stride: int, projected: bool, config: ResNetV2Config, rngs: nnx.Rngs
    ) -> None:
        outputs = width * config.expansion
        first = 1 if config.bottleneck else 3
        self.bn1 = BatchNorm(inputs, eps=config.eps)
        self.conv1 = Conv(inputs, width, first, stride=1 if config.bottleneck else stride, rngs=rngs)
        self.bn2 = BatchNorm(width, eps=config.eps)
        self.conv2 = Conv(width, width, 3, stride=stride if config.bottleneck else 1, rngs=rngs)
        self.bn3 = BatchNorm(width, eps=config.eps) if config.bottleneck else None
        self.conv3 = Conv(width, outputs, 1, rngs=rngs) if config.bottleneck else None
        self.downsample = Conv(inputs, outputs, 1, stride=stride, rngs=rngs) if projected else None

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The block's features, before any normalisation."""
        activated = jax.nn.relu(self.bn1(x))
        y = jax.nn.relu(self.bn2(self.conv1(activated)))
        y = self.conv2(y)
        if self.bn3 is not None and self.conv3 is not None:
            y = self.conv3(jax.nn.relu(self.bn3(y)))
        return y + (x if self.downsample is None else self.downsample(activated))


class ResNetV2(Network):
    """The network.

    Its features: `stem` (after the max-pool, stride 4), `layer1` to `layer4` (each stage's sum, which has no ReLU;
    strides 4, 8, 16 and 32) and `norm` (after the last normalisation and ReLU).

    Args:
        config: which member of the family.
        rngs: for the initial weights.
    """

    stages = ("stem", "layer1", "layer2", "layer3", "layer4", "norm")
    pooled = "norm"
    norms = types.MappingProxyType({"conv1": "bn1"})

    def __init__(self, config: ResNetV2Config, *, rngs: nnx.Rngs) -> None:
        self.bn_data = BatchNorm(3, eps=config.eps) if config.input_norm else None
        self.conv1 = Conv(3, config.stem_width, 7, stride=2, rngs=rngs)
        self.bn1 = BatchNorm(config.stem_width, eps=config.eps) if config.stem_norm else None
        inputs = config.stem_width
        for stage, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True), start=1):
            blocks = []
            for index in range(depth):
                stride = 2 if stage > 1 and index == 0 else 1
                projected = index == 0 and config.projections[stage - 1]
                blocks.append(
                    PreActivationBlock(inputs, width, stride=stride, projected=projected, config=config, rngs=rngs)
                )
                inputs = width * config.expansion
            setattr(self, f"layer{stage}", nnx.List(blocks))
        self.norm = BatchNorm(inputs, eps=config.eps)
        self.fc = Linear(inputs, config.num_classes, rngs=rngs)

    def stage(self, name: str, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """One stage's features; see `Network.stage`."""
        if name == "stem":
            x = self.conv1(x if self.bn_data is None else self.bn_data(x))
            return max_pool(x if self.bn1 is None else jax.nn.relu(self.bn1(x)), 3, stride=2)
        if name == "norm":
            return jax.nn.relu(self.norm(x))
        for block in getattr(self, name):
            x = block(x)
        return x


def timm_table(config: ResNetV2Config) -> Table:
    """Names of timm's `resnetv2_*`, which counts stages and blocks from 0."""
    table = conv("conv1", "stem.conv") | batch_norm("norm", "norm") | linear("fc", "head.fc")
    layers = 3 if config.bottleneck else 2
    for stage, depth in enumerate(config.depths):
        for index in range(depth):
            theirs, ours = f"stages.{stage}.blocks.{index}", f"layer{stage + 1}.{index}"
            for layer in range(1, layers + 1):
                table |= batch_norm(f"{ours}.bn{layer}", f"{theirs}.norm{layer}")
                table |= conv(f"{ours}.conv{layer}", f"{theirs}.conv{layer}")
            if index == 0 and config.projections[stage]:
                table |= conv(f"{ours}.downsample", f"{theirs}.downsample.conv")
    return table


def check_config(config: ResNetV2Config) -> None:
    """Bounds of a config that was read from a file."""
    if not len(config.depths) == len(config.projections) == len(config.widths) == 4:
        raise ValueError(f"depths {config.depths}, projections and widths are not of four stages each")
    within("depths", config.depths, 1, 128)
    within("number of blocks", sum(config.depths), 4, 128)
    within("widths", (*config.widths, config.stem_width), 1, 1 << 14)
    within("eps", config.eps, 0, 1)


FAMILY = Family(
    name="resnet_v2",
    config=ResNetV2Config,
    module=ResNetV2,
    # timm's networks have the epsilon of PyTorch and none of MXNet's normalisations.
    layouts={
        "timm": Layout(
            timm_table,
            classes_of("head.fc.weight"),
            holds=lambda config: (config.eps, config.input_norm, config.stem_norm) == (1e-5, False, False),
        )
    },
    check=check_config,
    from_timm=timm_arguments(act_layer="relu", norm_layer="batchnorm", output_stride=32, conv_layer="conv2d"),
)

_preset = functools.partial(Architecture, family=FAMILY)
_basic = functools.partial(ResNetV2Config, bottleneck=False, projections=(False, True, True, True))
_halves = (0.5, 0.5, 0.5)
_a1h = Preprocess(crop_pct=0.95, interpolation="bicubic", mean=_halves, std=_halves)
_ra4 = Preprocess(crop_pct=0.9, interpolation="bicubic", mean=_halves, std=_halves)
ARCHITECTURES = (
    _preset("resnetv2_18", config=_basic(depths=(2, 2, 2, 2)), preprocess=_ra4),
    _preset("resnetv2_34", config=_basic(depths=(3, 4, 6, 3)), preprocess=_ra4),
    _preset("resnetv2_50", config=ResNetV2Config(depths=(3, 4, 6, 3)), preprocess=_a1h),
    _preset("resnetv2_101", config=ResNetV2Config(depths=(3, 4, 23, 3)), preprocess=_a1h),
    _preset("resnetv2_152", config=ResNetV2Config(depths=(3, 8, 36, 3)), preprocess=_a1h),
)
