"""How attention flows on to the scores: which weights follow which, and the tokens that all of it passes through.

A function's program is walked, as in `camjax.core.names`; nothing is computed beyond what the caller uses. Attention is
an array `(b, heads, n, n)` of weights, tokens are an array `(b, n, c)`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from camjax.core.model import Forward, Params
from camjax.core.names import Arrays
from camjax.core.positions import rows_of, token_indices
from camjax.core.precision import PRODUCTS
from camjax.core.program import Program, Site, find_sites, without_number
from camjax.errors import LayerError


class Flow(NamedTuple):
    """A network cut behind its last attention, where one array of tokens carries all that attention computed.

    Attributes:
        weights: The attention of each block by its name, in the order of computation.
        until: `until(changes) -> (tokens, rest)`: the array at the cut, where `changes` by name are added to the
            attention (None adds nothing), and the function from it to the network's outputs. It is `(b, n, c)`, or
            some of the tokens in another shape.
        by_token: Turns an array like that at the cut into `(b, n, c)`, with zeros for tokens that it leaves out.
    """

    weights: Arrays
    until: Callable[[Mapping[str, Array] | None], tuple[Array, Callable[[Array], Any]]]
    by_token: Callable[[Array], Array]


def attention_flow(forward: Forward, params: Params, images: Array, names: Sequence[str]) -> Flow:
    """Cuts a network at the last array of tokens through which everything that attention computed reaches the outputs.

    It is what the head reads, behind a final normalisation, whether it has a name or not; also where the head leaves
    out tokens or lays them on a grid before it normalises each. Of arrays of attention that are computed from one
    another without tokens in between, such as a softmax and the dropout of it, the last counts.

    Args:
        forward: The network, `forward(params, images) -> outputs`.
        params: Its parameters, any pytree.
        images: Normalised images, `(b, h, w, 3)`.
        names: The names of the arrays of attention in the order of computation, at least one.

    Raises:
        LayerError: Attention is computed for different numbers of tokens, side by side, or there is no such array of
            tokens.
    """
    closed, shape = jax.make_jaxpr(forward, return_shape=True)(params, images)
    sites = find_sites(closed.jaxpr)
    program = Program(closed, {without_number(name, sites) for name in names}, wanted=lambda _: True)
    numbers = {label: number for number, label in program.labels(sites).items() if label in names}
    count = _count(names, sites)
    tokens = _tokens(program, images.shape[0], count)
    if images.shape[0] == count:
        # One image more tells the batch from the tokens, where an inner `vmap` may have put either first.
        larger = jax.make_jaxpr(forward)(params, jnp.concatenate([images, images[:1]]))
        tokens &= _tokens(Program(larger, wanted=lambda _: True), images.shape[0] + 1, count)
    groups = _grouped(program, [numbers[name] for name in names])
    labels = {number: name for name, number in numbers.items()}
    for group in groups:
        if len(group) > 1:
            both = " and ".join(repr(labels[number]) for number in group[:2])
            raise LayerError(f"the attention {both} is computed side by side, not one from the other")
    kept = [number for (number,) in groups]
    labels = {number: labels[number] for number in kept}
    live = program.live(labels, frozenset(labels.values()), frozenset())
    passages = [slot for _, slot in program.passages(live, {program.output(number) for number in kept})]
    found = [slot for slot in passages if slot in tokens]
    if not found:
        raise LayerError(
            f"behind the attention {names[-1]!r}, the outputs are not computed from one array of tokens (b, n, c) alone"
        )
    cut, axes, read = _last_rows(program, live, passages[passages.index(found[-1]) :], images.shape[0], count)
    behind = program.reached_from([cut])
    leaves = dict(enumerate(jax.tree.leaves((params, images))))
    before = [number for number in live if number not in behind]
    after = [number for number in live if number in behind]

    def computed(at_name: Callable[[str, Any], Any]) -> dict[int, Any]:
        return program.compute(before, leaves, labels, at_name)

    values = computed(lambda _, x: x)

    def until(changes: Mapping[str, Array] | None) -> tuple[Array, Callable[[Array], Any]]:
        known = values if changes is None else computed(lambda name, x: x + changes[name])

        def rest(tokens: Array) -> Any:  # noqa: ANN401
            results = program.results(program.compute(after, known | {cut: tokens}, {}, lambda _, x: x))
            return jax.tree.unflatten(jax.tree.structure(shape), results)

        return known[cut], rest

    def by_token(array: Array) -> Array:
        rows = jnp.moveaxis(array, axes, range(1, 1 + len(axes))).reshape(array.shape[0], len(read), -1)
        return (
            rows
            if len(read) == count
            else jnp.zeros_like(rows, shape=(len(rows), count, rows.shape[2])).at[:, read].set(rows)
        )

    return Flow({labels[number]: values[program.output(number)] for number in kept}, until, by_token)


def _last_rows(
    program: Program, live: Sequence[int], passages: Sequence[int], batch: int, count: int
) -> tuple[int, tuple[int, ...], np.ndarray]:
    """Returns the slot of the last array of which each position is one token's, its axes of tokens, and the tokens.

    Args:
        program: The program.
        live: The numbers of the operations that the results need.
        passages: The slots that everything passes through, from tokens `(b, n, c)` on.
        batch: Number of images, b.
        count: Number of tokens, n.
    """
    behind = program.reached_from(passages[:1])
    indices = token_indices(program, [number for number in live if number in behind], passages[0], batch, count)
    for slot in reversed(passages):
        rows = rows_of(indices[slot], batch, count) if slot in indices else None
        if rows is not None:
            return slot, *rows
    return passages[0], (1,), np.arange(count)  # one token alone


def attention_groups(forward: Forward, params: Params, images: Array, names: Sequence[str]) -> list[list[str]]:
    """Returns the names of attention by blocks, in order: what is computed side by side is in one block.

    Of a block's arrays that are computed from one another, such as a softmax and the dropout of it, the last counts.

    Args:
        forward: As for `attention_flow`.
        params: As for `attention_flow`.
        images: As for `attention_flow`.
        names: As for `attention_flow`.

    Raises:
        LayerError: Attention is computed for different numbers of tokens.
    """
    closed = jax.make_jaxpr(forward)(params, images)
    sites = find_sites(closed.jaxpr)
    _count(names, sites)
    program = Program(closed, {without_number(name, sites) for name in names}, wanted=lambda _: True)
    labels = program.labels(sites)
    numbers = {label: number for number, label in labels.items()}
    return [[labels[number] for number in group] for group in _grouped(program, [numbers[name] for name in names])]


def token_layers(forward: Forward, params: Params, images: Array, groups: Sequence[Sequence[str]]) -> dict[str, str]:
    """Finds the named tokens that each block gives, for blocks whose attention has no name of theirs.

    They are the last named tokens before the next block's attention that all tokens pass through; behind the last
    attention they are as many named tokens further as in the block before.

    Args:
        forward: As for `attention_flow`.
        params: As for `attention_flow`.
        images: As for `attention_flow`.
        groups: The names of attention by blocks; see `attention_groups`.

    Returns:
        The name of the tokens by that of the attention; without those that have none.
    """
    closed = jax.make_jaxpr(forward)(params, images)
    sites = find_sites(closed.jaxpr)
    program = Program(closed, {without_number(name, sites) for name in sites}, wanted=lambda _: True)
    labels = program.labels(sites)
    numbers = {label: number for number, label in labels.items()}
    names = [name for group in groups for name in group]
    live = program.live(labels, frozenset(names), frozenset())
    given = {program.output(number): label for number, label in labels.items()}
    tokens = _tokens(program, images.shape[0], _count(names, sites))
    starts = [min(numbers[name] for name in group) for group in groups]
    ends = [max(numbers[name] for name in group) for group in groups]
    # The tokens before the first attention too: what goes past it meets what it reads behind it.
    sources = tokens.intersection(slot for step in program.steps[: starts[0]] for slot in step.outputs)
    sources.update(program.output(numbers[name]) for name in groups[0])
    passages = {slot: number for number, slot in program.passages(live, sources) if slot in given and slot in tokens}
    spans = [
        [given[slot] for slot, number in passages.items() if end < number < stop]
        for end, stop in zip(ends, [*starts[1:], len(program.steps)], strict=True)
    ]
    if spans[-1]:
        like = len(spans[-2]) if len(spans) > 1 else 1
        spans[-1] = spans[-1][: max(like, 1)]
    return {name: span[-1] for group, span in zip(groups, spans, strict=True) if span for name in group}


def _count(names: Sequence[str], sites: Mapping[str, Site]) -> int:
    """Returns the number of tokens that attention is computed for.

    Raises:
        LayerError: It is not the same for all.
    """
    counts = {sites[name].value.shape[-1]: name for name in names}
    if len(counts) > 1:
        each = ", ".join(f"{count} at {name!r}" for count, name in counts.items())
        raise LayerError(f"attention is computed for different numbers of tokens: {each}")
    return next(iter(counts))


def _tokens(program: Program, batch: int, count: int) -> set[int]:
    """Returns the slots of all arrays `(batch, count, c)`."""
    return {
        slot
        for step in program.steps
        for slot, variable in zip(step.outputs, step.equation.outvars, strict=True)
        if len(variable.aval.shape) == 3 and variable.aval.shape[:2] == (batch, count)  # type: ignore[attr-defined]
    }


def _grouped(program: Program, numbers: Sequence[int]) -> list[list[int]]:
    """Returns the operations that name each block's attention, without those that only lead to another of them."""
    groups = [[numbers[0]]]
    for number in numbers[1:]:
        leading = program.leading_to([program.output(number)])
        between = {last: leading & program.reached_from([program.output(last)]) for last in groups[-1]}
        from_it = [last for last, path in between.items() if path]
        kinds = {last: {program.steps[each].equation.primitive.name for each in between[last]} for last in from_it}
        replaced = [last for last in from_it if PRODUCTS.isdisjoint(kinds[last])]
        if replaced or not from_it:
            groups[-1] = [*(last for last in groups[-1] if last not in replaced), number]
        else:
            groups.append([number])
    return groups
