"""The parameters of the network that is computed, made of the model's as far as a program reads them."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from camjax.core.model import Params
from camjax.core.program import Program
from camjax.explain.plan import Plan, ready_params


def ready_leaves(plan: Plan, params: Params, wanted: Sequence[int]) -> dict[int, Array]:
    """Some of the faster network's leaves, by their numbers; one that is a parameter as it stands is that very array.

    A compiled program would give a copy of it.

    Args:
        plan: whose faster network it is.
        params: the model's.
        wanted: the numbers of leaves of `plan.fast.outline`.

    Returns:
        Those leaves by number, each of the shape and dtype that the outline says.
    """
    program = _preparation.trace(plan, params).jaxpr
    given = jax.tree.leaves(params)
    # Newer versions of JAX leave `made_ready` as a call, inline=True or not: inner programs are written out.
    sources = Program(program, wanted=lambda _: True).arguments_given_back()
    kept = {number: sources[number] for number in wanted if sources[number] >= 0}
    made = tuple(number for number in wanted if number not in kept)
    leaves = {number: _on_device(given[place]) for number, place in kept.items()}
    return leaves | dict(zip(made, _results(program, made, given) if made else [], strict=True))


def _on_device(leaf: Any) -> Array:  # noqa: ANN401
    """A parameter as a JAX array, for which nothing is compiled; of NumPy's a copy, which does not change with it."""
    return jax.device_put(np.array(leaf) if isinstance(leaf, np.ndarray) else leaf)


@functools.partial(jax.jit, static_argnums=0)
def _preparation(plan: Plan, params: Params) -> list[Array]:
    return jax.tree.leaves(ready_params(plan, params))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _results(program: ClosedJaxpr, wanted: tuple[int, ...], arguments: list[Array]) -> list[Array]:
    """Those of a program's results; it is compiled without what makes the others."""
    results = jaxpr_as_fun(program)(*arguments)
    return [results[number] for number in wanted]
