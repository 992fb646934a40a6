"""How a checkpoint's tensors become a network's parameters: which keys, changed how.

A layout is one naming of a family's checkpoints. Its table says for every parameter of ours from which keys it is made
and by which function, so a fused or split matrix, or one whose order depends on the config, is a line like any other.
The functions here write the usual lines, those of `camjax.models.layers`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

Tensors = Mapping[str, np.ndarray]
"""A checkpoint's arrays by its own names."""


class Read(NamedTuple):
    """Where one parameter comes from.

    Attributes:
        keys: the checkpoint's names of the tensors it is made of; several parameters may share one.
        change: makes the parameter of them, as NumPy arrays. A shape that it cannot take is a `ValueError`.
    """

    keys: tuple[str, ...]
    change: Callable[..., np.ndarray] = np.asarray


Table = dict[str, Read]
"""By the parameter's dotted name here; every parameter of the network is in it."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """One naming of a family's checkpoints.

    Attributes:
        table: from a config to the table.
        head: the key of the head's kernel, with one row a class, which is in every table.
        more: `more(tensors, config)` is the config with what else the naming, or the checkpoint's shapes, tell. The
            tensors may be another network's, or lack some.
        holds: whether checkpoints of that config are ever named so.
        suits: whether the checkpoint's shapes may be of that config, where a look at one tells siblings with the same
            keys apart; all shapes are checked later.
        unused: parts of keys that only training reads: a buffer's name, or that of a head with all that is in it.
    """

    table: Callable[[Any], Table]
    head: str
    more: Callable[[Tensors, Any], Any] = lambda _, config: config
    holds: Callable[[Any], bool] = lambda _: True
    suits: Callable[[Tensors, Any], bool] = lambda _, __: True
    unused: frozenset[str] = frozenset({"num_batches_tracked"})

    def config(self, tensors: Tensors, config: Any) -> Any:  # noqa: ANN401
        """The config with what the checkpoint's shapes tell, such as the number of classes."""
        kernel = tensors.get(self.head)
        if kernel is not None and kernel.ndim and len(kernel):
            config = dataclasses.replace(config, num_classes=len(kernel))
        return self.more(tensors, config)

    def ignores(self, key: str) -> bool:
        """Whether a checkpoint may have that key though no parameter is made of it."""
        return not self.unused.isdisjoint(key.split("."))


def hwio(tensor: np.ndarray) -> np.ndarray:
    """A convolution's kernel from PyTorch's OIHW; right for depthwise ones too, (C, 1, k, k) to (k, k, 1, C)."""
    return tensor.transpose(2, 3, 1, 0)


def columns(tensor: np.ndarray) -> np.ndarray:
    """A matrix with one column an output from PyTorch's with one row an output, which may be a 1x1 convolution's."""
    if tensor.ndim == 4 and tensor.shape[2:] == (1, 1):
        tensor = tensor[:, :, 0, 0]
    return tensor.transpose(1, 0)


def conv(ours: str, theirs: str, *, bias: bool = False) -> Table:
    """The line of a convolution, and that of its bias where it has one."""
    offset = {f"{ours}.bias": Read((f"{theirs}.bias",))} if bias else {}
    return {f"{ours}.kernel": Read((f"{theirs}.weight",), hwio)} | offset


def linear(ours: str, theirs: str, *, bias: bool = True) -> Table:
    """The line of a linear layer, and that of its bias where it has one."""
    offset = {f"{ours}.bias": Read((f"{theirs}.bias",))} if bias else {}
    return {f"{ours}.kernel": Read((f"{theirs}.weight",), columns)} | offset


def norm(ours: str, theirs: str) -> Table:
    """The lines of a normalisation over channels that computes its own statistics (layer and group normalisation)."""
    return {f"{ours}.scale": Read((f"{theirs}.weight",)), f"{ours}.bias": Read((f"{theirs}.bias",))}


def batch_norm(ours: str, theirs: str) -> Table:
    """The lines of a batch normalisation."""
    statistics = {"mean": "running_mean", "var": "running_var"}
    return norm(ours, theirs) | {f"{ours}.{leaf}": Read((f"{theirs}.{key}",)) for leaf, key in statistics.items()}
