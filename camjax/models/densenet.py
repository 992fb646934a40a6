"""DenseNet-BC (Huang et al. 2016) with torchvision's and timm's names.

Every layer of a block reads the outputs of all layers before it. As in timm, a normalisation's features are those after
its ReLU.
"""

import dataclasses
import functools
import types
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from camjax.core.names import named_array
from camjax.images.preprocess import Preprocess
from camjax.models.configs import within
from camjax.models.family import Architecture, Family, timm_arguments
from camjax.models.layers import BatchNorm, Conv, Linear, max_pool
from camjax.models.layout import Layout, Table, batch_norm, conv, linear
from camjax.models.network import Network


@dataclasses.dataclass(frozen=True)
class DenseNetConfig:
    """What tells one member of the family from another.

    Attributes:
        depths: layers in each block.
        growth: channels that a layer adds.
        stem_width: channels of the first convolution.
        bottleneck: channels between a layer's two convolutions, in multiples of `growth`.
        num_classes: outputs of the head.
    """

    depths: tuple[int, ...]
    growth: int = 32
    stem_width: int = 64
    bottleneck: int = 4
    num_classes: int = 1000

    def blocks(self) -> Iterator[tuple[int, int]]:
        """The channels that enter and that leave each block; between two blocks a transition halves them."""
        inputs = self.stem_width
        for depth in self.depths:
            outputs = inputs + depth * self.growth
            yield inputs, outputs
            inputs = outputs // 2


_norm_relu = functools.partial(BatchNorm, activation=jax.nn.relu)


