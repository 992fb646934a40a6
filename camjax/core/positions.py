"""Which tokens the positions of later arrays are made of, as far as a program's operations are one token's alone.

A head may leave out tokens, lay the others on a grid, and normalise them there, before it averages them. Each position
of such an array is a function of one token. It is found by the operations: every array has an index of the same rank,
in which an axis along which the token does not change has the length 1, and each operation moves the index as it moves
the array.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal
from jaxtyping import Int

from camjax.core.program import ENTERED, Program

Index = Int[np.ndarray, "..."]

FREE: Final = "free"
"""The index of an array that depends on no token."""

MIXED: Final = "mixed"
"""The index of an array of which some value depends on several tokens, or that no rule tells of."""

CALLS = ENTERED | {"custom_jvp_call", "custom_vjp_call"}

_ELEMENTWISE = (
    "abs add add_any atan2 cbrt ceil clamp convert_element_type copy cos div eq erf erf_inv erfc exp exp2 expm1 floor "
    "ge gt integer_pow is_finite le log log1p logistic lt max min mul name ne neg not optimization_barrier pow "
    "reduce_precision rem round rsqrt select_n sign sin sqrt square stop_gradient sub tan tanh"
)
ELEMENTWISE = frozenset(_ELEMENTWISE.split())
"""JAX's names of operations that compute each value of the values in its place."""

REDUCTIONS = frozenset({"argmax", "argmin", "reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_sum"})


def token_indices(program: Program, numbers: Iterable[int], tokens: int, batch: int, count: int) -> dict[int, Index]:
    """Finds the arrays behind some tokens of which each position is a function of one token.

    Args:
        program: The program.
        numbers: The operations to follow, in order.
        tokens: The slot of the tokens, `(b, n, c)`.
        batch: Number of images, b.
        count: Number of tokens, n.

    Returns:
        For the slot of each such array its index, whose axes are as long as the array's or 1: token t of image i is
        `i * n + t`.
    """
    known: dict[int, Any] = {tokens: np.arange(batch * count).reshape(batch, count, 1)}
    for number in numbers:
        step = program.steps[number]
        inputs = [known.get(slot, FREE) if isinstance(slot, int) else FREE for slot in step.inputs]
        known.update(zip(step.outputs, _outputs(step.equation, inputs), strict=True))
    return {slot: index for slot, index in known.items() if isinstance(index, np.ndarray)}


def rows_of(index: Index, batch: int, count: int) -> tuple[tuple[int, ...], Int[np.ndarray, " m"]] | None:
    """Returns how an array `(b, …)` is read as rows, one for each of at least two tokens; None where it is not so.

    Args:
        index: The array's index.
        batch: Number of images, b.
        count: Number of tokens, n.

    Returns:
        The axes along which the token changes, and the numbers of the tokens in the order of these axes, each once.
    """
    if index.ndim == 0 or index.shape[0] != batch:
        return None
    own = index - np.arange(0, batch * count, count).reshape(-1, *[1] * (index.ndim - 1))
    tokens = own[0].reshape(-1)
    if (own != own[:1]).any() or tokens.size < 2 or np.unique(tokens).size != tokens.size:
        return None
    if not ((tokens >= 0) & (tokens < count)).all():
        return None
    return tuple(axis for axis in range(1, index.ndim) if index.shape[axis] > 1), tokens


def _outputs(equation: JaxprEqn, inputs: list[Any]) -> list[Any]:
    """Returns the indices of what an operation gives."""
    count = len(equation.outvars)
    if all(index is FREE for index in inputs):
        return [FREE] * count
    kind = equation.primitive.name
    if kind in CALLS:
        inner: Any = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
        jaxpr = getattr(inner, "jaxpr", inner)
        return _through(jaxpr, inputs) if len(jaxpr.invars) == len(inputs) else [MIXED] * count
    if any(index is MIXED for index in inputs):
        return [MIXED] * count
    if kind in ELEMENTWISE:
        return [_joined([index for index in inputs if index is not FREE])] * count
    rule = RULES.get(kind)
    shapes = [atom.aval.shape for atom in equation.invars]  # type: ignore[attr-defined]
    return [MIXED if rule is None else rule(equation.params, inputs, shapes)] * count


