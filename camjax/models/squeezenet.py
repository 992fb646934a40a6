"""SqueezeNet 1.0 and 1.1 (Iandola et al. 2016) with torchvision's names.

Its head has no linear layer: a last convolution gives a map for every class, whose positive part is averaged.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from camjax.models.configs import within
from camjax.models.family import Architecture, Family
from camjax.models.layers import Chain, Conv, global_average
from camjax.models.layout import Layout, Table, conv
from camjax.models.network import Network
from camjax.models.weightless import MaxPool, ReLU

_VALID = ((0, 0), (0, 0))


@dataclasses.dataclass(frozen=True)
class SqueezeNetConfig:
    """What tells one member of the family from another.

    Attributes:
        pools: the fires that a max-pool stands before, by their numbers.
        stem_size: side of the first convolution's kernel.
        stem_width: its channels.
        squeezes: for each fire, its channels after the first convolution; eight times as many leave it.
        num_classes: outputs of the head.
    """

    pools: tuple[int, ...]
    stem_size: int = 3
    stem_width: int = 64
    squeezes: tuple[int, ...] = (16, 16, 32, 32, 48, 48, 64, 64)
    num_classes: int = 1000

    def fires(self) -> list[int]:
        """The place of each fire among all layers: a convolution, its ReLU, fires and max-pools."""
        return [2 + number + sum(pool <= number for pool in self.pools) for number in range(len(self.squeezes))]


class Fire(nnx.Module):
    """Few channels, and then many: half of them from each pixel, half from 3x3."""

    def __init__(self, inputs: int, squeezed: int, *, rngs: nnx.Rngs) -> None:
        self.squeeze = Conv(inputs, squeezed, 1, bias=True, rngs=rngs)
        self.expand1x1 = Conv(squeezed, 4 * squeezed, 1, bias=True, rngs=rngs)
        self.expand3x3 = Conv(squeezed, 4 * squeezed, 3, bias=True, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c2"]:
        """The fire's features."""
        x = jax.nn.relu(self.squeeze(x))
        return jnp.concatenate([jax.nn.relu(self.expand1x1(x)), jax.nn.relu(self.expand3x3(x))], axis=-1)


class SqueezeNet(Network):
    """The network. Its stages are those that a max-pool follows, and the last fire, which is what is explained.

    Args:
        config: which member of the family.
        rngs: for the initial weights.
    """

    linear = None

    def __init__(self, config: SqueezeNetConfig, *, rngs: nnx.Rngs) -> None:
        stem = Conv(3, config.stem_width, config.stem_size, stride=2, padding=_VALID, bias=True, rngs=rngs)
        layers: list[nnx.Module] = [stem, ReLU()]
        ends, inputs = [], config.stem_width
        for number, squeezed in enumerate(config.squeezes):
            if number in config.pools:
                ends.append(len(layers) - 1)
                layers.append(MaxPool(3, 2, edges="ceil"))
            layers.append(Fire(inputs, squeezed, rngs=rngs))
            inputs = 8 * squeezed
        self.ends = (*ends, len(layers) - 1)
        self.features = Chain(layers)
        self.final_conv = Conv(inputs, config.num_classes, 1, bias=True, rngs=rngs)
        self.order = tuple(f"features.{end}" for end in self.ends)
        self.layer = self.order[-1]

    def stage(self, name: str, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """One stage's features, from the max-pool before it on; see `Network.stage`."""
        end = int(name.rpartition(".")[2])
        start = max((before + 1 for before in self.ends if before < end), default=0)
        for number in range(start, end + 1):
            x = self.features[number](x)
        return x

    def classify(self, x: Float[Array, "b h w c"]) -> Float[Array, "b n"]:
        """The logits from the last stage's features: the mean of each class's positive map."""
        return global_average(jax.nn.relu(self.final_conv(x)))


def torchvision_table(config: SqueezeNetConfig) -> Table:
    """Names of torchvision."""
    table = conv("features.0", "features.0", bias=True) | conv("final_conv", "classifier.1", bias=True)
    for place in config.fires():
        for layer in ("squeeze", "expand1x1", "expand3x3"):
            table |= conv(f"features.{place}.{layer}", f"features.{place}.{layer}", bias=True)
    return table


def check_config(config: SqueezeNetConfig) -> None:
    """Bounds of a config that was read from a file."""
    within("number of fires", len(config.squeezes), 1, 32)
    within("pools", config.pools, 0, len(config.squeezes) - 1)
    within("stem_size", config.stem_size, 1, 31)
    within("squeezes and stem_width", (*config.squeezes, config.stem_width), 1, 1 << 12)


FAMILY = Family(
    name="squeezenet",
    title="SqueezeNet (Iandola et al. 2016)",
    config=SqueezeNetConfig,
    module=SqueezeNet,
    layouts={"torchvision": Layout(torchvision_table, "classifier.1.weight")},
    check=check_config,
)

_preset = functools.partial(Architecture, family=FAMILY)
ARCHITECTURES = (
    _preset("squeezenet1_0", config=SqueezeNetConfig((0, 3, 7), stem_size=7, stem_width=96)),
    _preset("squeezenet1_1", config=SqueezeNetConfig((0, 2, 4))),
)
