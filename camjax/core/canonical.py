"""Convolutions in the form that XLA's CPU backend computes fast inside loops.

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

from camjax.core.program import Program, Step, bind

T = TypeVar("T")


def canonical(function: Callable[..., T]) -> Callable[..., T]:
    """The same function, with its convolutions in that form: for the body of a `lax.scan` or `lax.map`.

    What has to be transposed for it is mostly kernels, which XLA does once, before the loop.

    Args:
        function: of arrays in any pytrees.
    """

    def changed(*args: Any) -> T:  # noqa: ANN401
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        program = Program(closed, wanted=_is_other)

        def compute(step: Step, inputs: list[Any]) -> list[Any]:
            return [_convolved(step.equation, *inputs)] if _is_other(step.equation) else bind(step.equation, inputs)

        values = program.evaluate(jax.tree.leaves(args), compute)
        results: T = jax.tree.unflatten(jax.tree.structure(shape), program.results(values))
        return results

    return changed


def _axes(dimensions: lax.ConvDimensionNumbers) -> tuple[list[int], list[int], list[int]]:
    """Where input, kernel and result have the axes of the form, in its order."""
    (batch, channels, *space), (outputs, inputs, *window), (batches, features, *places) = dimensions
    return [batch, *space, channels], [*window, inputs, outputs], [batches, *places, features]


def _is_other(equation: JaxprEqn) -> bool:
    """Whether it is a convolution of another form."""
    if equation.primitive is not lax.conv_general_dilated_p:
        return False
    return any(axes != sorted(axes) for axes in _axes(equation.params["dimension_numbers"]))


def _convolved(equation: JaxprEqn, x: Array, kernel: Array) -> Array:
    of_input, of_kernel, of_result = _axes(equation.params["dimension_numbers"])
    last = x.ndim - 1
    same = lax.ConvDimensionNumbers(
        lhs_spec=(0, last, *range(1, last)),
        rhs_spec=(last, last - 1, *range(last - 1)),
        out_spec=(0, last, *range(1, last)),
    )
    form = equation.replace(params={**equation.params, "dimension_numbers": same})
    (y,) = bind(form, [lax.transpose(x, of_input), lax.transpose(kernel, of_kernel)])
    return lax.transpose(y, [int(axis) for axis in np.argsort(of_result)])
