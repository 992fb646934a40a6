"""Inception v3 (Szegedy et al. 2016) with the names of torchvision, which are timm's.

A block is a plan: branches that see the same features, each of them convolutions in a row. The average-pools count the
zeros beyond the border, as in both libraries. What torchvision does to pictures inside the network (`transform_input`)
is in the preprocessing, as `googlenet.py` says.
"""

import dataclasses
import string
from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from camjax.images.preprocess import Preprocess
from camjax.models.configs import within
from camjax.models.conv_norm import ConvNormReLU, conv_norm
from camjax.models.family import Architecture, Family, timm_arguments
from camjax.models.layers import Linear, Size, max_pool
from camjax.models.layout import Layout, Table, linear
from camjax.models.network import Network
from camjax.models.weightless import MaxPool


class Step(NamedTuple):
    """One convolution: its name, channels and kernel. Without `padded` it sees whole windows only."""

    name: str
    width: int
    size: Size = 1
    stride: int = 1
    padded: bool = True


Level = tuple[Step, ...]
"""Convolutions that see the same, side by side."""
Plan = tuple[tuple[Step | Level, ...], ...]
"""The branches of a block."""

STEM = (
    Step("Conv2d_1a_3x3", 32, 3, 2, padded=False),
    Step("Conv2d_2a_3x3", 32, 3, padded=False),
    Step("Conv2d_2b_3x3", 64, 3),
    Step("Conv2d_3b_1x1", 80),
    Step("Conv2d_4a_3x3", 192, 3, padded=False),
)
POOLS = {"Conv2d_2b_3x3": "maxpool1", "Conv2d_4a_3x3": "maxpool2"}
"""The max-pools by the convolutions before them."""


def windows(pooled: int) -> Plan:
    """Figure 5: the paper's first block, with its channels behind the average-pool."""
    return (
        (Step("branch1x1", 64),),
        (Step("branch5x5_1", 48), Step("branch5x5_2", 64, 5)),
        (Step("branch3x3dbl_1", 64), Step("branch3x3dbl_2", 96, 3), Step("branch3x3dbl_3", 96, 3)),
        (Step("branch_pool", pooled),),
    )


def factored(inner: int) -> Plan:
    """Figure 6: 7x7 windows in two steps, a column and a row, with so many channels between."""
    row, column = (1, 7), (7, 1)
    double = [Step(f"branch7x7dbl_{place}", inner, size) for place, size in enumerate((column, row, column), start=2)]
    return (
        (Step("branch1x1", 192),),
        (Step("branch7x7_1", inner), Step("branch7x7_2", inner, row), Step("branch7x7_3", 192, column)),
        (Step("branch7x7dbl_1", inner), *double, Step("branch7x7dbl_5", 192, row)),
        (Step("branch_pool", 192),),
    )


def _row_and_column(name: str) -> Level:
    return Step(f"{name}a", 384, (1, 3)), Step(f"{name}b", 384, (3, 1))


EXPANDED: Plan = (
    (Step("branch1x1", 320),),
    (Step("branch3x3_1", 384), _row_and_column("branch3x3_2")),
    (Step("branch3x3dbl_1", 448), Step("branch3x3dbl_2", 384, 3), _row_and_column("branch3x3dbl_3")),
    (Step("branch_pool", 192),),
)
"""Figure 7: a row and a column side by side, where the places are few."""
HALVING_6A: Plan = (
    (Step("branch3x3", 384, 3, 2, padded=False),),
    (Step("branch3x3dbl_1", 64), Step("branch3x3dbl_2", 96, 3), Step("branch3x3dbl_3", 96, 3, 2, padded=False)),
)
HALVING_7A: Plan = (
    (Step("branch3x3_1", 192), Step("branch3x3_2", 320, 3, 2, padded=False)),
    (
        Step("branch7x7x3_1", 192),
        Step("branch7x7x3_2", 192, (1, 7)),
        Step("branch7x7x3_3", 192, (7, 1)),
        Step("branch7x7x3_4", 192, 3, 2, padded=False),
    ),
)
"""Figure 10: half the height and width, by convolutions and, beside them, a max-pool."""


@dataclasses.dataclass(frozen=True)
class InceptionV3Config:
    """What tells one member of the family from another.

    Attributes:
        pooled: for each of the first blocks (`Mixed_5b`, …) the channels behind its average-pool.
        inner: for each of those after `Mixed_6a` the channels between its rows and columns of seven.
        expanded: blocks after `Mixed_7a`.
        thinner: all channels are divided by this.
        num_classes: outputs of the head.
    """

    pooled: tuple[int, ...] = (32, 64, 64)
    inner: tuple[int, ...] = (128, 160, 160, 192)
    expanded: int = 2
    thinner: int = 1
    num_classes: int = 1000

    def blocks(self) -> Iterator[tuple[str, Plan]]:
        """Every block's name and plan."""
        after = string.ascii_lowercase[1:]
        yield from ((f"Mixed_5{after[index]}", windows(width)) for index, width in enumerate(self.pooled))
        yield "Mixed_6a", HALVING_6A
        yield from ((f"Mixed_6{after[index]}", factored(width)) for index, width in enumerate(self.inner))
        yield "Mixed_7a", HALVING_7A
        yield from ((f"Mixed_7{after[index]}", EXPANDED) for index in range(self.expanded))


