"""VGG (Simonyan & Zisserman 2014), plain and with batch normalisation, from one definition with timm's names.

timm and torchvision read the same weights and differ at other sizes than 224 pixels: timm slides the first fully
connected layer over the features and takes the mean, torchvision averages the features to 7x7 first. A checkpoint is
computed as those compute it whose names it has.
"""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float

from camjax.core.precision import at_least_float32
from camjax.models.configs import within
from camjax.models.family import Architecture, Family, timm_arguments
from camjax.models.layers import BatchNorm, Chain, Conv, Linear, global_average
from camjax.models.layout import Layout, Read, Table, Tensors, batch_norm, conv, hwio, linear
from camjax.models.network import Network
from camjax.models.weightless import MaxPool, ReLU

SIDE = 7
"""Rows and columns of features that the head was trained on."""

_VALID = ((0, 0), (0, 0))


@dataclasses.dataclass(frozen=True)
class VGGConfig:
    """What tells one member of the family from another.

    Attributes:
        depths: convolutions in each stage; a max-pool follows each stage.
        widths: channels of each stage.
        normalised: a batch normalisation behind every convolution.
        hidden: channels of the head's two hidden layers.
        num_classes: outputs of the head.
        averaged: features are averaged to 7x7 before the head, as torchvision does; else the head slides over them.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    normalised: bool = False
    hidden: int = 4096
    num_classes: int = 1000
    averaged: bool = False


class Hidden(nnx.Module):
    """The head's two hidden layers as convolutions."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs) -> None:
        self.fc1 = Conv(inputs, outputs, SIDE, padding=_VALID, bias=True, rngs=rngs)
        self.fc2 = Conv(outputs, outputs, 1, bias=True, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The features at every place where the 7x7 window fits."""
        return jax.nn.relu(self.fc2(jax.nn.relu(self.fc1(x))))


class Head(nnx.Module):
    """The mean over places, and a linear layer."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs) -> None:
        self.fc = Linear(inputs, outputs, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b n"]:
        """The logits."""
        return self.fc(global_average(x))


class VGG(Network):
    """The network, its layers named as timm names them (`features.28`, `pre_logits.fc1`, `head.fc`).

    Its stages are those that a max-pool follows: the last ReLU of each size, strides 1, 2, 4, 8 and 16. The last one,
    before the last max-pool, is what is explained.

    Args:
        config: which member of the family.
        rngs: for the initial weights.
    """

    linear = None

    def __init__(self, config: VGGConfig, *, rngs: nnx.Rngs) -> None:
        layers: list[nnx.Module] = []
        ends, inputs = [], 3
        for depth, width in zip(config.depths, config.widths, strict=True):
            for _ in range(depth):
                layers.append(Conv(inputs, width, 3, bias=True, rngs=rngs))
                layers += [BatchNorm(width)] if config.normalised else []
                layers.append(ReLU())
                inputs = width
            ends.append(len(layers) - 1)
            layers.append(MaxPool(2, 2))
        self.features = Chain(layers)
        self.pre_logits = Hidden(inputs, config.hidden, rngs=rngs)
        self.head = Head(config.hidden, config.num_classes, rngs=rngs)
        self.averaged = config.averaged
        self.order = tuple(f"features.{end}" for end in ends)
        self.layer = self.order[-1]
        self.ends = tuple(ends)

    def stage(self, name: str, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """One stage's features, from the max-pool before it on; see `Network.stage`."""
        end = int(name.rpartition(".")[2])
        start = max((before + 1 for before in self.ends if before < end), default=0)
        for number in range(start, end + 1):
            x = self.features[number](x)
        return x

    def classify(self, x: Float[Array, "b h w c"]) -> Float[Array, "b n"]:
        """The logits from the last stage's features: the last max-pool, and three fully connected layers."""
        x = self.features[len(self.features) - 1](x)
        height, width = (SIDE if self.averaged else max(SIDE, side) for side in x.shape[1:3])
        return self.head(self.pre_logits(adaptive_average(x, height, width)))


def adaptive_average(x: Float[Array, "b h w c"], height: int, width: int) -> Float[Array, "b h2 w2 c"]:
    """Average pooling to a size, as PyTorch's: windows of nearly equal size that overlap, or repeat few pixels.

    Raises:
        ValueError: there are no pixels.
    """
    if x.shape[1:3] == (height, width):
        return x
    if 0 in x.shape[1:3]:
        raise ValueError("the image is too small for the network: its last features have no pixel")
    dtype = at_least_float32(x.dtype)
    rows, columns = (jnp.asarray(_windows(*sides), dtype) for sides in ((x.shape[1], height), (x.shape[2], width)))
    return jnp.einsum("ph,bhwc,qw->bpqc", rows, x.astype(dtype), columns, precision="highest").astype(x.dtype)


def _windows(inputs: int, outputs: int) -> np.ndarray:
    """The weight of each input (column) in each output (row) along one axis."""
    places = np.arange(outputs)
    starts, ends = places * inputs // outputs, -(-(places + 1) * inputs // outputs)
    pixels = np.arange(inputs)
    inside = (pixels >= starts[:, None]) & (pixels < ends[:, None])
    return inside / inside.sum(axis=1, keepdims=True)


def timm_table(config: VGGConfig) -> Table:
    """Names of timm, which are ours."""
    table = _features(config) | linear("head.fc", "head.fc")
    for layer in ("pre_logits.fc1", "pre_logits.fc2"):
        table |= conv(layer, layer, bias=True)
    return table


def torchvision_table(config: VGGConfig) -> Table:
    """Names of torchvision, whose matrices read the features channel by channel."""
    table = _features(config) | linear("head.fc", "classifier.6")
    for ours, theirs, side in (("pre_logits.fc1", "classifier.0", SIDE), ("pre_logits.fc2", "classifier.3", 1)):
        table |= conv(ours, theirs, bias=True)
        table[f"{ours}.kernel"] = Read((f"{theirs}.weight",), _flattened(side))
    return table


def _flattened(side: int) -> Any:  # noqa: ANN401
    """Makes a convolution's kernel of a matrix whose columns are (channel, row, column)."""
    return lambda matrix: hwio(matrix.reshape(len(matrix), -1, side, side))


def _features(config: VGGConfig) -> Table:
    """The convolutions and normalisations, which timm and torchvision name alike."""
    table: Table = {}
    step = 3 if config.normalised else 2
    for stage, before in enumerate(itertools.accumulate(config.depths, initial=0)):
        for index in range(config.depths[stage] if stage < len(config.depths) else 0):
            place = stage + (before + index) * step
            table |= conv(f"features.{place}", f"features.{place}", bias=True)
            if config.normalised:
                table |= batch_norm(f"features.{place + 1}", f"features.{place + 1}")
    return table


def check_config(config: VGGConfig) -> None:
    """Bounds of a config that was read from a file."""
    if len(config.depths) != len(config.widths):
        raise ValueError(f"depths {config.depths} and widths {config.widths} differ in length")
    within("number of stages", len(config.depths), 1, 8)
    within("depths", config.depths, 1, 32)
    within("widths and hidden", (*config.widths, config.hidden), 1, 1 << 13)


def _torchvision_config(_: Tensors, config: VGGConfig) -> VGGConfig:
    return dataclasses.replace(config, averaged=True)


FAMILY = Family(
    name="vgg",
    title="VGG (Simonyan & Zisserman 2014)",
    config=VGGConfig,
    module=VGG,
    layouts={
        "timm": Layout(timm_table, "head.fc.weight"),
        "torchvision": Layout(torchvision_table, "classifier.6.weight", _torchvision_config),
    },
    check=check_config,
    from_timm=timm_arguments(act_layer="relu", output_stride=32, mlp_ratio=1.0),
)

_DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
ARCHITECTURES = tuple(
    Architecture(f"vgg{layers}{'_bn' * normalised}", FAMILY, VGGConfig(depths, normalised=normalised))
    for normalised in (False, True)
    for layers, depths in _DEPTHS.items()
)
