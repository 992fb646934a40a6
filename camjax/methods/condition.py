"""What is wrong with a map that shows nothing: computed as a code a map, and said in words at the edges.

An empty picture looks the same whether a network saw nothing that speaks for a class, or is broken.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Int8

from camjax.choices import Sign
from camjax.core.maps import is_flat
from camjax.core.result import CamResult
from camjax.methods.classes import LARGEST

FINE, NOT_POSITIVE, CONSTANT, NOT_A_NUMBER, NO_CLASS = range(5)


def conditions(result: CamResult) -> Int8[Array | np.ndarray, "*batch k"]:
    """Which maps show something, and why the others do not.

    Args:
        result: of any explainer, its maps raw or normalised; in NumPy's arrays it is answered by NumPy, whom the few
            pictures of a command cost less than a program would to compile.

    Returns:
        For each map `FINE`, `NOT_POSITIVE` (nothing is above zero), `CONSTANT` (above zero, and the same everywhere but
        for rounding; see `camjax.core.maps.is_flat`), `NOT_A_NUMBER` (a value is NaN or infinite), or `NO_CLASS` (NaN,
        because the class does not exist).
    """
    if not isinstance(result.maps, np.ndarray):
        return _compiled(result)
    with np.errstate(invalid="ignore"):  # infinities
        return _conditions(result, np)


@jax.jit
def _compiled(result: CamResult) -> Int8[Array, "*batch k"]:
    return _conditions(result, jnp)


def _conditions(result: CamResult, np: Any) -> Any:  # noqa: ANN401
    """The conditions, in NumPy's operations or in those that JAX has of it."""
    maps, classes = result.maps, result.classes
    low, high = maps.min((-2, -1)), maps.max((-2, -1))
    wrong = ~np.isfinite(maps).all((-2, -1))  # XLA's minimum of numbers and NaN may be a number
    # Where a target makes scores of its own, their number is not that of the logits, and nothing more can be told.
    last = result.logits.shape[-1] - 1 if result.logits.ndim == classes.ndim else LARGEST
    missing = (classes < 0) | (classes > last)
    return np.select(
        [wrong & missing, wrong, high <= 0, is_flat(low, high)],
        [np.full(high.shape, code, np.int8) for code in (NO_CLASS, NOT_A_NUMBER, NOT_POSITIVE, CONSTANT)],
        np.full(high.shape, FINE, np.int8),
    )


def in_words(code: int, sign: Sign = "both") -> str:
    """A condition as words; none where the map is fine.

    Args:
        code: from `conditions`.
        sign: the side of the map that was asked for.
    """
    words = {
        FINE: "",
        NOT_POSITIVE: "nowhere negative" if sign == "negative" else "nowhere positive",
        CONSTANT: "the same everywhere",
        NOT_A_NUMBER: "not a number",
        NO_CLASS: "not a number: class does not exist",
    }
    return words[code]
