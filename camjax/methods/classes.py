"""Which classes are explained: the top ones, or those asked for, where one that does not exist gives NaN."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

LARGEST = np.iinfo(np.int32).max


def as_classes(classes: Array | np.ndarray | Sequence[Any]) -> Int[Array, "*some k"]:
    """Classes as an int32 array; a number that int32 does not hold stays one that no class has.

    Raises:
        ValueError: they are not integers.
    """
    if not isinstance(classes, Array):
        classes = _held(classes)
    if classes.ndim == 0 or not jnp.issubdtype(classes.dtype, jnp.integer):
        raise ValueError(f"classes must be integers (k,) or (..., k), not {classes.dtype} {classes.shape}")
    if np.iinfo(classes.dtype).max > LARGEST:  # before JAX would take them modulo 2**32
        low = -1 if jnp.issubdtype(classes.dtype, jnp.signedinteger) else 0  # an unsigned kind does not hold -1
        classes = classes.clip(low, LARGEST)
    small = classes.astype(np.int32)  # by NumPy: JAX would compile a program to change the type
    return jax.device_put(small) if isinstance(small, np.ndarray) else small


def _held(classes: np.ndarray | Sequence[Any]) -> np.ndarray:
    """The classes as an array; Python's numbers may be larger than NumPy's, or of two signs that none holds."""
    numbers = np.asarray(classes, object)
    whole = (isinstance(number, int | np.integer) and not isinstance(number, bool) for number in numbers.flat)
    if numbers.ndim and numbers.size and all(whole):
        return np.clip(numbers, -1, LARGEST).astype(np.int64)
    return np.asarray(classes)


def top_classes(scores: Float[Array, " n"], top_k: int) -> Int[Array, " k"]:
    """The classes of the highest scores, by falling score; the lower number first where two are equal."""
    # A sort, since XLA gathers a sharded batch onto every device for lax.top_k.
    return jnp.argsort(scores, descending=True, stable=True)[:top_k].astype(jnp.int32)


def at_classes(values: Float[Array, "*rest n"], classes: Int[Array, " k"]) -> Float[Array, "*rest k"]:
    """The last axis at those classes; NaN for a class that does not exist."""
    count = values.shape[-1]
    known = jnp.where(classes < 0, count, classes)  # a negative index would count from the end
    return values.at[..., known].get(mode="fill", fill_value=jnp.nan)