def _through(jaxpr: Jaxpr, inputs: list[Any]) -> list[Any]:
    known = dict(zip(jaxpr.invars, inputs, strict=True))

    def index_of(atom: Any) -> Any:  # noqa: ANN401
        return FREE if isinstance(atom, Literal) else known.get(atom, FREE)

    for equation in jaxpr.eqns:
        given = _outputs(equation, [index_of(atom) for atom in equation.invars])
        known.update(zip(equation.outvars, given, strict=True))
    return [index_of(atom) for atom in jaxpr.outvars]


def _joined(indices: list[Any]) -> Any:  # noqa: ANN401
    """Returns the index that all of some equally shaped arrays have."""
    first = indices[0]
    return first if all(index is first or np.array_equal(index, first) for index in indices) else MIXED


def _reduced(params: Mapping[str, Any], inputs: list[Any], _: Any) -> Any:  # noqa: ANN401
    (index,), axes = inputs, tuple(params["axes"])
    return index.squeeze(axes) if all(index.shape[axis] == 1 for axis in axes) else MIXED


def _product(params: Mapping[str, Any], inputs: list[Any], shapes: list[tuple[int, ...]]) -> Any:  # noqa: ANN401
    """Returns the index of a matrix product, of which only one factor may depend on tokens."""
    if all(index is not FREE for index in inputs):
        return MIXED
    contracted, batched = params["dimension_numbers"]
    side = 0 if inputs[1] is FREE else 1
    index, other = inputs[side], len(shapes[1 - side]) - len(contracted[1 - side]) - len(batched[1 - side])
    if any(index.shape[axis] > 1 for axis in contracted[side]):
        return MIXED
    free = [axis for axis in range(index.ndim) if axis not in {*contracted[side], *batched[side]}]
    lead, own = ([index.shape[axis] for axis in axes] for axes in (batched[side], free))
    index = index.transpose([*batched[side], *free, *contracted[side]])
    return index.reshape([*lead, *own, *[1] * other] if side == 0 else [*lead, *[1] * other, *own])


def _broadcast(params: Mapping[str, Any], inputs: list[Any], _: Any) -> Any:  # noqa: ANN401
    index = inputs[0]
    shape = [1] * len(params["shape"])
    for axis, length in zip(params["broadcast_dimensions"], index.shape, strict=True):
        shape[axis] = length
    return index.reshape(shape)


def _sliced(params: Mapping[str, Any], inputs: list[Any], _: Any) -> Any:  # noqa: ANN401
    (index,), strides = inputs, params["strides"] or [1] * inputs[0].ndim
    parts = zip(params["start_indices"], params["limit_indices"], strides, index.shape, strict=True)
    return index[tuple(slice(None) if length == 1 else slice(*part) for *part, length in parts)]


def _reshaped(params: Mapping[str, Any], inputs: list[Any], shapes: list[tuple[int, ...]]) -> Any:  # noqa: ANN401
    index, shape, new = inputs[0], shapes[0], tuple(params["new_sizes"])
    # Axes of channels at the end need not be written out where they stay.
    while shape and new and shape[-1] == new[-1] and index.shape[-1] == 1:
        index, shape, new = index[..., 0], shape[:-1], new[:-1]
    index = np.broadcast_to(index, shape).reshape(new)
    for axis in range(index.ndim):
        first = index[(slice(None),) * axis + (slice(1),)]
        index = first if (index == first).all() else index
    return index.reshape(*index.shape, *[1] * (len(params["new_sizes"]) - len(new)))


RULES: Mapping[str, Callable[[Mapping[str, Any], list[Any], list[tuple[int, ...]]], Any]] = {
    **dict.fromkeys(REDUCTIONS, _reduced),
    "dot_general": _product,
    "broadcast_in_dim": _broadcast,
    "slice": _sliced,
    "reshape": _reshaped,
    "squeeze": lambda params, inputs, _: inputs[0].squeeze(tuple(params["dimensions"])),
    "transpose": lambda params, inputs, _: inputs[0].transpose(params["permutation"]),
    "rev": lambda params, inputs, _: np.flip(inputs[0], params["dimensions"]),
}
"""The index of what an operation gives, from its parameters and its inputs' indices and shapes."""
