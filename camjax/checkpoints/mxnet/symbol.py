"""MXNet's `-symbol.json`: the graph of a network, walked from its output back to its input.

Names are never trusted: what an operator is, what feeds it and what it is called with say which layer it is. A node
that does not belong where it stands is named in the error.
"""

import ast
import dataclasses
import math
import re
from collections.abc import Collection
from typing import Any

from camjax.errors import CheckpointError

ADDITIONS = frozenset({"elemwise_add", "_Plus", "_plus", "broadcast_add"})
COPIES = frozenset({"_copy", "identity"})
VARIABLE = "null"


@dataclasses.dataclass(frozen=True)
class Node:
    """One operator or variable of the graph.

    Attributes:
        number: its place in the graph; inputs come before.
        op: MXNet's name of the operator, `null` for a variable.
        name: its own name.
        attributes: what the operator is called with, as text.
        inputs: the numbers of the nodes that feed it.
    """

    number: int
    op: str
    name: str
    attributes: dict[str, str]
    inputs: tuple[int, ...]

    def refuse(self, why: str) -> CheckpointError:
        """The error that names this node."""
        return CheckpointError(f"the symbol's node {self.name!r} ({self.op}) is not understood: {why}")

    def expect(self, ops: str | Collection[str]) -> "Node":
        """This node, if it is one of those operators."""
        wanted = (ops,) if isinstance(ops, str) else ops
        if self.op not in wanted:
            raise self.refuse(f"a ResNet v2 has {' or '.join(sorted(wanted))} here")
        return self

    def flag(self, key: str, *, default: bool) -> bool:
        """A true-or-false attribute."""
        return self.attributes.get(key, str(default)).lower() in ("true", "1")

    def whole(self, key: str, default: int | None = None) -> int:
        """An attribute that is a positive whole number."""
        text = self.attributes.get(key, "" if default is None else str(default))
        if not re.fullmatch(r"[1-9]\d{0,8}", text):
            raise self.refuse(f"{key} is {text[:100]!r}")
        return int(text)

    @property
    def eps(self) -> float:
        """Of a normalisation; MXNet's own default is 1e-3."""
        try:
            value = float(self.attributes.get("eps", "1e-3"))
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise self.refuse(f"eps is {self.attributes['eps'][:100]!r}")
        return value

    def pair(self, key: str, default: tuple[int, int]) -> tuple[int, int]:
        """An attribute of two whole numbers, such as `(3, 3)`."""
        text = self.attributes.get(key, str(default))
        try:
            value = ast.literal_eval(text) if len(text) < 100 else None
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = None
        if isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(part, int) for part in value):
            return value[0], value[1]
        raise self.refuse(f"{key} is {text[:100]!r}")


class Graph:
    """A symbol's nodes.

    Args:
        document: the parsed JSON.

    Raises:
        CheckpointError: it is not a symbol, or a node is fed by one that does not come before it.
    """

    def __init__(self, document: Any) -> None:  # noqa: ANN401
        try:
            self.nodes = [_node(number, entry) for number, entry in enumerate(document["nodes"])]
            head = int(document["heads"][0][0])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise CheckpointError(f"is not an MXNet symbol ({error!r})") from error
        if not 0 <= head < len(self.nodes):
            raise CheckpointError(f"is not an MXNet symbol: its output is node {head} of {len(self.nodes)}")
        self.head = self.nodes[head]

    def feed(self, node: Node, place: int = 0) -> Node:
        """The node that feeds one, by the input's place; copies in between are passed over."""
        if place >= len(node.inputs):
            raise node.refuse(f"it has {len(node.inputs)} inputs")
        source = self.nodes[node.inputs[place]]
        while source.op in COPIES and source.inputs:
            source = self.nodes[source.inputs[0]]
        return source

    def variable(self, node: Node, place: int, suffix: str) -> str:
        """The name of the variable at an input's place; files older than MXNet 0.9 leave auxiliary ones unsaid."""
        if place >= len(node.inputs):
            return f"{node.name}_{suffix}"
        return self.nodes[node.inputs[place]].expect(VARIABLE).name


def _node(number: int, entry: dict[str, Any]) -> Node:
    attributes: dict[str, str] = {}
    for key in ("param", "attr", "attrs"):  # MXNet before 0.9, before 1.0, and since
        attributes |= {str(name): str(value) for name, value in (entry.get(key) or {}).items()}
    inputs = tuple(_before(number, reference[0]) for reference in entry["inputs"])
    return Node(number, str(entry["op"]), str(entry["name"]), attributes, inputs)


def _before(number: int, source: object) -> int:
    if not isinstance(source, int) or not 0 <= source < number:
        raise ValueError(f"node {number} is fed by {source!r}")
    return source


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A square convolution as the graph has it.

    Attributes:
        node: the operator.
        channels: out.
        size: side of the kernel.
        stride: the same along both axes.
    """

    node: Node
    channels: int
    size: int
    stride: int


def convolution(node: Node, *sizes: int) -> Convolution:
    """Checks that a node is a plain square convolution of one of those sizes, padded as ResNets are."""
    node.expect("Convolution")
    kernel, stride = node.pair("kernel", (0, 0)), node.pair("stride", (1, 1))
    size = kernel[0]
    if kernel != (size, size) or size not in sizes or stride[0] != stride[1]:
        raise node.refuse(f"kernel {kernel} and stride {stride}; a ResNet v2 has {' or '.join(map(str, sizes))} here")
    if node.pair("pad", (0, 0)) != ((size - 1) // 2,) * 2 or node.pair("dilate", (1, 1)) != (1, 1):
        raise node.refuse(f"pad {node.pair('pad', (0, 0))}, dilate {node.pair('dilate', (1, 1))}")
    if not node.flag("no_bias", default=False) or node.whole("num_group", 1) != 1:
        raise node.refuse("it has a bias or groups")
    return Convolution(node, node.whole("num_filter"), size, stride[0])


def activated_norm(graph: Graph, node: Node) -> Node:
    """Checks that a node is a ReLU over a normalisation, and gives the normalisation."""
    if node.expect("Activation").attributes.get("act_type") != "relu":
        raise node.refuse("its act_type is not relu")
    return graph.feed(node).expect("BatchNorm")
