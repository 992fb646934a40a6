"""Random parameters, with which a network is tried before it is relied on.

A network is tried with random parameters where its own could hide what it does: a head that begins with zeros, or
`jax.ShapeDtypeStruct`s in the place of parameters. Draws are NumPy's and lie on one device, whatever devices and meshes
the network's own parameters lie on.
"""

import itertools
import math
from collections.abc import Collection
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from camjax.core.model import Params


def drawn_params(
    params: Params, read: Collection[int], rng: np.random.Generator, kind: Literal["positive", "signed"]
) -> Params:
    """Draws parameters under which activations neither vanish nor grow without bound, as far as shapes tell.

    Weights are divided by the number of inputs that are summed with them. What is not floating is the model's own where
    it has a value, else zero.

    Args:
        params: Parameters, or shapes and dtypes of them.
        read: Numbers of the leaves that are drawn; the others become NaN and take no memory.
        rng: Source of the draws.
        kind: `"positive"` for draws around 1, under which no ReLU is dead and variances have roots; `"signed"` for
            normal weights and small positive vectors, under which nothing saturates.
    """

    def draw(number: int, leaf: Any) -> Any:  # noqa: ANN401
        dtype, shape = jnp.result_type(leaf), jnp.shape(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            return own_value(leaf)
        if number not in read:
            return _typed(np.broadcast_to(np.asarray(np.nan, dtype), shape), leaf)
        # Outputs come first in some layouts and last in others; everything else is summed over.
        inputs = max(1, math.prod(shape) // max(shape[0], shape[-1], 1)) if len(shape) > 1 else 1
        if kind == "positive":
            values = rng.uniform(0.5, 1.5, shape) / inputs
        elif len(shape) > 1:
            values = rng.normal(size=shape) / math.sqrt(inputs)
        else:
            values = rng.uniform(0.05, 0.15, shape)
        return _typed(np.asarray(values, dtype), leaf)

    leaves, structure = jax.tree.flatten(params)
    return jax.tree.unflatten(structure, map(draw, itertools.count(), leaves))


def own_value(leaf: Any) -> Any:  # noqa: ANN401
    """Returns a parameter's value where no device or mesh but the usual one matters, or zeros where it has none here.

    A key for random numbers stays as it is.
    """
    dtype = jnp.result_type(leaf)
    alone = isinstance(leaf, Array) and not isinstance(leaf, Tracer) and len(leaf.devices()) == 1
    if jnp.issubdtype(dtype, jax.dtypes.extended) or (alone and _is_weak(leaf)):
        return leaf
    return _typed(np.asarray(leaf, dtype) if _has_value(leaf) else np.zeros(jnp.shape(leaf), dtype), leaf)


def types_of(params: Params) -> Params:
    """Returns the parameters' shapes and types, without devices and meshes."""

    def outline(leaf: Any) -> jax.ShapeDtypeStruct:  # noqa: ANN401
        shape, dtype = jnp.shape(leaf), jnp.result_type(leaf)
        return jax.ShapeDtypeStruct(shape, dtype, weak_type=_is_weak(leaf))  # type: ignore[no-untyped-call]

    return jax.tree.map(outline, params)


def has_values(params: Params) -> bool:
    """Returns whether this process can read the values of all parameters."""
    return all(map(_has_value, jax.tree.leaves(params)))


def _has_value(leaf: Any) -> bool:  # noqa: ANN401
    """Returns whether this process can read a parameter's value."""
    if isinstance(leaf, Tracer | jax.ShapeDtypeStruct):
        return False
    return not isinstance(leaf, Array) or leaf.is_fully_addressable


def _is_weak(leaf: Any) -> bool:  # noqa: ANN401
    """Returns whether a parameter takes the dtype of what it meets, as a number of Python's does."""
    aval: Any = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)
    return bool(aval.weak_type)


def _typed(values: np.ndarray, leaf: Any) -> Any:  # noqa: ANN401
    """Returns values that meet others as a parameter does; of a weak array's values, the first stands for all."""
    if not _is_weak(leaf):
        return values
    first = values.flat[0].item() if values.size else 0.0
    return jnp.full(values.shape, first) if values.ndim else first
