"""From a checkpoint's flat dict of NumPy arrays to a network's parameters: renamed, changed, every key checked."""

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from camjax.core.model import Params
from camjax.errors import CheckpointError
from camjax.models.layout import Layout, Tensors

ALIGNED = 64
"""Bytes, as XLA asks of memory that it did not allocate."""

LISTED = 8
"""Keys named in an error before it says how many more there are."""


def convert(tensors: Tensors, layout: Layout, config: Any, outline: Params) -> Params:  # noqa: ANN401
    """Makes a network's parameters of a checkpoint in one of its family's layouts.

    Args:
        tensors: the checkpoint.
        layout: how its keys are named.
        config: of the network.
        outline: a nested dict whose leaves have the `shape` that each parameter must have.

    Returns:
        A nested dict like `outline`, of float32 JAX arrays.

    Raises:
        CheckpointError: keys are missing, extra or of another shape; all of them are found, the first few listed.
        ValueError: the layout's table is not of the network's parameters, which is the family's mistake.
    """
    table, shapes = layout.table(config), _shapes(outline)
    if odd := sorted(table.keys() ^ shapes.keys()):
        raise ValueError(f"the table and the parameters differ in {_listing(odd)}")
    used = {key for read in table.values() for key in read.keys}
    missing = [key for name in shapes for key in table[name].keys if key not in tensors]
    extra = [key for key in tensors if key not in used and not layout.ignores(key)]
    arrays, misshaped = {}, []
    for name, shape in shapes.items():
        keys = table[name].keys
        if all(key in tensors for key in keys):
            arrays[name], problem = _changed(name, table[name].change, [tensors[key] for key in keys], shape)
            misshaped += [f"{', '.join(keys)} {problem}"] if problem else []
    _raise_if_any(missing=list(dict.fromkeys(missing)), extra=extra, misshaped=misshaped)
    return _params(arrays)


def check_names(arrays: Tensors, names: Collection[str]) -> None:
    """Checks that arrays have exactly these names.

    Raises:
        CheckpointError: as for `convert`.
    """
    missing, extra = ([name for name in a if name not in b] for a, b in ((names, arrays), (arrays, names)))
    _raise_if_any(missing=missing, extra=extra)


def place(arrays: Tensors, outline: Params, names: Mapping[str, str] | None = None) -> Params:
    """The parameters from arrays that have our names and axis order, each used exactly once.

    Args:
        arrays: by dotted name.
        outline: as for `convert`.
        names: what errors are to call a parameter, where that is not its name.

    Raises:
        CheckpointError: as for `convert`.
    """
    names, shapes = names or {}, _shapes(outline)
    missing = [names.get(name, name) for name in shapes if name not in arrays]
    extra = [name for name in arrays if name not in shapes]
    misshaped = [
        f"{names.get(name, name)} gives {name} the shape {arrays[name].shape}, not {shape}"
        for name, shape in shapes.items()
        if name in arrays and arrays[name].shape != shape
    ]
    _raise_if_any(missing=missing, extra=extra, misshaped=misshaped)
    return _params({name: arrays[name] for name in shapes})


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


def _shapes(outline: Params) -> dict[str, tuple[int, ...]]:
    return {name: leaf.shape for name, leaf in flatten(outline)}


def _params(arrays: Tensors) -> Params:
    # Copies: on a CPU, JAX would share memory with the caller's arrays, or with the file behind them. NumPy makes them,
    # several at once; JAX would compile a program for each shape.
    with ThreadPoolExecutor() as pool:
        copies = list(pool.map(_copy, arrays.values()))
    return unflatten(dict(zip(arrays, jax.device_put(copies), strict=True)))


def _copy(array: np.ndarray) -> np.ndarray:
    """In float32, where a CPU's array can take it over as it is: at an address that is a multiple of `ALIGNED`."""
    room = np.empty(4 * array.size + ALIGNED, np.uint8)
    start = -room.ctypes.data % ALIGNED
    copy = room[start : start + 4 * array.size].view(np.float32).reshape(array.shape)
    with np.errstate(over="ignore"):
        copy[...] = array
    return copy


def _changed(
    name: str,
    change: Callable[..., np.ndarray],
    tensors: list[np.ndarray],
    shape: tuple[int, ...],
) -> tuple[np.ndarray, str]:
    """The parameter, and what is wrong with it."""
    try:
        array = change(*tensors)
    except (ValueError, IndexError):  # NumPy's for too few axes, and for what does not divide
        found = ", ".join(str(tensor.shape) for tensor in tensors)
        return tensors[0], f"has the shape {found}, of which no {name} {shape} can be made"
    return array, "" if array.shape == shape else f"gives {name} the shape {array.shape}, not {shape}"


def _raise_if_any(**problems: list[str]) -> None:
    texts = [f"{len(keys)} {kind}: {_listing(keys)}" for kind, keys in problems.items() if keys]
    if texts:
        raise CheckpointError(f"the checkpoint does not fit the network; {'; '.join(texts)}")


def _listing(keys: list[str]) -> str:
    more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return ", ".join(keys[:LISTED]) + more
