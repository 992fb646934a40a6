"""A function as a flat list of operations, with the names that stand among them; what `camjax.core.names` walks."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

NAME = "name"
"""What JAX calls the operation that `checkpoint_name` leaves in a program."""

ENTERED = frozenset({"jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"})
"""Operations that compute their inner program exactly once, so that it can stand in their place."""


class Site(NamedTuple):
    """A name in a program.

    Attributes:
        value: its shape and dtype.
        inside: the operation whose inner program hides it, or None where it can be reached.
        several: how many arrays have the name, where it is more than one.
    """

    value: jax.ShapeDtypeStruct
    inside: str | None
    several: int = 0


def find_sites(jaxpr: Jaxpr) -> dict[str, Site]:
    """Every name in a program, in order; one that stands for several arrays is there by itself and with each number.

    A name that can be reached goes before an equal one that is hidden.
    """
    found = list(_walk(jaxpr))
    counts = Counter(name for name, site in found if site.inside is None)
    numbers: Counter[str] = Counter()
    sites: dict[str, Site] = {}
    for name, site in found:
        if site.inside is not None:
            if not counts[name]:
                sites.setdefault(name, site)
        elif counts[name] == 1:
            sites[name] = site
        else:
            sites.setdefault(name, site._replace(several=counts[name]))
            sites[f"{name}:{numbers[name]}"] = site
            numbers[name] += 1
    return sites


def _walk(jaxpr: Jaxpr, inside: str | None = None) -> Iterator[tuple[str, Site]]:
    """Every name as it comes, inner programs included."""
    for equation in jaxpr.eqns:
        kind = equation.primitive.name
        if kind == NAME:
            aval: Any = equation.outvars[0].aval
            value = jax.ShapeDtypeStruct(aval.shape, aval.dtype)  # type: ignore[no-untyped-call]
            yield equation.params["name"], Site(value, inside)
            continue
        for inner in inner_programs(equation):
            yield from _walk(inner, inside if kind in ENTERED else inside or kind)


def inner_programs(equation: JaxprEqn) -> Iterator[Jaxpr]:
    """The programs that an operation holds."""
    # They are parameters themselves, or in tuples of several; asked of every operation, so no tree is flattened.
    for value in equation.params.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, ClosedJaxpr):
                yield each.jaxpr
            elif isinstance(each, Jaxpr):
                yield each


def without_number(name: str, sites: Mapping[str, Site]) -> str:
    """What the program itself calls an array that is numbered because its name stands for several."""
    base, _, number = name.rpartition(":")
    return base if number.isdecimal() and base in sites and sites[base].several else name


class Constant(NamedTuple):
    """A value that the program holds itself."""

    value: Any


Slot = int | Constant
"""Where an operation finds an input: the number of an earlier result, or a constant."""


class Step(NamedTuple):
    """One operation of a flat program."""

    equation: JaxprEqn
    inputs: list[Slot]
    outputs: list[int]


class Program:
    """A jaxpr as a flat list of operations; inner programs that hold what is wanted are written out in their place.

    Args:
        closed: the jaxpr.
        names: the wanted ones.
        wanted: other operations that are wanted.
        entered: the operations whose inner programs can be written out.
    """

    def __init__(
        self,
        closed: ClosedJaxpr,
        names: Collection[str] = (),
        wanted: Callable[[JaxprEqn], bool] = lambda _: False,
        entered: Collection[str] = ENTERED,
    ) -> None:
        self._entered = entered
        self._names = frozenset(names)
        self._wanted = wanted
        self._arguments = self._count = len(closed.jaxpr.invars)
        self._steps: list[Step] = []
        self._results = self._write_out(closed.jaxpr, closed.consts, range(self._count))

    def _write_out(self, jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[Slot]) -> list[Slot]:
        slots = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*map(Constant, consts), *arguments], strict=True))

        def slot(atom: Any) -> Slot:  # noqa: ANN401
            return Constant(atom.val) if isinstance(atom, Literal) else slots[atom]

        for equation in jaxpr.eqns:
            inputs = [slot(atom) for atom in equation.invars]
            outputs: Sequence[Slot]
            if self._is_opened(equation):
                inner: Any = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
                body, held = (inner.jaxpr, inner.consts) if isinstance(inner, ClosedJaxpr) else (inner, [])
                outputs = self._write_out(body, held, inputs)
            else:
                numbers = list(range(self._count, self._count + len(equation.outvars)))
                self._count += len(numbers)
                self._steps.append(Step(equation, inputs, numbers))
                outputs = numbers
            slots.update(zip(equation.outvars, outputs, strict=True))
        return [slot(atom) for atom in jaxpr.outvars]

    def _is_opened(self, equation: JaxprEqn) -> bool:
        return equation.primitive.name in self._entered and any(map(self._holds, inner_programs(equation)))

    def _holds(self, jaxpr: Jaxpr) -> bool:
        return not jaxpr.eqns or any(  # one without operations only hands over what it is given
            (inner.primitive.name == NAME and inner.params["name"] in self._names)
            or self._wanted(inner)
            or self._is_opened(inner)
            for inner in jaxpr.eqns
        )

    @property
    def steps(self) -> Sequence[Step]:
        """The operations, in order."""
        return self._steps

    def labels(self, sites: Mapping[str, Site]) -> dict[int, str]:
        """The label of each operation that is a wanted name, by its number."""
        counts: Counter[str] = Counter()
        labels = {}
        for number, step in enumerate(self._steps):
            name = step.equation.params["name"] if step.equation.primitive.name == NAME else None
            if name in self._names:
                labels[number] = f"{name}:{counts[name]}" if sites[name].several else name
                counts[name] += 1
        return labels

    def live(self, labels: Mapping[int, str], read: frozenset[str], replaced: frozenset[str]) -> list[int]:
        """The operations that the results or the read names need, or that do more than compute."""
        needed = {slot for slot in self._results if isinstance(slot, int)}
        live = []
        for number, step in reversed(list(enumerate(self._steps))):
            label = labels.get(number)
            if label in read or step.equation.effects or not needed.isdisjoint(step.outputs):
                live.append(number)
                needed |= {slot for slot in step.inputs if isinstance(slot, int) and label not in replaced}
        return live[::-1]

    def behind(self, number: int) -> set[int]:
        """The operations that an operation's result goes into."""
        return self.reached_from(self._steps[number].outputs)

    def reached_from(self, slots: Iterable[int]) -> set[int]:
        """Returns the numbers of the operations that depend on any of some slots."""
        reached: set[Slot] = set(slots)
        behind = set()
        for number, step in enumerate(self._steps):
            if not reached.isdisjoint(slot for slot in step.inputs if isinstance(slot, int)):
                behind.add(number)
                reached.update(step.outputs)
        return behind

    def leading_to(self, slots: Iterable[Slot], through: Callable[[JaxprEqn], bool] = lambda _: True) -> set[int]:
        """Returns the numbers of the operations that any of some values is computed from.

        Args:
            slots: Slots of the values.
            through: Tells of an operation whether what leads to its inputs counts.
        """
        needed = {slot for slot in slots if isinstance(slot, int)}
        leading = set()
        for number, step in reversed(list(enumerate(self._steps))):
            if not needed.isdisjoint(step.outputs):
                leading.add(number)
                if through(step.equation):
                    needed.update(slot for slot in step.inputs if isinstance(slot, int))
        return leading

    def passages(self, live: Sequence[int], sources: Collection[int]) -> Iterator[tuple[int, int]]:
        """Yields where everything that depends on some slots passes through a single one.

        Args:
            live: The numbers of the operations that the results need, in order.
            sources: The slots; those that the results do not need do not count.

        Yields:
            The number of an operation and a slot: behind the operation, no other slot that depends on the sources is
            needed any more. Each slot is yielded once.
        """
        last_use = {slot: number for number in live for slot in self._steps[number].inputs if isinstance(slot, int)}
        last_use |= {slot: self._count for slot in self._results if isinstance(slot, int)}
        behind = self.reached_from(sources)
        pending = {slot for number in live for slot in self._steps[number].outputs if slot in sources}
        needed, given = set(sources), -1
        for number in live:
            step = self._steps[number]
            pending.difference_update(step.outputs)
            if number in behind:
                needed.update(step.outputs)
            needed = {slot for slot in needed if last_use.get(slot, -1) > number}
            if not pending and len(needed) == 1 and needed != {given}:
                (given,) = needed
                yield number, given

    def compute(
        self,
        numbers: Iterable[int],
        values: dict[int, Any],
        labels: Mapping[int, str],
        at_name: Callable[[str, Any], Any],
    ) -> dict[int, Any]:
        """Computes operations, in order, and adds what they give.

        Args:
            numbers: of the operations.
            values: by their slots, those of the program's arguments to begin with.
            labels: of the operations that are wanted names.
            at_name: `at_name(label, array)` gives what goes on from a name; the array is None where it was not
                computed.
        """
        values = dict(values)
        for number in numbers:
            step = self._steps[number]
            inputs = [value_of(slot, values) for slot in step.inputs]
            results = [at_name(labels[number], inputs[0])] if number in labels else bind(step.equation, inputs)
            values.update(zip(step.outputs, results, strict=True))
        return values

    def evaluate(
        self, arguments: Iterable[Any], compute: Callable[[Step, list[Any]], list[Any]] | None = None
    ) -> dict[int, Any]:
        """Computes all operations.

        Args:
            arguments: the program's.
            compute: `compute(step, inputs)` gives an operation's results, where it is not simply computed.

        Returns:
            All values, by their slots.
        """
        values = dict(enumerate(arguments))
        for step in self._steps:
            inputs = [value_of(slot, values) for slot in step.inputs]
            results = compute(step, inputs) if compute else bind(step.equation, inputs)
            values.update(zip(step.outputs, results, strict=True))
        return values

    @property
    def result_slots(self) -> Sequence[Slot]:
        """The slots of the program's results."""
        return self._results

    def results(self, values: Mapping[int, Any]) -> list[Any]:
        """What the program gives."""
        return [value_of(slot, values) for slot in self._results]

    def arguments_given_back(self) -> list[int]:
        """For each result the number of the argument that it is as it stands, or -1."""
        return [slot if isinstance(slot, int) and slot < self._arguments else -1 for slot in self._results]

    def output(self, number: int) -> int:
        """The slot of an operation's only result."""
        return self._steps[number].outputs[0]


def value_of(slot: Slot, values: Mapping[int, Any]) -> Any:  # noqa: ANN401
    """What stands in a slot."""
    return slot.value if isinstance(slot, Constant) else values.get(slot)  # none behind a replaced name


def bind(equation: JaxprEqn, inputs: list[Any]) -> list[Any]:
    """Computes one operation, under the options that it was traced with."""
    primitive: Any = equation.primitive
    with equation.ctx.manager:
        results = primitive.bind(*inputs, **primitive.get_bind_params(equation.params))
    return list(results) if primitive.multiple_results else [results]
