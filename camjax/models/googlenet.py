"""GoogLeNet, the first Inception (Szegedy et al. 2015), with torchvision's names.

torchvision's has batch normalisation, and 3x3 convolutions where the paper has 5x5. Its published weights come from
TensorFlow and want pixels from -1 to 1. torchvision makes such of ImageNet's scale inside the network
(`transform_input`), which leaves no key; here the weights' preprocessing says so, as that of any other weights does.
"""

import dataclasses
import functools
import string
from collections.abc import Iterator

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from camjax.images.preprocess import Preprocess
from camjax.models.configs import within
from camjax.models.conv_norm import ConvNormReLU, conv_norm
from camjax.models.family import Architecture, Family
from camjax.models.layers import Chain, Linear
from camjax.models.layout import Layout, Table, linear
from camjax.models.network import Network
from camjax.models.weightless import MaxPool

Widths = tuple[int, int, int, int, int, int]
Stage = tuple[Widths, ...]

TABLE_1: tuple[Stage, Stage, Stage] = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
"""The columns #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5 and pool proj of the paper's table 1."""


@dataclasses.dataclass(frozen=True)
class GoogLeNetConfig:
    """What tells one member of the family from another.

    Attributes:
        stem: channels of the first three convolutions.
        stages: channels of every block's convolutions as `TABLE_1` has them, for the blocks that are called 3a, 3b and
            so on, those from 4a and those from 5a.
        num_classes: outputs of the head.
    """

    stem: tuple[int, int, int] = (64, 64, 192)
    stages: tuple[Stage, Stage, Stage] = TABLE_1
    num_classes: int = 1000

    def blocks(self) -> Iterator[tuple[str, int, Widths]]:
        """Every block: its name, the channels that enter it, and those of its convolutions."""
        inputs = self.stem[-1]
        for number, stage in enumerate(self.stages, start=3):
            for index, widths in enumerate(stage):
                yield f"inception{number}{string.ascii_lowercase[index]}", inputs, widths
                inputs = outputs_of(widths)


def outputs_of(widths: Widths) -> int:
    """The channels that leave a block of these."""
    ones, _, threes, _, fives, pooled = widths
    return ones + threes + fives + pooled


_convolution = functools.partial(ConvNormReLU, eps=1e-3)


class Inception(nnx.Module):
    """Every place seen four ways: by itself, in two windows behind few channels, and by the largest of its neighbours.

    Args:
        inputs: channels in.
        widths: of the convolutions.
        rngs: for the initial weights.
    """

    def __init__(self, inputs: int, widths: Widths, *, rngs: nnx.Rngs) -> None:
        ones, before_threes, threes, before_fives, fives, pooled = widths
        convolution = functools.partial(_convolution, rngs=rngs)
        self.branch1 = convolution(inputs, ones, 1)
        self.branch2 = Chain([convolution(inputs, before_threes, 1), convolution(before_threes, threes, 3)])
        # The paper's 5x5; torchvision's weights have 3x3.
        self.branch3 = Chain([convolution(inputs, before_fives, 1), convolution(before_fives, fives, 3)])
        self.branch4 = Chain([MaxPool(3, 1), convolution(inputs, pooled, 1)])

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c2"]:
        """What the four branches see."""
        return jnp.concatenate([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], axis=-1)


class GoogLeNet(Network):
    """The network.

    Its stages: `conv1` (stride 2), `maxpool1` (4), `conv2`, `conv3`, `maxpool2` (8), `inception3a` and so on,
    `maxpool3` (16), `inception4a` and so on, `maxpool4` (32), `inception5a` and so on, whose last is explained.

    Args:
        config: which member of the family.
        rngs: for the initial weights.
    """

    def __init__(self, config: GoogLeNetConfig, *, rngs: nnx.Rngs) -> None:
        first, second, third = config.stem
        self.conv1 = _convolution(3, first, 7, stride=2, rngs=rngs)
        self.maxpool1 = MaxPool(3, 2, edges="ceil")
        self.conv2 = _convolution(first, second, 1, rngs=rngs)
        self.conv3 = _convolution(second, third, 3, rngs=rngs)
        self.maxpool2 = MaxPool(3, 2, edges="ceil")
        self.maxpool3 = MaxPool(3, 2, edges="ceil")
        self.maxpool4 = MaxPool(2, 2, edges="ceil")  # the paper's is 3x3
        outputs = third
        for name, inputs, widths in config.blocks():
            setattr(self, name, Inception(inputs, widths, rngs=rngs))
            outputs = outputs_of(widths)
        self.fc = Linear(outputs, config.num_classes, rngs=rngs)
        order, names = ["conv1", "maxpool1", "conv2", "conv3"], [name for name, *_ in config.blocks()]
        for number in (3, 4, 5):
            order += [f"maxpool{number - 1}", *(name for name in names if name.startswith(f"inception{number}"))]
        self.order = tuple(order)
        self.layer = self.order[-1]


def torchvision_table(config: GoogLeNetConfig) -> Table:
    """Names of torchvision."""
    branches = ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1")
    blocks = [f"{block}.{branch}" for block, *_ in config.blocks() for branch in branches]
    table = linear("fc", "fc")
    for name in ("conv1", "conv2", "conv3", *blocks):
        table |= conv_norm(name, f"{name}.conv", f"{name}.bn")
    return table


def check_config(config: GoogLeNetConfig) -> None:
    """Bounds of a config that was read from a file."""
    within("numbers of blocks in stages", tuple(map(len, config.stages)), 0, len(string.ascii_lowercase))
    within("stem", config.stem, 1, 1 << 12)
    for stage in config.stages:
        for widths in stage:
            within("stages", widths, 1, 1 << 12)


FAMILY = Family(
    name="googlenet",
    title="GoogLeNet (Szegedy et al. 2015)",
    config=GoogLeNetConfig,
    module=GoogLeNet,
    layouts={
        "torchvision": Layout(
            torchvision_table,
            "fc.weight",
            unused=frozenset({"num_batches_tracked", "aux1", "aux2"}),  # heads that only training has
        )
    },
    check=check_config,
)

ARCHITECTURES = (
    Architecture("googlenet", FAMILY, GoogLeNetConfig(), Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))),
)
