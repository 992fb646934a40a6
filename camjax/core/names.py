"""Layers by name: reading, adding to and replacing the inner arrays of any JAX function.

A function names an array with `jax.ad_checkpoint.checkpoint_name(x, "layer3")`, which computes nothing. `tap` traces
the function once into a program (a jaxpr) and computes it anew, operation by operation; where a name stands it does
what was asked. All of it happens while JAX traces, so the result is an ordinary JAX function: `jit`, `vmap`, `grad`,
`jvp` of `grad`, `lax.map` and sharding apply to it as to any other, and a name that nobody asks for leaves nothing in
the compiled program.

A name that stands for several arrays (a module that is called twice) is numbered in the order in which they are
computed: `relu:0`, `relu:1`, …
"""

import difflib
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import JaxprEqn
from jax.typing import ArrayLike

from camjax.core.comparable import Comparable
from camjax.core.program import Program, Site, find_sites, without_number
from camjax.errors import LayerError

Arrays = dict[str, Array]
"""Arrays by the names they have in a function."""

FLAT = frozenset({"ceil", "floor", "round", "sign", "stop_gradient"})
"""JAX's names of operations on floats whose derivative is 0 wherever they have one."""

CLOSE = 3
"""How many names an error suggests."""


def tap(
    function: Callable[..., Any],
    *,
    read: Iterable[str] = (),
    add: Mapping[str, ArrayLike] | None = None,
    replace: Mapping[str, ArrayLike] | None = None,
) -> Callable[..., tuple[Any, Arrays]]:
    """The same function, which also gives its named arrays, or takes others in their place.

    The gradient of a score with respect to a layer is that with respect to what is added there:

        jax.grad(lambda d: tap(score, add={"layer3": d})(params, images)[0])(zeros)

    Inside `jax.shard_map`, what is added must vary over the mesh as the layer does (`jax.lax.pcast`), as zeros do not
    by themselves: JAX sums the gradient of what is the same on all devices. `cut` needs no zeros.

    What only a replaced array needed is not computed. A program inside the function's (an inner `jit` or `remat`) is
    opened where a wanted name stands in it, else it is left as it is.

    Args:
        function: of arrays and pytrees of them, as `jax.jit` takes it.
        read: names whose arrays to give.
        add: arrays by name, which are added to the named ones; of their shape and dtype.
        replace: arrays by name, which stand in for the named ones; of their shape and dtype.

    Returns:
        `tapped(*args) -> (function(*args), {name: array})`: each name in `read`, after what was added or replaced.

    Raises:
        LayerError: from the call. A name does not exist (the closest are suggested), stands for several arrays (they
            are numbered), stands inside a loop, a branch or a custom derivative, or an array does not fit there.
    """
    read = frozenset(read)
    adding, replacing = (
        {name: jnp.asarray(array) for name, array in (arrays or {}).items()} for arrays in (add, replace)
    )
    wanted = {*read, *adding, *replacing}

    def tapped(*args: Any) -> tuple[Any, Arrays]:  # noqa: ANN401
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        sites = find_sites(closed.jaxpr)
        _check_names(wanted, sites)
        for name, array in [*adding.items(), *replacing.items()]:
            _check_fit(name, array, sites[name])
        program = Program(closed, {without_number(name, sites) for name in wanted})
        labels = program.labels(sites)
        seen: Arrays = {}

        def at_name(label: str, x: Any) -> Any:  # noqa: ANN401
            y = replacing.get(label, x)  # x is None there: what only it needed was not computed
            y = y + adding[label] if label in adding else y
            if label in read:
                seen[label] = y
            return y

        live = program.live(labels, read, frozenset(replacing))
        values = program.compute(live, dict(enumerate(jax.tree.leaves(args))), labels, at_name)
        results: Any = jax.tree.unflatten(jax.tree.structure(shape), program.results(values))
        return results, {name: seen[name] for name in read}

    return tapped