def _level(step: Step | Level) -> Level:
    return (step,) if isinstance(step, Step) else step


def _convolution(inputs: int, step: Step, thinner: int, *, rngs: nnx.Rngs) -> ConvNormReLU:
    padding = None if step.padded else ((0, 0), (0, 0))
    outputs = step.width // thinner
    return ConvNormReLU(inputs, outputs, step.size, stride=step.stride, padding=padding, eps=1e-3, rngs=rngs)


class Mixed(nnx.Module):
    """A block: its plan's branches beside each other, and a max-pool beside them where they halve height and width.

    Args:
        inputs: channels in.
        plan: what it is made of.
        thinner: by which the plan's channels are divided.
        rngs: for the initial weights.

    Attributes:
        outputs: channels out.
    """

    def __init__(self, inputs: int, plan: Plan, thinner: int, *, rngs: nnx.Rngs) -> None:
        self.names = tuple(
            tuple(tuple(step.name for step in level) for level in map(_level, branch)) for branch in plan
        )
        self.halves = plan in (HALVING_6A, HALVING_7A)
        self.outputs = inputs if self.halves else 0
        for branch in plan:
            width = inputs
            for level in map(_level, branch):
                for step in level:
                    setattr(self, step.name, _convolution(width, step, thinner, rngs=rngs))
                width = sum(step.width // thinner for step in level)
            self.outputs += width

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """What the branches see."""
        seen = [self._branch(names, x) for names in self.names]
        if self.halves:
            seen.append(max_pool(x, 3, stride=2, edges="whole"))
        return jnp.concatenate(seen, axis=-1)

    def _branch(self, names: tuple[tuple[str, ...], ...], x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        if names == (("branch_pool",),):
            x = neighbourhood_mean(x)
        for level in names:
            x = jnp.concatenate([getattr(self, name)(x) for name in level], axis=-1)
        return x


def neighbourhood_mean(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """The mean of each place's 3x3 neighbours, of which those beyond the border are zeros that count."""
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # Not `lax.reduce_window`, with which XLA's CPU backend walks a window pixel by pixel.
    rows = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
    return (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) / 9


class InceptionV3(Network):
    """The network.

    Its stages: the convolutions of `STEM` with `maxpool1` (stride 4) and `maxpool2` (8) between, `Mixed_5b` and so on,
    `Mixed_6a` (16) and so on, `Mixed_7a` (32) and so on, whose last is explained.

    Args:
        config: which member of the family.
        rngs: for the initial weights.
    """

    def __init__(self, config: InceptionV3Config, *, rngs: nnx.Rngs) -> None:
        order, width = [], 3
        for step in STEM:
            setattr(self, step.name, _convolution(width, step, config.thinner, rngs=rngs))
            order.append(step.name)
            width = step.width // config.thinner
            if step.name in POOLS:
                setattr(self, POOLS[step.name], MaxPool(3, 2, edges="whole"))
                order.append(POOLS[step.name])
        for name, plan in config.blocks():
            block = Mixed(width, plan, config.thinner, rngs=rngs)
            setattr(self, name, block)
            order.append(name)
            width = block.outputs
        self.fc = Linear(width, config.num_classes, rngs=rngs)
        self.order = tuple(order)
        self.layer = self.order[-1]


def torchvision_table(config: InceptionV3Config) -> Table:
    """Names of torchvision and timm."""
    names = [step.name for step in STEM]
    for block, plan in config.blocks():
        names += [f"{block}.{step.name}" for branch in plan for level in map(_level, branch) for step in level]
    table = linear("fc", "fc")
    for name in names:
        table |= conv_norm(name, f"{name}.conv", f"{name}.bn")
    return table


def check_config(config: InceptionV3Config) -> None:
    """Bounds of a config that was read from a file."""
    within("number of pooled", len(config.pooled), 0, 16)
    within("number of inner", len(config.inner), 0, 16)
    within("expanded", config.expanded, 0, 16)
    within("thinner", config.thinner, 1, 16)
    within("pooled and inner", (*config.pooled, *config.inner), config.thinner, 1 << 12)


FAMILY = Family(
    name="inception_v3",
    title="Inception v3 (Szegedy et al. 2016)",
    config=InceptionV3Config,
    module=InceptionV3,
    layouts={
        "torchvision": Layout(
            torchvision_table,
            "fc.weight",
            unused=frozenset({"num_batches_tracked", "AuxLogits"}),  # a head that only training has
        )
    },
    check=check_config,
    from_timm=timm_arguments(act_layer="relu", norm_layer="batchnorm2d", norm_eps=1e-3, aux_logits=False),
)

ARCHITECTURES = (
    Architecture(
        "inception_v3",
        FAMILY,
        InceptionV3Config(),
        Preprocess((299, 299), interpolation="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    ),
)
