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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from jax.typing import ArrayLike

from camjax.errors import LayerError

Arrays = dict[str, Array]
"""Arrays by the names they have in a function."""

NAME = "name"
"""What JAX calls the operation that `checkpoint_name` leaves in a program."""

ENTERED = frozenset({"jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"})
"""Operations that compute their inner program exactly once, so that it can stand in their place."""

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
        sites = _sites(closed.jaxpr)
        check_names(wanted, sites)
        for name, array in [*adding.items(), *replacing.items()]:
            _check_fit(name, array, sites[name])
        program = _Program(closed, {_without_number(name, sites) for name in wanted})
        labels = program.labels(sites)
        seen: Arrays = {}

        def at_name(label: str, x: Any) -> Any:  # noqa: ANN401
            y = replacing.get(label, x)  # x is None there: what only it needed was not computed
            y = y + adding[label] if label in adding else y
            if label in read:
                seen[label] = y
            return y

        live = program.live(labels, frozenset(read), frozenset(replacing))
        results = program.compute(jax.tree.leaves(args), labels, live, at_name)
        return jax.tree.unflatten(jax.tree.structure(shape), results), {name: seen[name] for name in read}

    return tapped


def named_array(x: Array, name: str) -> Array:
    """The array under a name: `jax.ad_checkpoint.checkpoint_name`, with a type."""
    return checkpoint_name(x, name)  # type: ignore[no-untyped-call]


def named_arrays(function: Callable[..., Any], *args: Any) -> dict[str, jax.ShapeDtypeStruct]:  # noqa: ANN401
    """The shape and dtype of every named array that `tap` can reach, in the order in which they are computed.

    Args:
        function: as for `tap`.
        args: its arguments, or `jax.ShapeDtypeStruct`s in their place; nothing is computed.
    """
    sites = _sites(jax.make_jaxpr(function)(*args).jaxpr)
    return {name: site.value for name, site in sites.items() if site.inside is None and not site.several}


class _Site(NamedTuple):
    """A name in a program.

    Attributes:
        value: its shape and dtype.
        inside: the operation whose inner program hides it, or None where it can be reached.
        several: how many arrays have the name, where it is more than one.
    """

    value: jax.ShapeDtypeStruct
    inside: str | None
    several: int = 0


def _sites(jaxpr: Jaxpr) -> dict[str, _Site]:
    """Every name in a program, in order; one that stands for several arrays is there by itself and with each number."""
    found = list(_walk(jaxpr))
    counts = Counter(name for name, site in found if site.inside is None)
    numbers: Counter[str] = Counter()
    sites: dict[str, _Site] = {}
    for name, site in found:
        if site.inside is not None or counts[name] == 1:
            sites.setdefault(name, site)
            continue
        sites.setdefault(name, site._replace(several=counts[name]))
        sites[f"{name}:{numbers[name]}"] = site
        numbers[name] += 1
    return sites


def _walk(jaxpr: Jaxpr, inside: str | None = None) -> Iterator[tuple[str, _Site]]:
    """Every name as it comes, inner programs included."""
    for equation in jaxpr.eqns:
        kind = equation.primitive.name
        if kind == NAME:
            aval: Any = equation.outvars[0].aval
            value = jax.ShapeDtypeStruct(aval.shape, aval.dtype)  # type: ignore[no-untyped-call]
            yield equation.params["name"], _Site(value, inside)
            continue
        for inner in _inner_programs(equation):
            yield from _walk(inner, inside if kind in ENTERED else inside or kind)


def _inner_programs(equation: JaxprEqn) -> Iterator[Jaxpr]:
    for leaf in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
        if _is_program(leaf):
            yield leaf.jaxpr if isinstance(leaf, ClosedJaxpr) else leaf


def _is_program(value: object) -> bool:
    return isinstance(value, ClosedJaxpr | Jaxpr)


def check_names(wanted: Iterable[str], sites: Mapping[str, _Site]) -> None:
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


def _check_fit(name: str, array: Array, site: _Site) -> None:
    expected = site.value
    if array.shape != expected.shape or array.dtype != expected.dtype:
        raise LayerError(
            f"what is put at layer {name!r} is {array.dtype} {array.shape}, the layer {expected.dtype} {expected.shape}"
        )