class DenseLayer(nnx.Module):
    """A 1x1 and a 3x3 convolution, each behind a normalisation and ReLU."""

    norms = types.MappingProxyType({"conv1": "norm2"})

    def __init__(self, inputs: int, config: DenseNetConfig, *, rngs: nnx.Rngs) -> None:
        inner = config.bottleneck * config.growth
        self.norm1 = _norm_relu(inputs)
        self.conv1 = Conv(inputs, inner, 1, rngs=rngs)
        self.norm2 = _norm_relu(inner)
        self.conv2 = Conv(inner, config.growth, 3, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c2"]:
        """The channels that the layer adds."""
        return self.conv2(self.norm2(self.conv1(self.norm1(x))))


class DenseBlock(nnx.Module):
    """Layers (`denselayer1`, …) of which each reads all before it."""

    def __init__(self, inputs: int, depth: int, config: DenseNetConfig, *, rngs: nnx.Rngs) -> None:
        self.depth = depth
        for index in range(depth):
            setattr(self, f"denselayer{index + 1}", DenseLayer(inputs + index * config.growth, config, rngs=rngs))

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c2"]:
        """What came in and what every layer added."""
        for number in range(1, self.depth + 1):
            x = jnp.concatenate([x, getattr(self, f"denselayer{number}")(x)], axis=-1)
        return x


class Transition(nnx.Module):
    """Between two blocks: half the channels, half the height and width."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs) -> None:
        self.norm = _norm_relu(inputs)
        self.conv = Conv(inputs, outputs, 1, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The features after average pooling."""
        x = self.conv(self.norm(x))
        height, width = (side // 2 for side in x.shape[1:3])  # as in PyTorch, an odd row or column is left out
        x = x[:, : 2 * height, : 2 * width]
        return x.reshape(x.shape[0], height, 2, width, 2, x.shape[3]).mean((2, 4))


class Features(nnx.Module):
    """What comes before the head; its parts by name."""

    norms = types.MappingProxyType({"conv0": "norm0"})

    def __init__(self, config: DenseNetConfig, *, rngs: nnx.Rngs) -> None:
        self.conv0 = Conv(3, config.stem_width, 7, stride=2, rngs=rngs)
        self.norm0 = _norm_relu(config.stem_width)
        outputs = 0
        for number, (inputs, outputs) in enumerate(config.blocks(), start=1):
            block = DenseBlock(inputs, config.depths[number - 1], config, rngs=rngs)
            setattr(self, f"denseblock{number}", block)
            if number < len(config.depths):
                setattr(self, f"transition{number}", Transition(outputs, outputs // 2, rngs=rngs))
        self.norm5 = _norm_relu(outputs)


class DenseNet(Network):
    """The network.

    Its stages: `features.pool0` (after the first max-pool, stride 4), `features.denseblock1` and so on (strides 4, 8,
    16 and 32), `features.transition1` and so on between them, and `features.norm5` (the last normalisation and ReLU).

    Args:
        config: which member of the family.
        rngs: for the initial weights.
    """

    layer = "features.norm5"
    linear = "classifier"

    def __init__(self, config: DenseNetConfig, *, rngs: nnx.Rngs) -> None:
        self.features = Features(config, rngs=rngs)
        self.classifier = Linear(self.features.norm5.scale.shape[0], config.num_classes, rngs=rngs)
        blocks = [f"features.{kind}{number}" for number in range(1, len(config.depths) + 1) for kind in _KINDS]
        self.order = ("features.pool0", *blocks[:-1], "features.norm5")

    def stage(self, name: str, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """One stage's features; see `Network.stage`."""
        if name == "features.pool0":
            return named_array(max_pool(self.features.norm0(self.features.conv0(x)), 3, stride=2), name)
        return super().stage(name, x)


_KINDS = ("denseblock", "transition")


def table(config: DenseNetConfig, dot: str = "") -> Table:
    """Names of torchvision and timm; with `dot="."` those of torchvision's published files (`norm.1` for `norm1`)."""
    lines = conv("features.conv0", "features.conv0") | linear("classifier", "classifier")
    for name in ("features.norm0", "features.norm5"):
        lines |= batch_norm(name, name)
    for number, depth in enumerate(config.depths, start=1):
        for layer in (f"features.denseblock{number}.denselayer{index}" for index in range(1, depth + 1)):
            for place in (1, 2):
                lines |= batch_norm(f"{layer}.norm{place}", f"{layer}.norm{dot}{place}")
                lines |= conv(f"{layer}.conv{place}", f"{layer}.conv{dot}{place}")
        if number < len(config.depths):
            transition = f"features.transition{number}"
            lines |= batch_norm(f"{transition}.norm", f"{transition}.norm")
            lines |= conv(f"{transition}.conv", f"{transition}.conv")
    return lines


def check_config(config: DenseNetConfig) -> None:
    """Bounds of a config that was read from a file."""
    within("number of blocks", len(config.depths), 1, 8)
    within("depths", config.depths, 1, 128)
    within("number of layers", sum(config.depths), 1, 256)
    within("growth and stem_width", (config.growth, config.stem_width), 2, 1 << 10)
    within("bottleneck", config.bottleneck, 1, 16)


FAMILY = Family(
    name="densenet",
    title="DenseNet (Huang et al. 2016)",
    config=DenseNetConfig,
    module=DenseNet,
    layouts={
        "torchvision": Layout(table, "classifier.weight"),
        "torchvision-dotted": Layout(functools.partial(table, dot="."), "classifier.weight"),
    },
    check=check_config,
    from_timm=timm_arguments(act_layer="relu", norm_layer="batchnorm2d", aa_layer=None, stem_type="", bn_size=4),
)

_preset = functools.partial(Architecture, family=FAMILY, preprocess=Preprocess(interpolation="bicubic"))
ARCHITECTURES = (
    _preset("densenet121", config=DenseNetConfig((6, 12, 24, 16))),
    _preset("densenet161", config=DenseNetConfig((6, 12, 36, 24), growth=48, stem_width=96)),
    _preset("densenet169", config=DenseNetConfig((6, 12, 32, 32))),
    _preset("densenet201", config=DenseNetConfig((6, 12, 48, 32))),
)
