"""A ResNet v2 from MXNet: the graph in `PREFIX-symbol.json`, the arrays in `PREFIX-EPOCH.params`, no MXNet needed."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from camjax.checkpoints.conversion import place
from camjax.checkpoints.mxnet.params import read_mxnet_params
from camjax.checkpoints.mxnet.symbol import (
    ADDITIONS,
    VARIABLE,
    Convolution,
    Graph,
    Node,
    activated_norm,
    convolution,
)
from camjax.core.model import Params
from camjax.errors import CheckpointError, printable
from camjax.files import LargeFileError, read_text
from camjax.models.configs import LARGEST
from camjax.models.family import Architecture
from camjax.models.layout import columns, hwio
from camjax.models.resnet_v2 import FAMILY, ResNetV2Config

PREFIX = "mxnet:"
LARGEST_SYMBOL = 16 << 20
"""Bytes; ResNet-152's symbol has a third of a megabyte."""


@dataclasses.dataclass(frozen=True)
class Unit:
    """One pre-activation block of the graph.

    Attributes:
        norms: in the order in which they are computed.
        convolutions: likewise.
        shortcut: the projection, or None for the identity.
        source: the node that feeds the block.
    """

    norms: tuple[Node, ...]
    convolutions: tuple[Convolution, ...]
    shortcut: Convolution | None
    source: Node

    @property
    def stride(self) -> int:
        """Of the block as a whole."""
        return max(part.stride for part in self.convolutions)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the network's parts are in the graph.

    Attributes:
        config: the shape of the network.
        norms: our names of the normalisations, and their nodes.
        names: our names of the parameters, and the file's.
    """

    config: ResNetV2Config
    norms: dict[str, Node]
    names: dict[str, str]


def checkpoint_files(reference: str) -> tuple[Path, Path]:
    """The symbol and the parameters of `mxnet:PATH/PREFIX@EPOCH`; the epoch is 0 where it is not given.

    Raises:
        CheckpointError: it is written otherwise.
    """
    match = re.fullmatch(rf"{PREFIX}(.+?)(?:@(\d{{1,6}}))?", reference)
    if match is None or match[1].endswith(("/", "@")):
        raise CheckpointError(f"{reference!r} is not mxnet:PATH/PREFIX@EPOCH")
    return Path(f"{match[1]}-symbol.json"), Path(f"{match[1]}-{int(match[2] or 0):04d}.params")


def read_mxnet(symbol: Path, params: Path) -> tuple[Architecture, Params]:
    """Reads a checkpoint as `mx.model.save_checkpoint` writes it.

    Depth, widths and classes come from the graph. A normalisation with `fix_gamma` has a scale of 1, whatever the file
    holds for it; an epsilon that differs from the others' is moved into its variance.

    Args:
        symbol: the graph.
        params: the arrays.

    Returns:
        The architecture and its parameters.

    Raises:
        CheckpointError: a file is missing or damaged, the graph is not a ResNet v2 (the node is named), or the arrays
            do not fit it.
    """
    try:
        layout = read_layout(_read_json(symbol))
    except CheckpointError as error:
        raise CheckpointError(f"{symbol}: {printable(str(error))}") from error
    tensors = read_mxnet_params(params)
    try:
        return _architecture(layout.config), _parameters(layout, tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{params}: {error}") from error


def read_layout(document: Any) -> Layout:  # noqa: ANN401
    """Finds every layer of a ResNet v2 in its symbol.

    Raises:
        CheckpointError: the graph is another network's; the first node that does not belong is named.
    """
    graph = Graph(document)
    linear = graph.feed(graph.head) if graph.head.op in ("SoftmaxOutput", "softmax") else graph.head
    pooled = graph.feed(linear.expect("FullyConnected"))
    pooled = graph.feed(pooled) if pooled.op == "Flatten" else pooled
    if not pooled.expect("Pooling").flag("global_pool", default=False) or pooled.attributes.get("pool_type") != "avg":
        raise pooled.refuse("it is not a global average")
    last_norm = activated_norm(graph, graph.feed(pooled))
    units: list[Unit] = []
    node = graph.feed(last_norm)
    while node.op in ADDITIONS:
        units.insert(0, _unit(graph, node))
        node = units[0].source
    stem, stem_norm, input_norm = _stem(graph, node)
    config = _config(units, stem, linear, last_norm, stem_norm is not None, input_norm is not None)
    norms = {"norm": last_norm} | _named("stem.norm", stem_norm) | _named("stem.input_norm", input_norm)
    convolutions = {"stem.conv": stem.node}
    for unit, name in zip(units, _block_names(config), strict=True):
        norms |= {f"{name}.norm{layer}": norm for layer, norm in enumerate(unit.norms, start=1)}
        convolutions |= {f"{name}.conv{layer}": part.node for layer, part in enumerate(unit.convolutions, start=1)}
        convolutions |= {} if unit.shortcut is None else {f"{name}.downsample.conv": unit.shortcut.node}
    return Layout(config, norms, _tensor_names(graph, norms, convolutions, linear))


def _unit(graph: Graph, addition: Node) -> Unit:
    """The block that ends in a sum of its main branch and its shortcut."""
    node, side = graph.feed(addition, 0), graph.feed(addition, 1)
    sizes = (1, 3, 1) if convolution(node, 1, 3).size == 1 else (3, 3)
    strided = 1 if len(sizes) == 3 else 0
    norms: list[Node] = []
    parts: list[Convolution] = []
    activation = node
    for index in reversed(range(len(sizes))):
        part = convolution(node, sizes[index])
        if part.stride != 1 and index != strided:
            raise part.node.refuse("the stride is not on the block's 3x3 convolution")
        activation = graph.feed(part.node)
        norms.insert(0, activated_norm(graph, activation))
        parts.insert(0, part)
        node = graph.feed(norms[0])
    unit = Unit(tuple(norms), tuple(parts), None, node)
    if side.number == node.number:
        return unit
    shortcut = convolution(side, 1)
    if graph.feed(side).number != activation.number or shortcut.stride != unit.stride:
        raise side.refuse("a shortcut starts at its block's first activation, with the block's stride")
    return dataclasses.replace(unit, shortcut=shortcut)


def _stem(graph: Graph, pooling: Node) -> tuple[Convolution, Node | None, Node | None]:
    """The first convolution, the normalisation after it, and the one of the input."""
    shape = (
        pooling.expect("Pooling").pair("kernel", (0, 0)),
        pooling.pair("stride", (1, 1)),
        pooling.pair("pad", (0, 0)),
    )
    convention = pooling.attributes.get("pooling_convention", "valid")
    if pooling.attributes.get("pool_type") != "max" or shape != ((3, 3), (2, 2), (1, 1)) or convention != "valid":
        raise pooling.refuse("it is not a 3x3 max-pool with stride 2 and pad 1")
    node = graph.feed(pooling)
    stem_norm = activated_norm(graph, node) if node.op == "Activation" else None
    stem = convolution(node if stem_norm is None else graph.feed(stem_norm), 7)
    if stem.stride != 2:
        raise stem.node.refuse("its stride is not 2")
    node = graph.feed(stem.node)
    input_norm = None if node.op == VARIABLE else node.expect("BatchNorm")
    (node if input_norm is None else graph.feed(input_norm)).expect(VARIABLE)
    return stem, stem_norm, input_norm


def _config(
    units: list[Unit], stem: Convolution, linear: Node, last_norm: Node, has_stem_norm: bool, has_input_norm: bool
) -> ResNetV2Config:
    """The shape of the network; a projection begins a stage."""
    starts = [index for index, unit in enumerate(units) if index == 0 or unit.shortcut is not None]
    if len(starts) != 4:
        raise last_norm.refuse(f"{len(starts)} stages of blocks lead to it; a ResNet v2 has 4")
    for index, unit in enumerate(units):
        if unit.stride != (2 if index in starts[1:] else 1):
            raise unit.convolutions[0].node.refuse(f"the stride of its block is {unit.stride}")
    ends = [*starts[1:], len(units)]
    depths = tuple(end - start for start, end in zip(starts, ends, strict=True))
    config = ResNetV2Config(
        depths=depths,
        bottleneck=len(units[0].convolutions) == 3,
        projections=tuple(units[start].shortcut is not None for start in starts),
        widths=tuple(units[start].convolutions[0].channels for start in starts),
        stem_width=stem.channels,
        num_classes=linear.whole("num_hidden"),
        eps=last_norm.eps,
        input_norm=has_input_norm,
        stem_norm=has_stem_norm,
    )
    if config.num_classes > LARGEST:
        raise linear.refuse(f"it has more than {LARGEST} classes")
    try:
        FAMILY.check(config)  # outlining thousands of blocks would take minutes
    except ValueError as error:
        raise last_norm.refuse(str(error)) from error
    return config


def _tensor_names(graph: Graph, norms: dict[str, Node], convolutions: dict[str, Node], linear: Node) -> dict[str, str]:
    """Our parameters' names, and the file's for each."""
    names = {f"{ours}.kernel": f"arg:{graph.variable(node, 1, 'weight')}" for ours, node in convolutions.items()}
    for ours, node in norms.items():
        names[f"{ours}.scale"] = f"arg:{graph.variable(node, 1, 'gamma')}"
        names[f"{ours}.bias"] = f"arg:{graph.variable(node, 2, 'beta')}"
        names[f"{ours}.mean"] = f"aux:{graph.variable(node, 3, 'moving_mean')}"
        names[f"{ours}.var"] = f"aux:{graph.variable(node, 4, 'moving_var')}"
    names["head.fc.kernel"] = f"arg:{graph.variable(linear, 1, 'weight')}"
    if not linear.flag("no_bias", default=False):
        names["head.fc.bias"] = f"arg:{graph.variable(linear, 2, 'bias')}"
    return names


def _parameters(layout: Layout, tensors: dict[str, np.ndarray]) -> Params:
    """The arrays under our names and in our axis order, each used exactly once."""
    wanted = {theirs: ours for ours, theirs in layout.names.items()}
    arrays = {wanted.get(key, key): _transpose(tensor) for key, tensor in tensors.items()}
    if "head.fc.bias" not in layout.names:
        arrays["head.fc.bias"] = np.zeros(layout.config.num_classes, np.float32)
    for ours, node in layout.norms.items():
        if node.flag("fix_gamma", default=True) and f"{ours}.scale" in arrays:
            arrays[f"{ours}.scale"] = np.ones_like(arrays[f"{ours}.scale"])
        difference = node.eps - layout.config.eps
        if difference and f"{ours}.var" in arrays:
            arrays[f"{ours}.var"] = arrays[f"{ours}.var"] + np.float32(difference)
    return place(arrays, FAMILY.outline(layout.config).params, layout.names)


def _transpose(tensor: np.ndarray) -> np.ndarray:
    """MXNet's axis order, which is PyTorch's, to ours."""
    if tensor.ndim == 4:
        return hwio(tensor)
    return columns(tensor) if tensor.ndim == 2 else tensor


def _architecture(config: ResNetV2Config) -> Architecture:
    layers = 2 + sum(config.depths) * (3 if config.bottleneck else 2)
    return Architecture(f"resnetv2_{layers}", FAMILY, config)


def _block_names(config: ResNetV2Config) -> list[str]:
    return [f"stages.{stage}.blocks.{index}" for stage, depth in enumerate(config.depths) for index in range(depth)]


def _named(name: str, node: Node | None) -> dict[str, Node]:
    return {} if node is None else {name: node}


def _read_json(path: Path) -> Any:  # noqa: ANN401
    try:
        return json.loads(read_text(path, "utf-8", limit=LARGEST_SYMBOL))
    except LargeFileError as error:
        raise CheckpointError("is too large for a symbol") from error
    except OSError as error:
        raise CheckpointError(f"cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"is not JSON ({error})") from error
