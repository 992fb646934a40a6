"""A network whose ReLUs are differentiated by another rule than their own."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from camjax.core.program import ENTERED, Program, Step, bind, inner_programs
from camjax.errors import LayerError

COPYING = frozenset({"pvary", "pcast", "convert_element_type", "broadcast_in_dim"})
"""Operations that leave a zero one."""


def guided(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, through whose ReLUs only what is positive goes back (Springenberg et al. 2015).

    A ReLU is `jax.nn.relu`, `jax.nn.relu6`, or a maximum with zero.

    Args:
        function: as for `camjax.tap`.

    Raises:
        LayerError: from the call. It has no ReLU, or one inside a loop, a branch or a custom derivative.
    """

    def changed(*args: Any) -> Any:  # noqa: ANN401
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        found = dict(_relus(closed.jaxpr))
        if not found:
            raise LayerError("there is no ReLU here, by which guided backpropagation is defined")
        for hidden in filter(None, found.values()):
            raise LayerError(f"a ReLU stands inside {hidden!r}, where its derivative cannot be changed")
        program = Program(closed, wanted=lambda equation: id(equation) in found)

        def compute(step: Step, inputs: list[Any]) -> list[Any]:
            is_relu = id(step.equation) in found
            return [_gated(step.equation)(*inputs)] if is_relu else bind(step.equation, inputs)

        values = program.evaluate(jax.tree.leaves(args), compute)
        return jax.tree.unflatten(jax.tree.structure(shape), program.results(values))

    return changed


def _relus(jaxpr: Jaxpr, inside: str | None = None) -> Iterator[tuple[int, str | None]]:
    """The identity of each ReLU, and the operation that hides it, or None."""
    zeros: set[int] = set()
    for equation in jaxpr.eqns:
        kind = equation.primitive.name
        zero = [_is_zero(atom, zeros) for atom in equation.invars]
        if kind in COPYING and all(zero):
            zeros.update(map(id, equation.outvars))
        elif (kind == "max" and any(zero)) or (kind == "custom_jvp_call" and _is_rectifier(equation)):
            yield id(equation), inside
        else:
            for inner in inner_programs(equation):
                yield from _relus(inner, inside if kind in ENTERED else inside or kind)


def _is_zero(atom: Any, zeros: set[int]) -> bool:  # noqa: ANN401
    return bool(np.ndim(atom.val) == 0 and atom.val == 0) if isinstance(atom, Literal) else id(atom) in zeros


def _is_rectifier(equation: JaxprEqn) -> bool:
    """Whether it is a maximum with zero, and for relu6 a minimum, around which JAX has a rule for the derivative."""
    inner = list(inner_programs(equation))
    kinds = {kind for program in inner for kind in _kinds(program)}
    return kinds <= {"max", "min", *COPYING} and any(True for program in inner for _ in _relus(program))


def _kinds(jaxpr: Jaxpr) -> Iterator[str]:
    """The operations that hold no others."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ENTERED:
            for inner in inner_programs(equation):
                yield from _kinds(inner)
        else:
            yield equation.primitive.name


def _gated(equation: JaxprEqn) -> Callable[..., Array]:
    """The operation, through which only what is positive goes back."""

    def plain(*inputs: Any) -> Array:  # noqa: ANN401
        result: Array = bind(equation, list(inputs))[0]
        return result

    gated: Any = jax.custom_vjp(plain)
    gated.defvjp(lambda *inputs: jax.vjp(plain, *inputs), lambda back, gradient: back(jax.nn.relu(gradient)))
    return gated
