"""The shape checks of the test run at less than half their price; the same annotations are checked at the same calls.

jaxtyping's import hook gives every function of camjax to `jaxtyping.jaxtyped`, which checks the arguments twice, binds
them by `inspect` at every call and writes out two functions for each closure. Here beartype checks a function once,
what it has written for a closure serves the next one of the same code, and jaxtyping's part, by which `"b h w c"` means
the same in every argument, is only there where a function has arrays.
"""

import contextlib
import dataclasses
import functools
import inspect
import threading
import types
import typing
from collections.abc import Callable, Hashable
from typing import Any

import jaxtyping
from beartype import beartype
from jaxtyping import AbstractArray, PyTree

with_shapes = jaxtyping.jaxtyped
SIZES = with_shapes("context")
"""In it, a name of a size means the same everywhere."""
CHECKED = "__beartype_func"
"""What beartype calls the function in the check that it has written for it."""
WRITTEN: dict[tuple[Any, ...], tuple[Callable[..., Any], bool]] = {}
"""Checks by code and annotations, and whether they are of arrays."""
ONE_AT_A_TIME = threading.RLock()
"""Annotations are exchanged while a check is made of them; figures are drawn in several threads."""


def jaxtyped(checked: Any = None, *, typechecker: Any = None) -> Any:
    """Stands in for `jaxtyping.jaxtyped` as its import hook calls it."""
    if checked is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    if inspect.isclass(checked):
        if dataclasses.is_dataclass(checked) and "__init__" in vars(checked):
            checked.__init__ = check(checked.__init__)
        return checked
    if isinstance(checked, property):
        return property(*(each and check(each) for each in (checked.fget, checked.fset, checked.fdel)))
    if isinstance(checked, classmethod | staticmethod):
        return type(checked)(check(checked.__func__))
    return check(checked)


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which raises where an argument or its result is not what its annotations say."""
    if all(hint is Any or hint == "Any" for hint in function.__annotations__.values()):
        return function

    @functools.cache  # a test process calls a third of the functions that it imports
    def strict() -> Callable[..., Any]:
        with ONE_AT_A_TIME:
            return _strict(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return (function if jaxtyping.config.jaxtyping_disable else strict())(*args, **kwargs)

    return call


def _strict(function: Callable[..., Any]) -> Callable[..., Any]:
    key = (function.__code__, *function.__annotations__.items())
    reusable = not hasattr(function, "__wrapped__") and all(isinstance(part, Hashable) for part in key)
    if reusable and key in WRITTEN:
        written, arrays = WRITTEN[key]
        return _sized(_for(function, written), arrays)
    given = function.__annotations__
    resolved = {name: _resolved(hint, function.__globals__) for name, hint in given.items()}
    arrays = any(map(_has_arrays, resolved.values()))
    generates = arrays and inspect.isgeneratorfunction(function)  # beartype would look at arguments when it is iterated
    if reusable and not generates:
        written = beartype(_emptied(function, resolved))
        if CHECKED in (written.__kwdefaults__ or {}):
            WRITTEN[key] = written, arrays
            return _sized(_for(function, written), arrays)
    function.__annotations__ = resolved
    try:
        return with_shapes(function, typechecker=beartype) if generates else _sized(beartype(function), arrays)
    finally:
        function.__annotations__ = given


def _emptied(function: Any, annotations: dict[str, Any]) -> Any:
    """A function that is checked in the same way and keeps nothing of what this one refers to alive."""
    cells = tuple(types.CellType() for _ in function.__code__.co_freevars)
    empty = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)
    empty.__kwdefaults__, empty.__annotations__ = function.__kwdefaults__, annotations
    empty.__qualname__, empty.__module__ = function.__qualname__, function.__module__
    return empty


def _for(function: Callable[..., Any], written: Any) -> Any:
    """The check that beartype has written for one closure, for another one of the same code."""
    again = types.FunctionType(written.__code__, written.__globals__, written.__name__, written.__defaults__)
    again.__kwdefaults__ = written.__kwdefaults__ | {CHECKED: function}
    return again


def _sized(written: Callable[..., Any], arrays: bool) -> Callable[..., Any]:
    """What is checked, where a size means the same in every argument and in the result."""
    if not arrays:
        return written

    def sized(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        with SIZES:
            return written(*args, **kwargs)

    return sized


def _resolved(hint: Any, names: dict[str, Any]) -> Any:
    """Without strings; what only type checkers import is anything."""

    def holder(value: hint) -> None: ...

    with contextlib.suppress(Exception):
        return typing.get_type_hints(holder, names, include_extras=True)["value"]
    return Any


def _has_arrays(hint: Any) -> bool:
    if inspect.isclass(hint) and issubclass(hint, AbstractArray | PyTree):
        return True
    return any(map(_has_arrays, typing.get_args(hint)))
