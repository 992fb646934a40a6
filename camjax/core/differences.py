"""A function's change between two inputs as a linear function of the inputs' change: DeepLIFT's rescale rule.

Shrikumar et al. 2017 ("Learning Important Features Through Propagating Activation Differences"). Where a derivative
says what a function does nearby, this says what it does all the way from a reference to an input, and nothing is left
over. It is done operation by operation, on the function's program:

- what is linear in each of its inputs (sums, products, convolutions) has its derivative half way, which is exact;
- a function of one number (a ReLU, a tanh) has the slope of the line through both its values;
- a maximum of several has the slope of the line for the one that is largest, there where the maximum is larger.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from camjax.core.program import ENTERED, NAME, bind
from camjax.errors import LayerError

HALF_WAY = {
    NAME,
    "add", "add_any", "broadcast_in_dim", "concatenate", "conv_general_dilated", "convert_element_type", "copy",
    "cumsum", "dot_general", "dynamic_slice", "expand_dims", "gather", "mul", "neg", "optimization_barrier", "pad",
    "pcast", "pvary", "reduce_precision", "reduce_sum", "reduce_window_sum", "reshape", "rev", "select_n",
    "sharding_constraint", "slice", "split", "square", "squeeze", "sub", "transpose",
    "unstack",
}  # fmt: skip
"""Linear in each of their inputs, or a square: their derivative half way between two inputs is exact."""

SMOOTH = {
    "cbrt", "cos", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "integer_pow", "log", "log1p", "logistic",
    "pow", "rsqrt", "sin", "sqrt", "tan", "tanh",
}  # fmt: skip
KINKED = {"abs", "clamp", "max", "min", "stop_gradient"}
"""Functions of one number."""

CHOOSING = {"max": True, "reduce_max": True, "reduce_window_max": True, "min": False, "reduce_min": False}
"""The largest, or the smallest, of several numbers."""

WRAPPED = ENTERED | {"custom_jvp_call", "custom_vjp_call"}

CLOSE = 1e-3
"""Two inputs of a smooth function that differ by no more than this part of them have the derivative between them: the
difference of what it gives is mostly rounding."""


class Pair(NamedTuple):
    """A value that depends on the input.

    Attributes:
        at: where the input is the input.
        base: where it is the reference.
        change: from one to the other, as a linear function of the input's; None for what is no float.
    """

    at: Any
    base: Any
    change: Any


def change_along(function: Callable[[Array], Array], x: Array, reference: Array) -> Callable[[Array], Array]:
    """The function's change as a linear function of the input's.

    Args:
        function: as for `camjax.tap`, of one array to one array.
        x: the input.
        reference: another, like it.

    Returns:
        `change(d)`, linear, with `change(x - reference) == function(x) - function(reference)` but for rounding. Its
        transpose (`jax.vjp`) has what DeepLIFT calls multipliers.

    Raises:
        LayerError: there is no rule for an operation of the function, which is named.
    """
    closed = jax.make_jaxpr(function)(x)

    def change(d: Array) -> Array:
        (result,) = _compute(closed.jaxpr, closed.consts, [Pair(x, reference, d)])
        if not isinstance(result, Pair):
            return jnp.zeros_like(result)
        return result.change

    return change


def _compute(jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """A program of values and pairs."""
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))

    def value(atom: Any) -> Any:  # noqa: ANN401
        return atom.val if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        inputs = [value(atom) for atom in equation.invars]
        if not any(isinstance(each, Pair) for each in inputs):
            results = bind(equation, inputs)
        elif equation.primitive.name in WRAPPED:
            inner: Any = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
            body, held = (inner.jaxpr, inner.consts) if isinstance(inner, ClosedJaxpr) else (inner, ())
            results = _compute(body, held, inputs)
        elif equation.primitive.name == "cond" and not isinstance(inputs[0], Pair):
            results = _branch(equation.params["branches"], *inputs)
        else:
            results = _pairs(equation, inputs)
        known.update(zip(equation.outvars, results, strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _branch(branches: Sequence[ClosedJaxpr], index: Any, *inputs: Any) -> list[Any]:  # noqa: ANN401
    """What one of several programs gives, where the input does not decide which: a platform does, for instance."""

    def run(branch: ClosedJaxpr, inputs: Sequence[Any]) -> list[Pair]:
        results = _compute(branch.jaxpr, branch.consts, inputs)
        # In one branch a result may depend on the input, in another not.
        return [each if isinstance(each, Pair) else Pair(each, each, jnp.zeros_like(each)) for each in results]

    return lax.switch(index, [functools.partial(run, branch) for branch in branches], inputs)


def _pairs(equation: JaxprEqn, inputs: Sequence[Any]) -> list[Pair]:
    """What one operation gives of inputs some of which are pairs."""
    places = [number for number, each in enumerate(inputs) if isinstance(each, Pair)]
    pairs = [inputs[number] for number in places]

    def function(*values: Any) -> list[Any]:  # noqa: ANN401
        return bind(equation, [values[places.index(n)] if n in places else each for n, each in enumerate(inputs)])

    at, base = function(*(pair.at for pair in pairs)), function(*(pair.base for pair in pairs))
    if not all(jnp.issubdtype(each.dtype, jnp.floating) for each in at):
        return [Pair(*both, None) for both in zip(at, base, strict=True)]
    changes = _changes(equation.primitive.name, function, inputs, pairs, (at, base))
    return [Pair(*all_) for all_ in zip(at, base, changes, strict=True)]


def _changes(
    kind: str,
    function: Callable[..., list[Any]],
    inputs: Sequence[Any],
    pairs: Sequence[Pair],
    results: tuple[list[Any], list[Any]],
) -> list[Any]:
    """By the rule of the kind of operation."""
    if any(pair.change is None for pair in pairs):
        raise LayerError(f"DeepLIFT has no rule for {kind!r} of a condition or a place that depends on the layer")
    given = tuple(pair.change for pair in pairs)
    (at, *_), (base, *_) = results
    if kind in HALF_WAY:
        half_way = tuple((pair.at + pair.base) / 2 for pair in pairs)
        return list(jax.jvp(function, half_way, given)[1])
    if kind == "div":
        return [_of_quotient(*inputs)]
    if len(pairs) == 1 and kind in SMOOTH | KINKED and pairs[0].at.shape == at.shape:
        return [_slope(function, pairs[0], at, base, CLOSE if kind in SMOOTH else 0.0) * given[0]]
    if kind in CHOOSING:
        upwards = (at >= base) if CHOOSING[kind] else (at <= base)

        def chosen(changes: tuple[Any, ...]) -> Array:
            ends = (tuple(pair[end] for pair in pairs) for end in (0, 1))
            there, here = (jax.jvp(function, end, changes)[1][0] for end in ends)
            return jnp.where(upwards, there, here)

        # A border of -inf has not changed; by itself that difference would be NaN.
        whole = chosen(tuple(jnp.where(pair.at == pair.base, 0, pair.at - pair.base) for pair in pairs))
        return [jnp.where(whole == 0, 1, (at - base) / jnp.where(whole == 0, 1, whole)) * chosen(given)]
    raise LayerError(f"DeepLIFT has no rule for the operation {kind!r}")


def _slope(function: Callable[..., list[Any]], pair: Pair, at: Array, base: Array, close: float) -> Array:
    """Of the line through both values of a function of one number."""
    run = pair.at - pair.base
    middle = (pair.at + pair.base) / 2
    near = jnp.abs(run) <= close * (jnp.abs(pair.at) + jnp.abs(pair.base))
    derivative = jax.jvp(function, (middle,), (jnp.ones_like(middle),))[1][0]
    return jnp.where(near, derivative, (at - base) / jnp.where(near, 1, run))


def _of_quotient(numerator: Any, denominator: Any) -> Array:  # noqa: ANN401
    """The product rule, half way, of the numerator and one over the denominator, whose change is exact."""
    top, bottom = (each if isinstance(each, Pair) else Pair(each, each, None) for each in (numerator, denominator))
    changes = []
    if top.change is not None:
        changes.append(top.change * (1 / bottom.at + 1 / bottom.base) / 2)
    if bottom.change is not None:
        changes.append(-bottom.change * (top.at + top.base) / (2 * bottom.at * bottom.base))
    return sum(changes[1:], start=changes[0])
