"""EfficientNet and EfficientNet-Lite (Tan & Le 2019), and MobileNetV2 (Sandler et al. 2018), from one definition.

Several architectures have the same parameters and compute differently: timm's `tf_efficientnet_…`, with the padding and
epsilon of the TensorFlow networks whose weights they have, and its `efficientnet_…`, trained in PyTorch with PyTorch's.
"""

import dataclasses
import functools
import math
import types
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx
from jax import Array
from jaxtyping import Float

from camjax.choices import CropMode
from camjax.images.preprocess import Preprocess
from camjax.models.configs import within
from camjax.models.efficientnet_layouts import LAYOUTS
from camjax.models.family import Architecture, Family, timm_arguments
from camjax.models.layers import BatchNorm, Chain, Conv, Linear
from camjax.models.mobile_blocks import DepthwiseSeparable, InvertedResidual, Layers, SqueezeExcite, divisible
from camjax.models.network import Network

PADDINGS = {"same": "SAME", "symmetric": None}
"""TensorFlow's padding and PyTorch's, as `Conv` takes them; they differ where the stride is not 1."""

ACTIVATIONS = {"relu6": jax.nn.relu6, "silu": jax.nn.silu}


@dataclasses.dataclass(frozen=True)
class EfficientNetConfig:
    """The stages of the network, one entry of each tuple a stage.

    Attributes:
        depths: blocks.
        kernel_sizes: side of the depthwise kernel.
        strides: of the first block.
        expansions: how many times wider a block is inside.
        widths: channels out.
        stem_width: channels of the first convolution.
        head_width: channels of the last convolution, which is pooled.
        num_classes: outputs of the linear head.
        padding: `"same"` as TensorFlow pads, or `"symmetric"` as PyTorch does.
        eps: of every normalisation.
        activation: `"relu6"` or `"silu"`.
        squeeze: how many channels that enter a block make one inside its squeeze-and-excitation; 0 is no such layer.
    """

    depths: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
    kernel_sizes: tuple[int, ...] = (3, 3, 5, 3, 5, 5, 3)
    strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
    expansions: tuple[int, ...] = (1, 6, 6, 6, 6, 6, 6)
    widths: tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)
    stem_width: int = 32
    head_width: int = 1280
    num_classes: int = 1000
    padding: str = "same"
    eps: float = 1e-3
    activation: str = "relu6"
    squeeze: int = 0


