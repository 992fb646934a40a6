"""How many pictures go through a network at once, where a method asks it hundreds of times."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr

from camjax.core.inference import CACHE_BYTES
from camjax.core.model import Model
from camjax.core.program import inner_programs

SHARE = 8
"""The part of an accelerator's memory that one layer's arrays may take: one in so many."""

UNKNOWN = 2**34
"""Bytes of memory, where an accelerator does not say."""

MOST = 1024
"""Pictures: no device is faster with more."""


def pictures_at_once(model: Model, image_size: tuple[int, int], platform: str) -> int:
    """As many pictures as have room: on a CPU in its caches, on an accelerator in its memory; at least 1.

    Nothing is computed.

    Args:
        model: whose network it is.
        image_size: (height, width).
        platform: `"cpu"`, `"gpu"` or `"tpu"`.
    """
    image = jax.ShapeDtypeStruct((1, *image_size, 3), jnp.float32)  # type: ignore[no-untyped-call]
    largest = max(_sizes(jax.make_jaxpr(model.forward)(model.params, image).jaxpr), default=1)
    return max(1, min(MOST, _bytes(platform) // largest))


def _bytes(platform: str) -> int:
    if platform == "cpu":
        return 4 * CACHE_BYTES  # a convolution of few pictures does not fill the cores
    stats = jax.local_devices(backend=platform)[0].memory_stats() or {}
    return int(stats.get("bytes_limit", UNKNOWN)) // SHARE


def _sizes(jaxpr: Jaxpr) -> Iterator[int]:
    """The bytes that each operation's arrays take."""
    for equation in jaxpr.eqns:
        results: list[Any] = [variable.aval for variable in equation.outvars]
        yield sum(math.prod(array.shape) * array.dtype.itemsize for array in results if hasattr(array, "shape"))
        for inner in inner_programs(equation):
            yield from _sizes(inner)
