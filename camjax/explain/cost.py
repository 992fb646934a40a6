"""What a method costs, in passes through the network: counted from the program, which is not run."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, JaxprEqn

from camjax.core.program import inner_programs
from camjax.explain.explainer import Explainer


def passes(explainer: Explainer, size: tuple[int, int]) -> float:
    """The multiplications of explaining a picture, over those of one pass through the network.

    A method that asks the network again for each of 1,280 channels takes some 1,281; at the layer that a pooled linear
    head reads, one that needs only the head takes 1, whatever it does there.

    Args:
        explainer: of the method, at its layer and for its number of classes.
        size: (height, width) of the picture.

    Raises:
        MethodError: the method does not fit the network.
    """
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8)  # type: ignore[no-untyped-call]
    model = explainer.plan.fast.with_params(explainer.plan.fast.outline)
    inputs = jax.ShapeDtypeStruct((1, *size, 3), explainer.plan.dtype)  # type: ignore[no-untyped-call]
    once = multiplications(jax.make_jaxpr(model.forward)(model.params, inputs).jaxpr)
    return multiplications(jax.make_jaxpr(explainer)(images).jaxpr) / max(once, 1)


def multiplications(program: Jaxpr) -> int:
    """Those of a program's convolutions and matrix products; a loop of unknown length counts once."""
    total = 0
    for equation in program.eqns:
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += _own(equation) + times * sum(map(multiplications, inner_programs(equation)))
    return total


def _own(equation: JaxprEqn) -> int:
    """An operation's: for every number that it gives, as many as it sums."""
    if equation.primitive.name == "dot_general":
        left: Any = equation.invars[0].aval
        (contracted, _), _ = equation.params["dimension_numbers"]
        summed = math.prod(left.shape[axis] for axis in contracted)
    elif equation.primitive.name == "conv_general_dilated":
        kernel: Any = equation.invars[1].aval
        features = equation.params["dimension_numbers"].rhs_spec[0]
        summed = math.prod(kernel.shape) // kernel.shape[features]
    else:
        return 0
    result: Any = equation.outvars[0].aval
    return math.prod(result.shape) * summed
