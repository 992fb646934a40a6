"""MobileNetV3 (Howard et al. 2019) with timm's names.

Unlike its ancestor's, its blocks have widths of their own inside, some a squeeze-and-excitation and some another
activation; and its last layers come after the mean, where they cost one place instead of 49.
"""

import dataclasses
import functools
import types
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from flax import nnx
from jax import Array
from jaxtyping import Float

from camjax.images.preprocess import Preprocess
from camjax.models.configs import within
from camjax.models.efficientnet import PADDINGS
from camjax.models.efficientnet_layouts import Block, excitation, pair
from camjax.models.family import Architecture, Family, timm_arguments
from camjax.models.layers import BatchNorm, Chain, Conv, Linear, global_average
from camjax.models.layout import Layout, Table, Tensors, linear
from camjax.models.mobile_blocks import DepthwiseSeparable, InvertedResidual, Layers, SqueezeExcite, divisible
from camjax.models.network import Network

ACTIVATIONS = {"relu": jax.nn.relu, "hard_swish": jax.nn.hard_swish}


@dataclasses.dataclass(frozen=True)
class MobileNetV3Config:
    """The stages of the network, one entry of each tuple a stage, but for `inner`.

    Attributes:
        depths: blocks.
        kernel_sizes: side of the depthwise kernel.
        strides: of the first block.
        widths: channels out.
        inner: for each block of all stages, its channels inside; where they are those that enter, it does not widen.
        squeezed: whether blocks have a squeeze-and-excitation inside.
        rectified: whether blocks have ReLUs, whatever the network's activation is.
        stem_width: channels of the first convolution.
        last_width: channels of the last convolution, which is pooled.
        head_width: channels of the layer after the mean.
        num_classes: outputs of the head.
        padding: `"same"` as TensorFlow pads, or `"symmetric"` as PyTorch does.
        eps: of every normalisation.
        activation: `"hard_swish"` or `"relu"`.
    """

    depths: tuple[int, ...]
    kernel_sizes: tuple[int, ...]
    strides: tuple[int, ...]
    widths: tuple[int, ...]
    inner: tuple[int, ...]
    squeezed: tuple[bool, ...]
    rectified: tuple[bool, ...]
    stem_width: int = 16
    last_width: int = 960
    head_width: int = 1280
    num_classes: int = 1000
    padding: str = "symmetric"
    eps: float = 1e-5
    activation: str = "hard_swish"

    def blocks(self) -> Iterator[tuple[Block, int, int]]:
        """Every block, and how many channels enter it and are inside."""
        inputs, places = self.stem_width, [(stage, place) for stage, n in enumerate(self.depths) for place in range(n)]
        for number, ((stage, place), inner) in enumerate(zip(places, self.inner, strict=True)):
            yield Block(number, stage, place, inner != inputs), inputs, inner
            inputs = self.widths[stage]


class LastConv(nnx.Module):
    """The last convolution and its normalisation."""

    norms = types.MappingProxyType({"conv": "bn1"})

    def __init__(self, inputs: int, outputs: int, layers: Layers) -> None:
        self.conv = layers.conv(inputs, outputs, 1)
        self.bn1 = layers.norm(outputs, activation=layers.activation)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c2"]:
        """The features that are pooled."""
        return self.bn1(self.conv(x))


