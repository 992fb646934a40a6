"""What is wrong with a map that shows nothing: computed as a code a map, and said in words at the edges.

An empty picture looks the same whether a network saw nothing that speaks for a class, or is broken.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Int8

from camjax.choices import Sign
from camjax.core.result import CamResult
from camjax.methods.classes import LARGEST

FINE, NOT_POSITIVE, CONSTANT, NOT_A_NUMBER, NO_CLASS = range(5)

FLAT = 1e-5
"""A map that varies by no more than this part of its largest value varies by rounding: resizing rounds."""


@jax.jit
def conditions(result: CamResult) -> Int8[Array, "*batch k"]:
    """Which maps show something, and why the others do not.

    Args:
        result: of any explainer, its maps raw or normalised.

    Returns:
        For each map `FINE`, `NOT_POSITIVE` (nothing is above zero), `CONSTANT` (above zero, and the same everywhere),
        `NOT_A_NUMBER` (some of it), or `NO_CLASS` (not a number, because the class does not exist).
    """
    maps, classes = result.maps, result.classes
    low, high = maps.min((-2, -1)), maps.max((-2, -1))
    wrong = jnp.isnan(maps).any((-2, -1))  # XLA's minimum of numbers and NaN may be a number
    # Where a target makes scores of its own, their number is not that of the logits, and nothing more can be told.
    last = result.logits.shape[-1] - 1 if result.logits.ndim == classes.ndim else LARGEST
    missing = (classes < 0) | (classes > last)
    found = jnp.select(
        [wrong & missing, wrong, high <= 0, high - low <= FLAT * high],
        [jnp.full(high.shape, code, jnp.int8) for code in (NO_CLASS, NOT_A_NUMBER, NOT_POSITIVE, CONSTANT)],
        jnp.full(high.shape, FINE, jnp.int8),
    )
    return found


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
