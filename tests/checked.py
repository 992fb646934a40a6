"""The shape checks of the test run at less than half their price; the same annotations are checked at the same calls.

jaxtyping's import hook gives every function of camjax to `jaxtyping.jaxtyped`, which checks the arguments twice, binds
them by `inspect` at every call and writes out two functions for each closure. Here beartype checks a function once, and
jaxtyping's part, by which `"b h w c"` means the same in every argument, is only there where a function has arrays.
"""

import contextlib
import dataclasses
import functools
import inspect
import threading
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import beartype
from jaxtyping import AbstractArray, PyTree

with_shapes = jaxtyping.jaxtyped
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
    given = function.__annotations__
    resolved = {name: _resolved(hint, function.__globals__) for name, hint in given.items()}
    function.__annotations__ = resolved
    arrays = any(map(_has_arrays, resolved.values()))
    try:
        if arrays and inspect.isgeneratorfunction(function):  # beartype would look at its arguments when it is iterated
            return with_shapes(function, typechecker=beartype)
        return with_shapes(beartype(function), typechecker=None) if arrays else beartype(function)
    finally:
        function.__annotations__ = given


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
