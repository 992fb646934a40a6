"""What checkpoints of EfficientNets and MobileNetV2 call their tensors."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from camjax.models.layout import Layout, Table, Tensors, batch_norm, conv, linear
from camjax.models.mobile_blocks import DepthwiseSeparable, InvertedResidual


class Block(NamedTuple):
    """One block of a network.

    Attributes:
        number: counted through all stages.
        stage: its stage.
        place: its own in the stage.
        widens: whether its first convolution does.
    """

    number: int
    stage: int
    place: int
    widens: bool

    @property
    def name(self) -> str:
        """Of the module."""
        return f"blocks.{self.stage}.{self.place}"

    @property
    def layers(self) -> list[tuple[str, str]]:
        """Its convolutions with their normalisations."""
        return list((InvertedResidual if self.widens else DepthwiseSeparable).norms.items())


def blocks(config: Any) -> Iterator[Block]:  # noqa: ANN401
    """Every block of a config, in order."""
    places = [(stage, index) for stage, depth in enumerate(config.depths) for index in range(depth)]
    for number, (stage, index) in enumerate(places):
        yield Block(number, stage, index, config.expansions[stage] != 1)


def pair(ours: tuple[str, str], theirs: tuple[str, str]) -> Table:
    """A convolution and its normalisation."""
    return conv(ours[0], theirs[0]) | batch_norm(ours[1], theirs[1])


def excitation(block: Block, reduce: str, expand: str) -> Table:
    """The two convolutions of a block's squeeze-and-excitation."""
    names = {"conv_reduce": reduce, "conv_expand": expand}
    table: Table = {}
    for ours, theirs in names.items():
        table |= conv(f"{block.name}.se.{ours}", theirs, bias=True)
    return table


def timm_table(config: Any) -> Table:  # noqa: ANN401
    """Names of timm, which are ours."""
    table = pair(("conv_stem", "bn1"), ("conv_stem", "bn1")) | pair(("conv_head", "bn2"), ("conv_head", "bn2"))
    for block in blocks(config):
        for layer, norm in block.layers:
            names = (f"{block.name}.{layer}", f"{block.name}.{norm}")
            table |= pair(names, names)
        if config.squeeze:
            table |= excitation(block, f"{block.name}.se.conv_reduce", f"{block.name}.se.conv_expand")
    return table | linear("classifier", "classifier")


def efficientnet_pytorch_table(config: Any) -> Table:  # noqa: ANN401
    """The names of efficientnet-pytorch and its Lite sibling (`_blocks.N`, counted through)."""
    table = pair(("conv_stem", "bn1"), ("_conv_stem", "_bn0")) | pair(("conv_head", "bn2"), ("_conv_head", "_bn1"))
    names = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
    for block in blocks(config):
        theirs = f"_blocks.{block.number}"
        for (layer, norm), (their_conv, their_norm) in zip(block.layers, names[not block.widens :], strict=True):
            ours = (f"{block.name}.{layer}", f"{block.name}.{norm}")
            table |= pair(ours, (f"{theirs}.{their_conv}", f"{theirs}.{their_norm}"))
        if config.squeeze:
            table |= excitation(block, f"{theirs}._se_reduce", f"{theirs}._se_expand")
    return table | linear("classifier", "_fc")


def torchvision_table(config: Any) -> Table:  # noqa: ANN401
    """Names of torchvision's EfficientNets: the layers of a block by their places in it."""
    table = _ends(len(config.depths) + 1)
    for block in blocks(config):
        theirs = f"features.{block.stage + 1}.{block.place}.block"
        behind = len(block.layers) - 1
        for place, (layer, norm) in enumerate(block.layers):
            there = f"{theirs}.{place + (place == behind)}"
            table |= pair((f"{block.name}.{layer}", f"{block.name}.{norm}"), (f"{there}.0", f"{there}.1"))
        table |= excitation(block, f"{theirs}.{behind}.fc1", f"{theirs}.{behind}.fc2")
    return table


def torchvision_mobilenet_table(config: Any) -> Table:  # noqa: ANN401
    """Names of torchvision's MobileNetV2: blocks counted through, the last two layers of each without a folder."""
    table = _ends(sum(config.depths) + 1)
    for block in blocks(config):
        theirs = f"features.{block.number + 1}.conv"
        last = len(block.layers) - 1
        for place, (layer, norm) in enumerate(block.layers):
            names = (f"{place}.0", f"{place}.1") if place < last else (f"{last}", f"{last + 1}")
            ours = (f"{block.name}.{layer}", f"{block.name}.{norm}")
            table |= pair(ours, (f"{theirs}.{names[0]}", f"{theirs}.{names[1]}"))
    return table


def _ends(last: int) -> Table:
    """The first and the last layers as torchvision names them."""
    stem, head = ((f"features.{place}.0", f"features.{place}.1") for place in (0, last))
    return pair(("conv_stem", "bn1"), stem) | pair(("conv_head", "bn2"), head) | linear("classifier", "classifier.1")


def _torchvision_config(_: Tensors, config: Any) -> Any:  # noqa: ANN401
    """B5 to B7 of torchvision, unlike timm's, have TensorFlow's epsilon with PyTorch's padding."""
    return dataclasses.replace(config, eps=1e-3) if config.depths[0] > 2 else config


LAYOUTS = {
    "timm": Layout(timm_table, "classifier.weight"),
    "efficientnet-pytorch": Layout(
        efficientnet_pytorch_table,
        "_fc.weight",
        holds=lambda config: (config.padding, config.eps) == ("same", 1e-3),
    ),
    "torchvision": Layout(
        torchvision_table,
        "classifier.1.weight",
        _torchvision_config,
        holds=lambda config: config.padding == "symmetric" and config.squeeze > 0,
    ),
    "torchvision-mobilenet": Layout(
        torchvision_mobilenet_table,
        "classifier.1.weight",
        holds=lambda config: config.padding == "symmetric" and not config.squeeze and {*config.kernel_sizes} == {3},
    ),
}
