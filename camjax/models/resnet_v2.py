"""Pre-activation ResNet (He et al. 2016, "Identity Mappings in Deep Residual Networks"), as MXNet and timm have it.

Normalisation and ReLU come before each convolution, a projection shortcut starts from the block's first activation, and
one more normalisation and ReLU follow the last block: those features, `norm`, are pooled. The stride sits on the 3x3
convolution.
"""

import dataclasses
import functools
import types
from collections.abc import Sequence

import jax
from flax import nnx
from jax import Array
from jaxtyping import Float

from camjax.images.preprocess import Preprocess
from camjax.models.configs import within
from camjax.models.family import Architecture, Family, timm_arguments
from camjax.models.layers import BatchNorm, Conv, Linear, max_pool
from camjax.models.layout import Layout, Table, batch_norm, conv, linear
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

    norms = types.MappingProxyType({"conv1": "norm2", "conv2": "norm3"})

    def __init__(
        self, inputs: int, width: int, *, stride: int, projected: bool, config: ResNetV2Config, rngs: nnx.Rngs
    ) -> None:
        outputs = width * config.expansion
        first = 1 if config.bottleneck else 3
        norm = functools.partial(BatchNorm, eps=config.eps, activation=jax.nn.relu)
        self.norm1 = norm(inputs)
        self.conv1 = Conv(inputs, width, first, stride=1 if config.bottleneck else stride, rngs=rngs)
        self.norm2 = norm(width)
        self.conv2 = Conv(width, width, 3, stride=stride if config.bottleneck else 1, rngs=rngs)
        self.norm3 = norm(width) if config.bottleneck else None
        self.conv3 = Conv(width, outputs, 1, rngs=rngs) if config.bottleneck else None
        self.downsample = Projection(inputs, outputs, stride=stride, rngs=rngs) if projected else None

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The block's features, before any normalisation."""
        activated = self.norm1(x)
        y = self.norm2(self.conv1(activated))
        y = self.conv2(y)
        if self.norm3 is not None and self.conv3 is not None:
            y = self.conv3(self.norm3(y))
        return y + (x if self.downsample is None else self.downsample(activated))


class Projection(nnx.Module):
    """A shortcut where the shapes differ: a strided 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, rngs: nnx.Rngs) -> None:
        self.conv = Conv(inputs, outputs, 1, stride=stride, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The projected features."""
        return self.conv(x)


class Stem(nnx.Module):
    """The first convolution and the max-pool, and MXNet's normalisations before and between them."""

    norms = types.MappingProxyType({"conv": "norm"})

    def __init__(self, config: ResNetV2Config, *, rngs: nnx.Rngs) -> None:
        self.input_norm = BatchNorm(3, eps=config.eps) if config.input_norm else None
        self.conv = Conv(3, config.stem_width, 7, stride=2, rngs=rngs)
        norm = functools.partial(BatchNorm, config.stem_width, eps=config.eps, activation=jax.nn.relu)
        self.norm = norm() if config.stem_norm else None

    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b h2 w2 c"]:
        """What leaves the max-pool."""
        x = self.conv(x if self.input_norm is None else self.input_norm(x))
        return max_pool(x if self.norm is None else self.norm(x), 3, stride=2)


class Stage(nnx.Module):
    """Blocks in a row."""

    def __init__(self, blocks: Sequence[nnx.Module]) -> None:
        self.blocks = nnx.List(blocks)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """What leaves the last of them."""
        for block in self.blocks:
            x = block(x)
        return x


class Head(nnx.Module):
    """The linear layer."""

    def __init__(self, inputs: int, classes: int, *, rngs: nnx.Rngs) -> None:
        self.fc = Linear(inputs, classes, rngs=rngs)


class ResNetV2(Network):
    """The network, its modules named as timm names them.

    Its stages: `stem` (after the max-pool, stride 4), `stages.0` to `stages.3` (each one's sum, which has no ReLU;
    strides 4, 8, 16 and 32) and `norm` (after the last normalisation and ReLU).

    Args:
        config: which member of the family.
        rngs: for the initial weights.
    """

    order = ("stem", "stages.0", "stages.1", "stages.2", "stages.3", "norm")
    layer = "norm"
    linear = "head.fc"

    def __init__(self, config: ResNetV2Config, *, rngs: nnx.Rngs) -> None:
        self.stem = Stem(config, rngs=rngs)
        stages = []
        inputs = config.stem_width
        for stage, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True)):
            blocks = []
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                projected = index == 0 and config.projections[stage]
                blocks.append(
                    PreActivationBlock(inputs, width, stride=stride, projected=projected, config=config, rngs=rngs)
                )
                inputs = width * config.expansion
            stages.append(Stage(blocks))
        self.stages = nnx.List(stages)
        self.norm = BatchNorm(inputs, eps=config.eps, activation=jax.nn.relu)
        self.head = Head(inputs, config.num_classes, rngs=rngs)


def timm_table(config: ResNetV2Config) -> Table:
    """Names of timm's `resnetv2_*`, which are ours."""
    table = conv("stem.conv", "stem.conv") | batch_norm("norm", "norm") | linear("head.fc", "head.fc")
    for stage, depth in enumerate(config.depths):
        for index in range(depth):
            block = f"stages.{stage}.blocks.{index}"
            for layer in range(1, 4 if config.bottleneck else 3):
                table |= batch_norm(f"{block}.norm{layer}", f"{block}.norm{layer}")
                table |= conv(f"{block}.conv{layer}", f"{block}.conv{layer}")
            if index == 0 and config.projections[stage]:
                table |= conv(f"{block}.downsample.conv", f"{block}.downsample.conv")
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
    title="ResNet v2, pre-activation (He et al. 2016)",
    config=ResNetV2Config,
    module=ResNetV2,
    # timm's networks have the epsilon of PyTorch and none of MXNet's normalisations.
    layouts={
        "timm": Layout(
            timm_table,
            "head.fc.weight",
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