def _without_number(name: str, sites: Mapping[str, _Site]) -> str:
    base, _, number = name.rpartition(":")
    return base if number.isdecimal() and base in sites and sites[base].several else name


class _Constant(NamedTuple):
    """A value that the program holds itself."""

    value: Any


_Slot = int | _Constant
"""Where an operation finds an input: the number of an earlier result, or a constant."""


class _Step(NamedTuple):
    """One operation of a flat program."""

    equation: JaxprEqn
    inputs: list[_Slot]
    outputs: list[int]


class _Program:
    """A jaxpr as a flat list of operations; the inner programs that hold wanted names are written out in their place.

    Args:
        closed: the jaxpr.
        names: the wanted ones.
    """

    def __init__(self, closed: ClosedJaxpr, names: set[str]) -> None:
        self._names = names
        self._count = len(closed.jaxpr.invars)
        self._steps: list[_Step] = []
        self._results = self._write_out(closed.jaxpr, closed.consts, range(self._count))

    def _write_out(self, jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[_Slot]) -> list[_Slot]:
        slots = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*map(_Constant, consts), *arguments], strict=True))

        def slot(atom: Any) -> _Slot:  # noqa: ANN401
            return _Constant(atom.val) if isinstance(atom, Literal) else slots[atom]

        for equation in jaxpr.eqns:
            inputs = [slot(atom) for atom in equation.invars]
            outputs: Sequence[_Slot]
            if self._is_opened(equation):
                inner: Any = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
                body, held = (inner.jaxpr, inner.consts) if isinstance(inner, ClosedJaxpr) else (inner, [])
                outputs = self._write_out(body, held, inputs)
            else:
                numbers = list(range(self._count, self._count + len(equation.outvars)))
                self._count += len(numbers)
                self._steps.append(_Step(equation, inputs, numbers))
                outputs = numbers
            slots.update(zip(equation.outvars, outputs, strict=True))
        return [slot(atom) for atom in jaxpr.outvars]

    def _is_opened(self, equation: JaxprEqn) -> bool:
        return equation.primitive.name in ENTERED and any(
            site.inside is None and name in self._names
            for inner in _inner_programs(equation)
            for name, site in _walk(inner)
        )

    def labels(self, sites: Mapping[str, _Site]) -> dict[int, str]:
        """The label of each operation that is a wanted name, by its number."""
        counts: Counter[str] = Counter()
        labels = {}
        for number, step in enumerate(self._steps):
            name = step.equation.params["name"] if step.equation.primitive.name == NAME else None
            if name in self._names:
                labels[number] = f"{name}:{counts[name]}" if sites[name].several else name
                counts[name] += 1
        return labels

    def live(self, labels: Mapping[int, str], read: frozenset[str], replaced: frozenset[str]) -> set[int]:
        """The operations that the results or the read names need, or that do more than compute."""
        needed = {slot for slot in self._results if isinstance(slot, int)}
        live = set()
        for number, step in reversed(list(enumerate(self._steps))):
            label = labels.get(number)
            if label in read or step.equation.effects or not needed.isdisjoint(step.outputs):
                live.add(number)
                needed |= {slot for slot in step.inputs if isinstance(slot, int) and label not in replaced}
        return live

    def compute(
        self,
        arguments: Sequence[Any],
        labels: Mapping[int, str],
        live: set[int],
        at_name: Callable[[str, Any], Any],
    ) -> list[Any]:
        """The results; `at_name(label, array)` gives what goes on from a name."""
        values = dict(enumerate(arguments))

        def value(slot: _Slot) -> Any:  # noqa: ANN401
            return slot.value if isinstance(slot, _Constant) else values.get(slot)  # none behind a replaced name

        for number, step in enumerate(self._steps):
            if number not in live:
                continue
            inputs = [value(slot) for slot in step.inputs]
            if number in labels:
                results: Any = [at_name(labels[number], inputs[0])]
            else:
                results = _bind(step.equation, inputs)
            values.update(zip(step.outputs, results, strict=True))
        return [value(slot) for slot in self._results]


def _bind(equation: JaxprEqn, inputs: list[Any]) -> list[Any]:
    """Computes one operation, under the options that it was traced with."""
    primitive: Any = equation.primitive
    with equation.ctx.manager:
        results = primitive.bind(*inputs, **primitive.get_bind_params(equation.params))
    return list(results) if primitive.multiple_results else [results]
