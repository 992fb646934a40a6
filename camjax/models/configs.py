"""Configs out of files that nobody vouches for: every field is of its type and within bounds before it is used."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

LONGEST = 64
"""Entries of a tuple, and letters of a text."""

LARGEST = 1 << 20
"""The largest whole number that any field may have."""
Number = int | float


def read_config(kind: type, fields: Any) -> Any:  # noqa: ANN401
    """A config from JSON's values, whose lists become tuples.

    Args:
        kind: a dataclass with fields of bool, int, float, str, None and tuples of them.
        fields: untrusted.

    Raises:
        ValueError: a field is unknown, missing, of another type, or beyond any network's bounds.
    """
    if not isinstance(fields, Mapping):
        raise ValueError(f"{_short(fields)} is not a table of fields")
    hints = typing.get_type_hints(kind)
    known = {field.name: field for field in dataclasses.fields(kind)}
    for name in fields:
        if name not in known:
            raise ValueError(f"{_short(name)} is not a field of {kind.__name__}")
    for name, field in known.items():
        unset = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if unset and name not in fields:
            raise ValueError(f"{name} is missing")
    return kind(**{name: _read(name, value, hints[name]) for name, value in fields.items()})


def within(name: str, values: Number | tuple[Number, ...], least: Number, most: Number) -> None:
    """Checks a number, or all of several.

    Raises:
        ValueError: one is not from `least` to `most`; the text names the field.
    """
    numbers = values if isinstance(values, tuple) else (values,)
    if not all(least <= number <= most for number in numbers):
        raise ValueError(f"{name} {_short(values)} is not from {least:g} to {most:g}")


def _read(name: str, value: Any, hint: Any) -> Any:  # noqa: ANN401
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and isinstance(value, list | tuple) and len(value) <= LONGEST:
        repeated = len(inner) == 2 and inner[1] is ...
        kinds = [inner[0]] * len(value) if repeated else list(inner)
        if len(kinds) == len(value):
            return tuple(_read(name, item, kind) for item, kind in zip(value, kinds, strict=True))
    choices = inner if origin in (types.UnionType, typing.Union) else (hint,)
    for choice in choices:
        if _is(value, choice):
            return float(value) if choice is float else value
    raise ValueError(f"{name} {_short(value)} is not {getattr(hint, '__name__', hint) if origin is None else hint}")


def _is(value: object, kind: object) -> bool:
    """Whether a value is of a plain type and within what every network keeps to; `True` is no number."""
    if kind is float:
        return (type(value) is int and abs(value) <= LARGEST) or (type(value) is float and math.isfinite(value))
    if kind is int:
        return type(value) is int and abs(value) <= LARGEST
    if kind is str:
        return type(value) is str and len(value) <= LONGEST
    return type(value) is kind if kind is not None else value is None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
