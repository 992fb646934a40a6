"""RegNet X and Y (Radosavovic et al. 2020) with timm's names.

A network is drawn from four numbers: the widths of its blocks grow in a straight line, and are rounded to a few widths,
each a stage. Y is X with a squeeze-and-excitation in every block.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator

import jax
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float

from camjax.images.preprocess import Preprocess
from camjax.models.configs import within
from camjax.models.conv_norm import ConvNorm, conv_norm
from camjax.models.family import Architecture, Family, timm_arguments
from camjax.models.layers import Conv, Linear
from camjax.models.layout import Layout, Table, conv, linear
from camjax.models.mobile_blocks import SqueezeExcite
from camjax.models.network import Network


@dataclasses.dataclass(frozen=True)
class RegNetConfig:
    """What tells one member of the family from another.

    Attributes:
        depths: blocks in each stage.
        widths: channels of each stage.
        group_widths: channels in each feature group of a stage's 3x3 convolutions.
        squeezed: whether blocks have a squeeze-and-excitation.
        stem_width: channels of the first convolution.
        num_classes: outputs of the head.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    group_widths: tuple[int, ...]
    squeezed: bool = False
    stem_width: int = 32
    num_classes: int = 1000

    def blocks(self) -> Iterator[tuple[str, int, int, int, bool]]:
        """Every block: its name, channels in and out, those in a group, and whether it is the first of its stage."""
        inputs = self.stem_width
        stages = zip(self.depths, self.widths, self.group_widths, strict=True)
        for stage, (depth, width, group_width) in enumerate(stages, start=1):
            for index in range(depth):
                yield f"s{stage}.b{index + 1}", inputs, width, group_width, index == 0
                inputs = width


