"""What an option may be: each is checked when it is given, not by the program that it is for."""

import operator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike


def whole_number(value: Any) -> int:  # noqa: ANN401
    """A whole number of any kind as a Python int.

    Raises:
        TypeError: it is none; neither is a bool.
    """
    if isinstance(value, bool):
        raise TypeError("a bool is no number")
    return operator.index(value)


USUAL_TOP_K = 5
"""Number of classes that are explained where nobody gives one, or all of them where a network has fewer."""


def checked_top_k(top_k: int | None, most: int | None, whose: str) -> int:
    """Returns the number of classes to explain, as a Python int.

    Args:
        top_k: Number of classes as its user gave it; None is `USUAL_TOP_K`, or `most` where that is less.
        most: Number of classes that there are; None where nothing says.
        whose: Name of what has the classes, for the error.

    Raises:
        ValueError: it is no whole number, less than one, or more than there are.
    """
    if top_k is None:
        return USUAL_TOP_K if most is None else min(USUAL_TOP_K, most)
    try:
        count = whole_number(top_k)
    except TypeError:
        count = 0
    if most is not None and not 1 <= count <= most:
        raise ValueError(f"top_k must be in 1..{most}, the classes of {whose}, not {top_k!r}")
    if count < 1:
        raise ValueError(f"top_k must be a positive whole number, not {top_k!r}")
    return count


DTYPES = (np.dtype(np.float32), jnp.dtype(jnp.bfloat16))
"""The dtypes in which a network can be computed."""


def checked_dtype(dtype: DTypeLike) -> np.dtype:
    """What a network computes in.

    Raises:
        ValueError: it is neither float32 nor bfloat16.
    """
    try:
        found = None if dtype is None else jnp.dtype(dtype)  # NumPy takes None for float64
    except TypeError:
        found = None
    if found is None or found not in DTYPES:
        raise ValueError(f"dtype must be float32 or bfloat16, not {found or repr(dtype)}")
    return found


def checked_flag(name: str, value: bool) -> bool:
    """True or False.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, not {value!r}")
    return bool(value)