class EfficientNet(Network):
    """The network, its modules named as timm names them.

    Its stages: `bn1` (after the first convolution, its normalisation and activation; stride 2), `blocks.0` and so on
    (each one's output, which has no activation; strides 2, 4, 8, 16, 16, 32 and 32) and `bn2` (after the last
    convolution, its normalisation and activation; stride 32).

    Args:
        config: its stages.
        rngs: for the initial weights.
    """

    layer = "bn2"
    linear = "classifier"
    norms = types.MappingProxyType({"conv_stem": "bn1", "conv_head": "bn2"})

    def __init__(self, config: EfficientNetConfig, *, rngs: nnx.Rngs) -> None:
        activation = ACTIVATIONS[config.activation]
        make = functools.partial(Conv, padding=PADDINGS[config.padding], rngs=rngs)

        def excitation(inputs: int, inner: int) -> nnx.Module | None:
            squeezed = max(1, inputs // config.squeeze) if config.squeeze else 0
            return SqueezeExcite(inner, squeezed, make, activation) if squeezed else None

        layers = Layers(make, functools.partial(BatchNorm, eps=config.eps), activation, excitation)
        self.conv_stem = layers.conv(3, config.stem_width, 3, stride=2)
        self.bn1 = layers.norm(config.stem_width, activation=activation)
        blocks = []
        inputs = config.stem_width
        for size, stride, expansion, outputs, depth in zip(
            config.kernel_sizes, config.strides, config.expansions, config.widths, config.depths, strict=True
        ):
            stage: list[nnx.Module] = []
            for index in range(depth):
                step = stride if index == 0 else 1
                if expansion == 1:
                    stage.append(DepthwiseSeparable(inputs, outputs, size, step, layers))
                else:
                    stage.append(InvertedResidual(inputs, outputs, size, step, inputs * expansion, layers))
                inputs = outputs
            blocks.append(Chain(stage))
        self.blocks = nnx.List(blocks)
        self.conv_head = layers.conv(inputs, config.head_width, 1)
        self.bn2 = layers.norm(config.head_width, activation=activation)
        self.classifier = Linear(config.head_width, config.num_classes, rngs=rngs)
        self.order = ("bn1", *(f"blocks.{number}" for number in range(len(blocks))), "bn2")

    def stage(self, name: str, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """One stage's features; see `Network.stage`."""
        x = {"bn1": self.conv_stem, "bn2": self.conv_head}[name](x) if name in ("bn1", "bn2") else x
        return super().stage(name, x)


def check_config(config: EfficientNetConfig) -> None:
    """Bounds of a config that was read from a file."""
    stages = (config.depths, config.kernel_sizes, config.strides, config.expansions, config.widths)
    if not config.depths or len({len(values) for values in stages}) != 1:
        raise ValueError(f"depths {config.depths}, kernel_sizes, strides, expansions and widths differ in length")
    within("number of stages", len(config.depths), 1, 16)
    within("depths", config.depths, 1, 64)
    within("kernel_sizes", config.kernel_sizes, 1, 31)
    if not all(size % 2 for size in config.kernel_sizes):
        raise ValueError(f"kernel_sizes {config.kernel_sizes} are not all odd")
    within("strides and expansions", (*config.strides, *config.expansions), 1, 16)
    within("widths", (*config.widths, config.stem_width, config.head_width), 1, 1 << 14)
    within("eps", config.eps, 0, 1)
    within("squeeze", config.squeeze, 0, 1 << 10)
    for field, known in (("padding", PADDINGS), ("activation", ACTIVATIONS)):
        if getattr(config, field) not in known:
            raise ValueError(f"{field} {getattr(config, field)!r} is not one of {', '.join(known)}")


def from_timm(config: EfficientNetConfig, arguments: Mapping[str, Any]) -> EfficientNetConfig:
    """The config that timm's `model_args` leave as it is, or a refusal of what camjax does not compute."""
    activation = "swish" if arguments.get("act_layer") == "swish" and config.activation == "silu" else config.activation
    read = timm_arguments(
        act_layer=activation,
        norm_layer="batchnorm",
        output_stride=32,
        bn_eps=config.eps,
        pad_type="same" if config.padding == "same" else "",
    )
    return read(config, arguments)


FAMILY = Family(
    name="efficientnet",
    title="EfficientNet, EfficientNet-Lite (Tan & Le 2019), MobileNetV2 (Sandler et al. 2018)",
    config=EfficientNetConfig,
    module=EfficientNet,
    layouts=LAYOUTS,
    check=check_config,
    from_timm=from_timm,
)


def scaled(config: EfficientNetConfig, width: float, depth: float, *, ends: bool) -> EfficientNetConfig:
    """A larger network.

    Args:
        config: the one that it is made of.
        width: factor of all channels.
        depth: factor of all stages' blocks.
        ends: also scale the first and last convolution, and how many blocks the first and last stage have.
    """
    middle = slice(None) if ends else slice(1, -1)
    depths = list(config.depths)
    depths[middle] = [math.ceil(blocks * depth) for blocks in depths[middle]]
    return dataclasses.replace(
        config,
        depths=tuple(depths),
        widths=tuple(divisible(channels * width) for channels in config.widths),
        stem_width=divisible(config.stem_width * width) if ends else config.stem_width,
        head_width=divisible(config.head_width * width) if ends else config.head_width,
    )


_bicubic = Preprocess(interpolation="bicubic")
_halves = dataclasses.replace(_bicubic, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
_LITE = EfficientNetConfig(padding="symmetric", eps=1e-5)
_FULL = dataclasses.replace(_LITE, activation="silu", squeeze=4)
_MOBILE = dataclasses.replace(
    _LITE, depths=(1, 2, 3, 4, 3, 3, 1), kernel_sizes=(3,) * 7, widths=(16, 24, 32, 64, 96, 160, 320)
)
_tensorflow = functools.partial(dataclasses.replace, padding="same", eps=1e-3)
_FACTORS = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8), (1.6, 2.2), (1.8, 2.6), (2.0, 3.1))
_CROPS = ((224, 0.875), (240, 0.882), (260, 0.89), (300, 0.904), (380, 0.922), (456, 0.934), (528, 0.942), (600, 0.949))
_TIMMS_CROPS = ((224, 0.875), (224, 0.875), (256, 0.875), (288, 0.875), (320, 0.875), (448, 1.0), *_CROPS[6:])
_LITE_CROPS = (*_CROPS[:4], (380, 0.92))


def _cropped(preprocess: Preprocess, crop: tuple[int, float]) -> Preprocess:
    # The one that is not cropped, B5, timm evaluates on images whose sides are both resized.
    mode: CropMode = "squash" if crop[1] == 1 else "center"
    return dataclasses.replace(preprocess, input_size=(crop[0], crop[0]), crop_pct=crop[1], crop_mode=mode)


def _lite(number: int) -> tuple[Architecture, Architecture]:
    config = scaled(_LITE, *_FACTORS[number], ends=False)
    theirs = dataclasses.replace(_halves, interpolation="bicubic" if number < 3 else "bilinear")
    return (
        Architecture(f"efficientnet_lite{number}", FAMILY, config, _cropped(_bicubic, _CROPS[number])),
        Architecture(
            f"tf_efficientnet_lite{number}", FAMILY, _tensorflow(config), _cropped(theirs, _LITE_CROPS[number])
        ),
    )


def _full(number: int) -> tuple[Architecture, Architecture]:
    config = scaled(_FULL, *_FACTORS[number], ends=True)
    return (
        Architecture(f"efficientnet_b{number}", FAMILY, config, _cropped(_bicubic, _TIMMS_CROPS[number])),
        Architecture(f"tf_efficientnet_b{number}", FAMILY, _tensorflow(config), _cropped(_bicubic, _CROPS[number])),
    )


def _mobile(name: str, width: float, depth: float, *, ends: bool) -> Architecture:
    config = scaled(_MOBILE, width, depth, ends=ends)
    config = dataclasses.replace(config, head_width=max(1280, config.head_width))
    return Architecture(f"mobilenetv2_{name}", FAMILY, config, _bicubic)


ARCHITECTURES = (
    *(member for number in range(5) for member in _lite(number)),
    *(member for number in range(8) for member in _full(number)),
    _mobile("050", 0.5, 1.0, ends=True),
    _mobile("100", 1.0, 1.0, ends=True),
    _mobile("140", 1.4, 1.0, ends=True),
    _mobile("110d", 1.1, 1.2, ends=False),
    _mobile("120d", 1.2, 1.4, ends=False),
)
