"""From a checkpoint's flat dict of NumPy arrays to a network's parameters: renamed, transposed, every key checked."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from camjax.classifier import Params
from camjax.errors import CheckpointError

NORM_LEAVES = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
"""A batch normalisation's tensors in PyTorch, and ours."""

WEIGHT_LEAVES = {"weight": "kernel", "bias": "bias"}
"""A convolution's or linear layer's tensors in PyTorch, and ours."""

UNUSED_LEAVES = frozenset({"num_batches_tracked"})
"""Tensors of a batch normalisation that only training reads."""

LISTED = 8
"""Keys named in an error before it says how many more there are."""


def convert(tensors: Mapping[str, np.ndarray], table: Mapping[str, str], outline: Params) -> Params:
    """Renames, transposes and checks a PyTorch state dict.

    Convolutions go from OIHW to HWIO, which is right for depthwise ones too ((C, 1, k, k) to (k, k, 1, C)); linear
    layers from (n, c) to (c, n).

    Args:
        tensors: the checkpoint.
        table: its module names, and the names of the same modules in `outline`.
        outline: a nested dict whose leaves have the `shape` that each parameter must have.

    Returns:
        A nested dict like `outline`, of float32 JAX arrays.

    Raises:
        CheckpointError: keys are missing, extra or of another shape; all of them are found, the first few listed.
    """
    shapes = {name: leaf.shape for name, leaf in flatten(outline)}
    found: dict[str, np.ndarray] = {}
    extra, misshaped = [], []
    for key, tensor in tensors.items():
        module, _, leaf = key.rpartition(".")
        if leaf in UNUSED_LEAVES and module in table:
            continue
        name = _our_name(table.get(module), leaf, shapes)
        if name is None:
            extra.append(key)
            continue
        array = transpose(tensor)
        if array.shape != shapes[name]:
            misshaped.append(f"{key} {tensor.shape}, where the network holds {shapes[name]} as {name}")
        found[name] = array
    missing = [name for name in shapes if name not in found]
    _raise_if_any(missing=[_their_name(name, table) for name in missing], extra=extra, misshaped=misshaped)
    return unflatten({name: jnp.asarray(found[name], jnp.float32) for name in shapes})


def transpose(tensor: np.ndarray) -> np.ndarray:
    """PyTorch's axis order to ours: OIHW to HWIO, (n, c) to (c, n), others as they are."""
    if tensor.ndim == 4:
        return tensor.transpose(2, 3, 1, 0)
    return tensor.T if tensor.ndim == 2 else tensor


def matched_keys(tensors: Mapping[str, np.ndarray], table: Mapping[str, str]) -> int:
    """How many of a checkpoint's keys belong to a module of the table."""
    return sum(key.rpartition(".")[0] in table for key in tensors)


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


def _our_name(module: str | None, leaf: str, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """The parameter that a checkpoint's tensor is, or None."""
    if module is None:
        return None
    leaves = NORM_LEAVES if f"{module}.scale" in shapes else WEIGHT_LEAVES
    name = f"{module}.{leaves.get(leaf)}"
    return name if name in shapes else None


def _their_name(name: str, table: Mapping[str, str]) -> str:
    """What a parameter is called in the checkpoint."""
    module, _, leaf = name.rpartition(".")
    modules = {ours: theirs for theirs, ours in table.items()}
    leaves = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    return f"{modules[module]}.{leaves.get(leaf, leaf)}"


def _raise_if_any(**problems: list[str]) -> None:
    texts = [f"{len(keys)} {kind}: {_listing(keys)}" for kind, keys in problems.items() if keys]
    if texts:
        raise CheckpointError(f"the checkpoint does not fit the network; {'; '.join(texts)}")


def _listing(keys: list[str]) -> str:
    more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return ", ".join(keys[:LISTED]) + more