class MobileNetV3(Network):
    """The network. Its stages: `bn1` (after the first convolution; stride 2), and `blocks.0` and so on.

    The last of them is the last convolution, with its normalisation and activation, and is what is explained. The head
    is not linear in its mean.

    Args:
        config: its stages.
        rngs: for the initial weights.
    """

    linear = None
    norms = types.MappingProxyType({"conv_stem": "bn1"})

    def __init__(self, config: MobileNetV3Config, *, rngs: nnx.Rngs) -> None:
        self.activation = ACTIVATIONS[config.activation]
        conv = functools.partial(Conv, padding=PADDINGS[config.padding], rngs=rngs)
        layers = Layers(conv, functools.partial(BatchNorm, eps=config.eps), self.activation)
        self.conv_stem = conv(3, config.stem_width, 3, stride=2)
        self.bn1 = layers.norm(config.stem_width, activation=self.activation)

        def excite(_: int, inner: int) -> nnx.Module:
            return SqueezeExcite(inner, divisible(inner / 4), conv, jax.nn.relu, jax.nn.hard_sigmoid)

        stages: list[list[nnx.Module]] = [[] for _ in config.depths]
        for block, inputs, inner in config.blocks():
            stage = block.stage
            own = layers._replace(activation=jax.nn.relu) if config.rectified[stage] else layers
            own = own._replace(excitation=excite) if config.squeezed[stage] else own
            size, stride = config.kernel_sizes[stage], config.strides[stage] if block.place == 0 else 1
            if block.widens:
                stages[stage].append(InvertedResidual(inputs, config.widths[stage], size, stride, inner, own))
            else:
                stages[stage].append(DepthwiseSeparable(inputs, config.widths[stage], size, stride, own))
        last = LastConv(config.widths[-1], config.last_width, layers)
        self.blocks = nnx.List([*map(Chain, stages), Chain([last])])
        self.conv_head = Linear(config.last_width, config.head_width, rngs=rngs)
        self.classifier = Linear(config.head_width, config.num_classes, rngs=rngs)
        self.order = ("bn1", *(f"blocks.{number}" for number in range(len(stages) + 1)))
        self.layer = self.order[-1]

    def stage(self, name: str, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """One stage's features; see `Network.stage`."""
        return super().stage(name, self.conv_stem(x) if name == "bn1" else x)

    def classify(self, x: Float[Array, "b h w c"]) -> Float[Array, "b n"]:
        """The logits from the last stage's features: a hidden layer of their mean, and a linear one."""
        return self.classifier(self.activation(self.conv_head(global_average(x))))


def timm_table(config: MobileNetV3Config) -> Table:
    """Names of timm, which are ours."""
    last = f"blocks.{len(config.depths)}.0"
    table = pair(("conv_stem", "bn1"), ("conv_stem", "bn1"))
    table |= pair((f"{last}.conv", f"{last}.bn1"), (f"{last}.conv", f"{last}.bn1"))
    for block, _, _ in config.blocks():
        for layer, norm in block.layers:
            names = (f"{block.name}.{layer}", f"{block.name}.{norm}")
            table |= pair(names, names)
        if config.squeezed[block.stage]:
            table |= excitation(block, f"{block.name}.se.conv_reduce", f"{block.name}.se.conv_expand")
    return table | linear("conv_head", "conv_head") | linear("classifier", "classifier")


def torchvision_table(config: MobileNetV3Config) -> Table:
    """Names of torchvision: blocks counted through, the layers of a block by their places in it."""
    last, end = f"blocks.{len(config.depths)}.0", f"features.{sum(config.depths) + 1}"
    table = pair(("conv_stem", "bn1"), ("features.0.0", "features.0.1"))
    table |= pair((f"{last}.conv", f"{last}.bn1"), (f"{end}.0", f"{end}.1"))
    for block, _, _ in config.blocks():
        theirs, squeezed = f"features.{block.number + 1}.block", config.squeezed[block.stage]
        behind = len(block.layers) - 1
        for place, (layer, norm) in enumerate(block.layers):
            there = f"{theirs}.{place + (squeezed and place == behind)}"
            table |= pair((f"{block.name}.{layer}", f"{block.name}.{norm}"), (f"{there}.0", f"{there}.1"))
        if squeezed:
            table |= excitation(block, f"{theirs}.{behind}.fc1", f"{theirs}.{behind}.fc2")
    return table | linear("conv_head", "classifier.0") | linear("classifier", "classifier.3")


def _torchvision_config(_: Tensors, config: MobileNetV3Config) -> MobileNetV3Config:
    """Unlike timm's, torchvision's have TensorFlow's epsilon with PyTorch's padding."""
    return dataclasses.replace(config, eps=1e-3)


def check_config(config: MobileNetV3Config) -> None:
    """Bounds of a config that was read from a file."""
    names = ("depths", "kernel_sizes", "strides", "widths", "squeezed", "rectified")
    if not config.depths or len({len(getattr(config, name)) for name in names}) != 1:
        raise ValueError(f"depths {config.depths}, {', '.join(names[1:])} differ in length")
    within("number of stages", len(config.depths), 1, 16)
    within("depths", config.depths, 1, 32)
    if len(config.inner) != sum(config.depths):
        raise ValueError(f"inner {config.inner} has not one entry for each of {sum(config.depths)} blocks")
    within("kernel_sizes", config.kernel_sizes, 1, 31)
    if not all(size % 2 for size in config.kernel_sizes):
        raise ValueError(f"kernel_sizes {config.kernel_sizes} are not all odd")
    within("strides", config.strides, 1, 16)
    channels = (*config.widths, *config.inner, config.stem_width, config.last_width, config.head_width)
    within("widths, inner, stem_width, last_width and head_width", channels, 1, 1 << 14)
    within("eps", config.eps, 0, 1)
    for field, known in (("padding", PADDINGS), ("activation", ACTIVATIONS)):
        if getattr(config, field) not in known:
            raise ValueError(f"{field} {getattr(config, field)!r} is not one of {', '.join(known)}")


def from_timm(config: MobileNetV3Config, arguments: Mapping[str, Any]) -> MobileNetV3Config:
    """The config that timm's `model_args` leave as it is, or a refusal of what camjax does not compute."""
    read = timm_arguments(
        act_layer=config.activation,
        norm_layer="batchnorm",
        bn_eps=config.eps,
        pad_type="same" if config.padding == "same" else "",
    )
    return read(config, arguments)


FAMILY = Family(
    name="mobilenet_v3",
    title="MobileNetV3 (Howard et al. 2019)",
    config=MobileNetV3Config,
    module=MobileNetV3,
    layouts={
        "timm": Layout(timm_table, "classifier.weight"),
        "torchvision": Layout(
            torchvision_table,
            "classifier.3.weight",
            _torchvision_config,
            holds=lambda config: config.padding == "symmetric",
        ),
    },
    check=check_config,
    from_timm=from_timm,
)

_LARGE = {
    "kernel_sizes": (3, 3, 5, 3, 3, 5),
    "strides": (1, 2, 2, 2, 1, 2),
    "widths": (16, 24, 40, 80, 112, 160),
    "squeezed": (False, False, True, False, True, True),
    "rectified": (True, True, True, False, False, False),
}
_SMALL = {
    "kernel_sizes": (3, 3, 5, 5, 5),
    "strides": (2, 2, 2, 1, 2),
    "widths": (16, 24, 40, 48, 96),
    "squeezed": (True, False, True, True, True),
    "rectified": (True, True, False, False, False),
}
_FACTORS = {
    "large": ((1,), (4, 3), (3, 3, 3), (6, 2.5, 2.3, 2.3), (6, 6), (6, 6, 6)),
    "small": ((1,), (4.5, 3.67), (4, 6, 6), (3, 3), (6, 6, 6)),
}
"""For each block of each stage, how many times wider it is inside."""


def _config(size: str, width: float = 1.0, *, minimal: bool = False, **fields: Any) -> MobileNetV3Config:  # noqa: ANN401
    stages: dict[str, Any] = dict(_LARGE if size == "large" else _SMALL)
    stages["widths"] = tuple(divisible(channels * width) for channels in stages["widths"])
    count, stem = len(stages["widths"]), 16 if width < 0.75 else divisible(16 * width)
    if minimal:
        stages |= {"kernel_sizes": (3,) * count, "squeezed": (False,) * count, "activation": "relu"}
    inner, inputs = [], stem
    for factors, outputs in zip(_FACTORS[size], stages["widths"], strict=True):
        for factor in factors:
            inner.append(inputs if factor == 1 else divisible(float(inputs * factor)))
            inputs = outputs
    return MobileNetV3Config(
        depths=tuple(map(len, _FACTORS[size])),
        inner=tuple(inner),
        stem_width=stem,
        last_width=divisible((960 if size == "large" else 576) * width),
        head_width=1280 if size == "large" else 1024,
        **stages,
        **fields,
    )


_plain = functools.partial(Architecture, family=FAMILY, preprocess=Preprocess(interpolation="bicubic"))
_halves = Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
_tensorflow = functools.partial(_config, padding="same", eps=1e-3)
_WIDTHS = (("large", "075", 0.75), ("large", "100", 1.0), ("small", "075", 0.75), ("small", "100", 1.0))
ARCHITECTURES = (
    *(_plain(f"mobilenetv3_{size}_{name}", config=_config(size, width)) for size, name, width in _WIDTHS),
    _plain("mobilenetv3_small_050", config=_config("small", 0.5)),
    *(
        Architecture(f"tf_mobilenetv3_{size}_{name}", FAMILY, _tensorflow(size, width), _halves)
        for size, name, width in _WIDTHS
    ),
    *(
        Architecture(f"tf_mobilenetv3_{size}_minimal_100", FAMILY, _tensorflow(size, minimal=True), _halves)
        for size in _FACTORS
    ),
)
