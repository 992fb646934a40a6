"""The constants that a function adds on its way from its input to its output: a network's biases, wherever they are."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import JaxprEqn

from camjax.core.program import Program, Slot, Step, bind, value_of

ADDING = frozenset({"add", "add_any", "sub"})


class Biased(NamedTuple):
    """A function with its biases in the open.

    Attributes:
        biases: what each addition adds, in order, as large as what it is added to.
        run: `run(x, changes)`: what the function gives where a change is added after each of these additions.
    """

    biases: list[Array]
    run: Callable[[Array, Sequence[Array]], Any]


def biased(function: Callable[[Array], Any], x: Array) -> Biased:
    """The function at an input, with the constants that it adds.

    A constant is what does not depend on the input. Where everything else is linear or a ReLU, the function is its
    gradient times the input plus, over all biases, theirs times them.

    Args:
        function: of one array.
        x: the input.
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)(x)
    program = Program(closed, wanted=_adds)
    values = program.evaluate([x])
    constant = _constant_operands(program)

    def run(x: Array, changes: Sequence[Array]) -> Any:  # noqa: ANN401
        given = {program.output(number): change for number, change in zip(constant, changes, strict=True)}

        def compute(step: Step, inputs: list[Any]) -> list[Any]:
            results = bind(step.equation, inputs)
            return [results[0] + given[step.outputs[0]]] if step.outputs and step.outputs[0] in given else results

        changed = program.evaluate([x], compute)
        return jax.tree.unflatten(jax.tree.structure(shape), program.results(changed))

    biases = []
    for number, operand in constant.items():
        step = program.steps[number]
        bias = value_of(step.inputs[operand], values)
        like = values[step.outputs[0]]
        negative = step.equation.primitive.name == "sub" and operand == 1
        biases.append(jnp.broadcast_to(-bias if negative else bias, like.shape).astype(like.dtype))
    return Biased(biases, run)


def _adds(equation: JaxprEqn) -> bool:
    return equation.primitive.name in ADDING


def _constant_operands(program: Program) -> dict[int, int]:
    """Each operation that adds a constant to what depends on the input, and which of its operands that is."""
    reached: set[Slot] = {0}
    found = {}
    for number, step in enumerate(program.steps):
        depends = [isinstance(slot, int) and slot in reached for slot in step.inputs]
        if any(depends):
            reached.update(step.outputs)
            if _adds(step.equation) and not all(depends):
                found[number] = depends.index(False)
    return found
