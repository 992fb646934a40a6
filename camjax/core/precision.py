"""Which dtype a result is computed in, and how exactly."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import eval_context
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.typing import DTypeLike

from camjax.core.program import inner_programs

PRODUCTS = frozenset({"conv_general_dilated", "dot_general"})
"""JAX's names of convolutions and matrix products, which are what a network's dtype is about."""


def at_least_float32(dtype: DTypeLike) -> np.dtype:
    """float64 for float64, and float32 for everything else."""
    return np.dtype(np.float64 if jnp.dtype(dtype) == np.float64 else np.float32)


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """What a network is judged in: products at full precision, and values where something else is being traced.

    JAX knows a program again only if it was traced in the same setting. `jax.ensure_compile_time_eval` would also
    compute what a network makes of constants while it is traced: Linen's modules would draw weights for their shapes.
    """
    with eval_context(), jax.default_matmul_precision("highest"):
        yield


def coarsest(program: ClosedJaxpr) -> float:
    """Returns the resolution of the narrowest float that a program computes, inner programs included; 0 for none.

    It is that of bfloat16 at most: beside what is coarser, nothing could be told.
    """
    found, most = 0.0, float(jnp.finfo(jnp.bfloat16).eps)  # type: ignore[no-untyped-call]
    for jaxpr in _programs(program.jaxpr):
        for equation in jaxpr.eqns:
            for atom in equation.outvars:
                dtype: Any = getattr(atom.aval, "dtype", None)
                if dtype is not None and jnp.issubdtype(dtype, jnp.floating):
                    found = max(found, float(jnp.finfo(dtype).eps))  # type: ignore[no-untyped-call]
    return min(found, most)


def _programs(jaxpr: Jaxpr) -> Iterator[Jaxpr]:
    yield jaxpr
    for equation in jaxpr.eqns:
        for inner in inner_programs(equation):
            yield from _programs(inner)


def product_dtype(program: ClosedJaxpr, results: int) -> np.dtype | None:
    """The widest float that goes into a convolution or matrix product; None where there is none of these.

    Args:
        program: any. What it makes of constants alone, such as a table of positions, does not count.
        results: how many of its results count, the first ones; what they do not need does not.
    """
    needed, live = {id(atom) for atom in program.jaxpr.outvars[:results]}, []
    for equation in reversed(program.jaxpr.eqns):
        if any(id(atom) in needed for atom in equation.outvars):
            needed.update(map(id, equation.invars))
            live.append(equation)
    dtypes = {
        np.dtype(atom.aval.dtype)  # type: ignore[attr-defined]
        for equation in _products(program.jaxpr.invars, live[::-1])
        for atom in equation.invars
        if jnp.issubdtype(atom.aval.dtype, jnp.floating)  # type: ignore[attr-defined]
    }
    return max(dtypes, key=lambda dtype: dtype.itemsize, default=None)


def _products(inputs: Iterable[Any], equations: Iterable[JaxprEqn]) -> Iterator[JaxprEqn]:
    """Those that depend on the inputs; of an inner program, on any of its own."""
    varying = set(map(id, inputs))
    for equation in equations:
        if varying.isdisjoint(map(id, equation.invars)):
            continue
        varying.update(map(id, equation.outvars))
        if equation.primitive.name in PRODUCTS:
            yield equation
        for inner in inner_programs(equation):
            yield from _products(inner.invars, inner.eqns)
