"""Loops whose convolutions have the form that XLA's CPU backend computes fast there.

That form is `(b, *space, c)` for input and result and `(*space, inputs, outputs)` for the kernel. Outside of loops XLA
brings every other convolution into it; inside (its pass `ConvCanonicalization` looks at a program's outermost level
alone) it computes them place by place. And the way back through a convolution is another one, whose kernel has inputs
and outputs exchanged: so it is every loop over gradients that would be slow, and every loop over a network that has its
channels first, as Equinox has.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax import Array, lax
from jax.extend.core import JaxprEqn

from camjax.core.program import ENTERED, Constant, Program, Slot, Step, bind, value_of

Carry = TypeVar("Carry")
T = TypeVar("T")

OPENED = ENTERED - {"checkpoint", "remat", "remat2"}
"""`jax.checkpoint` has to stay where it is: written out, it would save no memory."""


def scan(step: Callable[[Carry, Any], tuple[Carry, Any]], init: Carry, xs: Any) -> tuple[Carry, Any]:  # noqa: ANN401
    """`lax.scan`, whose convolutions are in that form where JAX's default backend is the CPU.

    Those inside branches, custom derivatives, `jax.checkpoint` and loops within stay as they are.
    """
    body = canonical(step, init, _first(xs)) if jax.default_backend() == "cpu" else step
    found: tuple[Carry, Any] = lax.scan(body, init, xs)
    return found


def one_by_one(function: Callable[[Any], T], xs: Any) -> T:  # noqa: ANN401
    """`lax.map`, likewise."""
    body = canonical(function, _first(xs)) if jax.default_backend() == "cpu" else function
    found: T = lax.map(body, xs)
    return found


def _first(xs: Any) -> Any:  # noqa: ANN401
    return jax.tree.map(lambda array: array[0], xs)


def canonical(function: Callable[..., T], *like: Any) -> Callable[..., T]:  # noqa: ANN401
    """The same function, with its convolutions in that form.

    A kernel that does not depend on the arguments is turned at once, outside of the loop that calls the function.

    Args:
        function: of arrays in any pytrees.
        *like: arguments of the shapes and dtypes that it will have.
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*like)
    program = Program(closed, wanted=_is_other, entered=OPENED)
    kernels = _turned_kernels(program)

    def changed(*args: Any) -> T:  # noqa: ANN401
        def compute(step: Step, inputs: list[Any]) -> list[Any]:
            if not _is_other(step.equation):
                return bind(step.equation, inputs)
            x, kernel = inputs
            turned = kernels.get(step.outputs[0])
            return [_convolved(step.equation, x, _turned(step.equation, kernel) if turned is None else turned)]

        values = program.evaluate(jax.tree.leaves(args), compute)
        results: T = jax.tree.unflatten(jax.tree.structure(shape), program.results(values))
        return results

    return changed


def _turned_kernels(program: Program) -> dict[int, Array]:
    """The kernels that depend on no argument, in that form, by the slots of their convolutions' results."""
    makers: dict[int, int] = {}

    def is_fixed(slot: Slot) -> bool:
        return isinstance(slot, Constant) or slot in makers

    for number, step in enumerate(program.steps):
        if not step.equation.effects and all(map(is_fixed, step.inputs)):
            makers.update(dict.fromkeys(step.outputs, number))
    others = [step for step in program.steps if _is_other(step.equation) and is_fixed(step.inputs[1])]
    needed: set[int] = set()
    waiting = [step.inputs[1] for step in others]
    while waiting:
        slot = waiting.pop()
        if isinstance(slot, int) and makers[slot] not in needed:
            needed.add(makers[slot])
            waiting.extend(program.steps[makers[slot]].inputs)
    values = program.compute(sorted(needed), {}, {}, lambda _, array: array)
    return {step.outputs[0]: _turned(step.equation, value_of(step.inputs[1], values)) for step in others}


def _axes(equation: JaxprEqn) -> tuple[list[int], list[int], list[int]]:
    """Where input, kernel and result have the axes of the form, in its order."""
    (batch, channels, *space), (outputs, inputs, *window), (batches, features, *places) = equation.params[
        "dimension_numbers"
    ]
    return [batch, *space, channels], [*window, inputs, outputs], [batches, *places, features]


def _is_other(equation: JaxprEqn) -> bool:
    """Whether it is a convolution of another form."""
    return equation.primitive is lax.conv_general_dilated_p and any(axes != sorted(axes) for axes in _axes(equation))


def _turned(equation: JaxprEqn, kernel: Any) -> Array:  # noqa: ANN401
    return lax.transpose(kernel, _axes(equation)[1])


def _convolved(equation: JaxprEqn, x: Any, turned: Array) -> Array:  # noqa: ANN401
    """The convolution with a kernel of the form."""
    of_input, _, of_result = _axes(equation)
    last = x.ndim - 1
    form = lax.ConvDimensionNumbers(
        lhs_spec=(0, last, *range(1, last)),
        rhs_spec=(last, last - 1, *range(last - 1)),
        out_spec=(0, last, *range(1, last)),
    )
    same = equation.replace(params={**equation.params, "dimension_numbers": form})
    (y,) = bind(same, [lax.transpose(x, of_input), turned])
    return lax.transpose(y, [int(axis) for axis in np.argsort(of_result)])
