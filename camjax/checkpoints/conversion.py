"""From a checkpoint's flat dict of NumPy arrays to a network's parameters: renamed, transposed, every key checked."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from camjax.core.model import Params
from camjax.errors import CheckpointError

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
"""A layer's parameters here, and in PyTorch."""

UNUSED_LEAVES = frozenset({"num_batches_tracked"})
"""Tensors of a batch normalisation that only training reads."""

LISTED = 8
"""Keys named in an error before it says how many more there are."""


def convert(tensors: Mapping[str, np.ndarray], table: Mapping[str, str], outline: Params) -> Params:
    """Renames, transposes and checks a PyTorch state dict.

    Convolutions go from OIHW to HWIO, which is right for depthwise ones too ((C, 1, k, k) to (k, k, 1, C)); linear
    layers, also those written as 1x1 convolutions, from (n, c) to (c, n).

    Args:
        tensors: the checkpoint.
        table: its module names, and the names of the same modules in `outline`.
        outline: a nested dict whose leaves have the `shape` that each parameter must have.

    Returns:
        A nested dict like `outline`, of float32 JAX arrays.

    Raises:
        CheckpointError: keys are missing, extra or of another shape; all of them are found, the first few listed.
    """
    modules = {ours: theirs for theirs, ours in table.items()}
    names = {name: _their_name(name, modules) for name, _ in flatten(outline)}
    ours = {theirs: name for name, theirs in names.items()}
    unused = {f"{module}.{leaf}" for module in table for leaf in UNUSED_LEAVES}
    arrays = {ours.get(key, key): transpose(tensor) for key, tensor in tensors.items() if key not in unused}
    for name, leaf in flatten(outline):
        if len(leaf.shape) == 2 and name in arrays and arrays[name].shape[:-2] == (1, 1):
            arrays[name] = arrays[name][0, 0]
    return place(arrays, outline, names)


def place(arrays: Mapping[str, np.ndarray], outline: Params, names: Mapping[str, str] | None = None) -> Params:
    """The parameters from arrays that have our names and axis order, each used exactly once.

    Args:
        arrays: by dotted name.
        outline: as for `convert`.
        names: what errors are to call a parameter, where that is not its name.

    Raises:
        CheckpointError: as for `convert`.
    """
    names = names or {}
    shapes = {name: leaf.shape for name, leaf in flatten(outline)}
    missing = [names.get(name, name) for name in shapes if name not in arrays]
    extra = [name for name in arrays if name not in shapes]
    misshaped = [
        f"{names.get(name, name)} gives {name} the shape {arrays[name].shape}, not {shape}"
        for name, shape in shapes.items()
        if name in arrays and arrays[name].shape != shape
    ]
    _raise_if_any(missing=missing, extra=extra, misshaped=misshaped)
    return unflatten({name: jnp.asarray(arrays[name], jnp.float32) for name in shapes})


def transpose(tensor: np.ndarray) -> np.ndarray:
    """PyTorch's axis order to ours: OIHW to HWIO, (n, c) to (c, n), others as they are."""
    if tensor.ndim == 4:
        return tensor.transpose(2, 3, 1, 0)
    return tensor.T if tensor.ndim == 2 else tensor


def flatten(tree: Params, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a nested dict with their dotted names."""
    for name, leaf in tree.items():
        if isinstance(leaf, dict):
            yield from flatten(leaf, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", leaf


def unflatten(leaves: Mapping[str, ArrayLike]) -> Params:
    """The nested dict of leaves with dotted names."""
    tree: Params = {}
    for name, leaf in leaves.items():
        *path, last = name.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = leaf
    return tree


def _their_name(name: str, modules: Mapping[str, str]) -> str:
    """What the checkpoint calls a parameter of ours."""
    module, _, leaf = name.rpartition(".")
    return f"{modules[module]}.{LEAVES[leaf]}"


def _raise_if_any(**problems: list[str]) -> None:
    texts = [f"{len(keys)} {kind}: {_listing(keys)}" for kind, keys in problems.items() if keys]
    if texts:
        raise CheckpointError(f"the checkpoint does not fit the network; {'; '.join(texts)}")


def _listing(keys: list[str]) -> str:
    more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return ", ".join(keys[:LISTED]) + more