class Block(nnx.Module):
    """1x1, grouped 3x3 and 1x1 convolutions of one width, beside a shortcut; the stride is on the 3x3."""

    def __init__(
        self, inputs: int, width: int, group_width: int, *, first: bool, squeezed: bool, rngs: nnx.Rngs
    ) -> None:
        stride = 2 if first else 1
        self.conv1 = ConvNorm(inputs, width, 1, rngs=rngs)
        self.conv2 = ConvNorm(width, width, 3, stride=stride, groups=width // group_width, rngs=rngs)
        convolution = functools.partial(Conv, rngs=rngs)
        self.se = SqueezeExcite(width, round(inputs / 4), convolution, jax.nn.relu) if squeezed else None
        self.conv3 = ConvNorm(width, width, 1, activation=None, rngs=rngs)
        self.downsample = ConvNorm(inputs, width, 1, stride=stride, activation=None, rngs=rngs) if first else None

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The block's features, after its last ReLU."""
        y = self.conv2(self.conv1(x))
        y = self.conv3(y if self.se is None else self.se(y))
        return jax.nn.relu(y + (x if self.downsample is None else self.downsample(x)))


class Stage(nnx.Module):
    """Blocks (`b1`, …) in a row."""

    def __init__(self, blocks: list[Block]) -> None:
        self.depth = len(blocks)
        for number, block in enumerate(blocks, start=1):
            setattr(self, f"b{number}", block)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The stage's features."""
        for number in range(1, self.depth + 1):
            x = getattr(self, f"b{number}")(x)
        return x


class RegNet(Network):
    """The network. Its stages: `stem` (stride 2) and `s1` to `s4` (strides 4, 8, 16 and 32).

    Args:
        config: which member of the family.
        rngs: for the initial weights.
    """

    def __init__(self, config: RegNetConfig, *, rngs: nnx.Rngs) -> None:
        self.stem = ConvNorm(3, config.stem_width, 3, stride=2, rngs=rngs)
        stages = itertools.groupby(config.blocks(), key=lambda block: block[0].partition(".")[0])
        for name, blocks in stages:
            made = [
                Block(inputs, width, group_width, first=first, squeezed=config.squeezed, rngs=rngs)
                for _, inputs, width, group_width, first in blocks
            ]
            setattr(self, name, Stage(made))
        self.fc = Linear(config.widths[-1], config.num_classes, rngs=rngs)
        self.order = ("stem", *(f"s{number}" for number in range(1, len(config.depths) + 1)))
        self.layer = self.order[-1]


def timm_table(config: RegNetConfig) -> Table:
    """Names of timm, which are ours but for the head's and the squeeze-and-excitations'."""
    table = conv_norm("stem", "stem.conv", "stem.bn") | linear("fc", "head.fc")
    for block, *_, first in config.blocks():
        for layer in ("conv1", "conv2", "conv3", *(["downsample"] if first else [])):
            table |= conv_norm(f"{block}.{layer}", f"{block}.{layer}.conv", f"{block}.{layer}.bn")
        table |= _excitation(config, block, f"{block}.se")
    return table


def torchvision_table(config: RegNetConfig) -> Table:
    """Names of torchvision."""
    table = conv_norm("stem", "stem.0", "stem.1") | linear("fc", "fc")
    for block, *_, first in config.blocks():
        stage, number = (int(part[1:]) for part in block.split("."))
        theirs = f"trunk_output.block{stage}.block{stage}-{number - 1}"
        for layer, name in (("conv1", "f.a"), ("conv2", "f.b"), ("conv3", "f.c"), ("downsample", "proj")):
            if first or layer != "downsample":
                table |= conv_norm(f"{block}.{layer}", f"{theirs}.{name}.0", f"{theirs}.{name}.1")
        table |= _excitation(config, block, f"{theirs}.f.se")
    return table


def _excitation(config: RegNetConfig, block: str, theirs: str) -> Table:
    if not config.squeezed:
        return {}
    table = conv(f"{block}.se.conv_reduce", f"{theirs}.fc1", bias=True)
    return table | conv(f"{block}.se.conv_expand", f"{theirs}.fc2", bias=True)


def check_config(config: RegNetConfig) -> None:
    """Bounds of a config that was read from a file."""
    if len({len(config.depths), len(config.widths), len(config.group_widths)}) != 1:
        raise ValueError(f"depths {config.depths}, widths and group_widths differ in length")
    within("number of stages", len(config.depths), 1, 8)
    within("depths", config.depths, 1, 64)
    within("number of blocks", sum(config.depths), 1, 128)
    within("widths and stem_width", (*config.widths, config.stem_width), 4, 1 << 14)
    within("group_widths", config.group_widths, 1, 1 << 12)
    for width, group_width in zip(config.widths, config.group_widths, strict=True):
        if width % group_width:
            raise ValueError(f"group_widths {config.group_widths} do not divide the widths {config.widths}")


FAMILY = Family(
    name="regnet",
    title="RegNet X and Y (Radosavovic et al. 2020)",
    config=RegNetConfig,
    module=RegNet,
    layouts={
        "timm": Layout(timm_table, "head.fc.weight"),
        "torchvision": Layout(torchvision_table, "fc.weight"),
    },
    check=check_config,
    from_timm=timm_arguments(act_layer="relu", norm_layer="batchnorm", output_stride=32),
)


def designed(
    depth: int, start: int, slope: float, factor: float, group_width: int, *, squeezed: bool, upwards: bool = False
) -> RegNetConfig:
    """The network that the paper's numbers stand for.

    Args:
        depth: blocks of all stages.
        start: the first block's width.
        slope: by how much each next one's is larger, in a straight line.
        factor: the widths that there are: this power of the first one's.
        group_width: of the 3x3 convolutions, where a stage is as wide.
        squeezed: whether blocks have a squeeze-and-excitation.
        upwards: round a width to whole groups as torchvision does, which takes no more than a tenth away.
    """
    line = start + slope * np.arange(depth)
    powers = np.round(np.log(line / start) / np.log(factor))
    rounded = [int(8 * width) for width in np.round(start * factor**powers / 8)]
    stages = [(width, len([*blocks])) for width, blocks in itertools.groupby(rounded)]
    widths, group_widths = [], []
    for width, _ in stages:
        group = min(group_width, width)
        whole = max(group, int(width + group / 2) // group * group) if upwards else round(width / group) * group
        widths.append(whole + group if upwards and whole < 0.9 * width else whole)
        group_widths.append(group)
    return RegNetConfig(tuple(count for _, count in stages), tuple(widths), tuple(group_widths), squeezed)


_X = {
    "002": (13, 24, 36.44, 2.49, 8),
    "004": (22, 24, 24.48, 2.54, 16),
    "006": (16, 48, 36.97, 2.24, 24),
    "008": (16, 56, 35.73, 2.28, 16),
    "016": (18, 80, 34.01, 2.25, 24),
    "032": (25, 88, 26.31, 2.25, 48),
    "040": (23, 96, 38.65, 2.43, 40),
    "064": (17, 184, 60.83, 2.07, 56),
    "080": (23, 80, 49.56, 2.88, 120),
    "120": (19, 168, 73.36, 2.37, 112),
    "160": (22, 216, 55.59, 2.1, 128),
    "320": (23, 320, 69.86, 2.0, 168),
}
_Y = {
    "002": (13, 24, 36.44, 2.49, 8),
    "004": (16, 48, 27.89, 2.09, 8),
    "006": (15, 48, 32.54, 2.32, 16),
    "008": (14, 56, 38.84, 2.4, 16),
    "016": (27, 48, 20.71, 2.65, 24),
    "032": (21, 80, 42.63, 2.66, 24),
    "040": (22, 96, 31.41, 2.24, 64),
    "064": (25, 112, 33.22, 2.27, 72),
    "080": (17, 192, 76.82, 2.19, 56),
    "120": (19, 168, 73.36, 2.37, 112),
    "160": (18, 200, 106.23, 2.48, 112),
    "320": (20, 232, 115.89, 2.53, 232),
}
_AUTHORS = Preprocess(interpolation="bicubic")
_TORCHVISION = Preprocess(crop_pct=0.965, interpolation="bicubic")
ARCHITECTURES = (
    *(
        Architecture(f"regnet{kind}_{name}", FAMILY, designed(*numbers, squeezed=kind == "y"), _AUTHORS)
        for kind, table in (("x", _X), ("y", _Y))
        for name, numbers in table.items()
    ),
    *(
        Architecture(
            f"regnet{kind}_{name}_tv", FAMILY, designed(*table[name], squeezed=kind == "y", upwards=True), _TORCHVISION
        )
        for kind, table, name in (("x", _X, "004"), ("y", _Y, "008"), ("y", _Y, "080"))
    ),
)