def cut(
    function: Callable[..., Any], name: str, known: Array | None = None
) -> Callable[..., tuple[Array, Callable[[Array], Any]]]:
    """The function in two halves: up to a named array, and from it.

    What the second half does not take from the named array (the parameters, a path around it) is computed by the first
    half, once, however often the second is called, mapped or differentiated.

    Args:
        function: as for `tap`.
        name: of the array.
        known: the array, where it was computed in another way; the first half then computes only what leads around it.

    Returns:
        `halved(*args) -> (array, rest)`, where `rest(array)` is `function(*args)`, and `rest(other)` is what the
        function gives with that in the array's place.

    Raises:
        LayerError: from the call; as for `tap`.
    """

    def halved(*args: Any) -> tuple[Array, Callable[[Array], Any]]:  # noqa: ANN401
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        sites = find_sites(closed.jaxpr)
        _check_names([name], sites)
        program = Program(closed, {without_number(name, sites)})
        labels = {number: label for number, label in program.labels(sites).items() if label == name}
        (at,) = labels
        behind = program.behind(at)
        live = program.live(labels, frozenset([name]), frozenset() if known is None else frozenset([name]))
        before = [number for number in live if number not in behind]
        after = [number for number in live if number in behind]
        leaves = dict(enumerate(jax.tree.leaves(args)))
        values = program.compute(before, leaves, labels, lambda _, x: x if known is None else known)

        def rest(array: Array) -> Any:  # noqa: ANN401
            _check_fit(name, array, sites[name])
            given = program.compute(after, values | {program.output(at): array}, {}, lambda _, x: x)
            return jax.tree.unflatten(jax.tree.structure(shape), program.results(given))

        return values[program.output(at)], rest

    return halved


def traced_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which is traced once for arguments of the same shapes, however often it is tapped.

    Args:
        function: of pytrees of arrays. Those that are equal are traced together.
    """
    return functools.partial(_call, Comparable(function))


@functools.partial(jax.jit, static_argnums=0, inline=True)
def _call(function: Comparable, *args: Any) -> Any:  # noqa: ANN401
    return function.value(*args)


def named_array(x: Array, name: str) -> Array:
    """The array under a name: `jax.ad_checkpoint.checkpoint_name`, with a type."""
    return checkpoint_name(x, name)  # type: ignore[no-untyped-call]


def named_arrays(function: Callable[..., Any], *args: Any) -> dict[str, jax.ShapeDtypeStruct]:  # noqa: ANN401
    """The shape and dtype of every named array that `tap` can reach, in the order in which they are computed.

    Args:
        function: as for `tap`.
        args: its arguments, or `jax.ShapeDtypeStruct`s in their place; nothing is computed.
    """
    sites = find_sites(jax.make_jaxpr(function)(*args).jaxpr)
    return {name: site.value for name, site in sites.items() if site.inside is None and not site.several}


def named_sources(
    function: Callable[..., Any],
    *args: Any,  # noqa: ANN401
    of: str | None = None,
    with_gradient: bool = False,
) -> frozenset[str]:
    """Returns the names of the arrays that a function's result is computed from; nothing is computed.

    Args:
        function: as for `tap`.
        args: Its arguments, or `jax.ShapeDtypeStruct`s in their place.
        of: Name of an array that is asked about instead of the result; it is among its own sources.
        with_gradient: Leaves out those from which only operations without a derivative lead on (`FLAT`, and all that
            give no floats).
    """
    closed = jax.make_jaxpr(function)(*args)
    sites = find_sites(closed.jaxpr)
    program = Program(closed, {without_number(name, sites) for name in sites}, wanted=_is_flat)
    labels = program.labels(sites)
    ends = program.result_slots if of is None else [program.output(number) for number in labels if labels[number] == of]
    leading = program.leading_to(ends, lambda equation: not (with_gradient and _is_flat(equation)))
    return frozenset(labels[number] for number in leading & labels.keys())


def _is_flat(equation: JaxprEqn) -> bool:
    """Returns whether an operation has no derivative but 0."""
    avals: list[Any] = [atom.aval for atom in equation.outvars]
    floats = [jnp.issubdtype(aval.dtype, jnp.inexact) for aval in avals if hasattr(aval, "dtype")]
    return equation.primitive.name in FLAT or not any(floats)


def _check_names(wanted: Iterable[str], sites: Mapping[str, Site]) -> None:
    """Raises a LayerError, unless each name stands for one array that can be reached."""
    for name in wanted:
        site = sites.get(name)
        if site is None:
            known = [known for known, site in sites.items() if not site.several]
            close = difflib.get_close_matches(name, known, CLOSE) or known[-CLOSE:]
            hint = f"; did you mean {', '.join(close)}?" if close else ": the network names none of its arrays"
            raise LayerError(f"no layer is called {name!r}{hint}")
        if site.several:
            raise LayerError(
                f"{site.several} arrays are called {name!r}; choose one of {name}:0 to {name}:{site.several - 1}"
            )
        if site.inside is not None:
            raise LayerError(
                f"layer {name!r} stands inside {site.inside!r}, a loop, a branch or a custom derivative, where it "
                "cannot be read or changed; name what comes out of that instead"
            )


def _check_fit(name: str, array: Array, site: Site) -> None:
    expected = site.value
    if array.shape != expected.shape or array.dtype != expected.dtype:
        raise LayerError(
            f"what is put at layer {name!r} is {array.dtype} {array.shape}, the layer {expected.dtype} {expected.shape}"
        )
