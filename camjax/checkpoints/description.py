"""What files say of a model beside its weights, each value checked against explicit bounds before anything is built."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, get_args

from camjax.choices import CropMode, CropRounding
from camjax.core.model import Activation
from camjax.errors import CheckpointError, printable
from camjax.images.preprocess import Preprocess

LARGEST_INPUT = 4096
"""Pixels along a side of a network's input."""

INTERPOLATIONS = ("bilinear", "bicubic")
LONGEST_TEXT = 4096


def read_preprocess(fields: Any) -> Preprocess:  # noqa: ANN401
    """Preprocessing from plain values, named as in `Preprocess`; the crop's mode and rounding may be left out.

    Raises:
        CheckpointError: a value is missing, unknown, of another type, or beyond bounds.
    """
    known = [field.name for field in dataclasses.fields(Preprocess)]
    usual = {"crop_mode": "center", "crop_rounding": "nearest"}
    if not isinstance(fields, Mapping) or {*usual, *fields} != set(known):
        raise CheckpointError(f"the preprocessing does not consist of {', '.join(known)}")
    fields = {**usual, **fields}
    size, crop, interpolation = fields["input_size"], fields["crop_pct"], fields["interpolation"]
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(map(_is_side, size)):
        raise CheckpointError(f"the input_size {shown(size)} is not a height and a width from 1 to {LARGEST_INPUT}")
    if not _is_number(crop) or not 0 < crop <= 1:
        raise CheckpointError(f"the crop_pct {shown(crop)} is not a number above 0 and at most 1")
    if interpolation not in INTERPOLATIONS:
        raise CheckpointError(f"the interpolation {shown(interpolation)} is not one of {', '.join(INTERPOLATIONS)}")
    for name, kind in (("crop_mode", CropMode), ("crop_rounding", CropRounding)):
        if fields[name] not in get_args(kind):
            raise CheckpointError(f"the {name} {shown(fields[name])} is not one of {', '.join(get_args(kind))}")
    return Preprocess(
        input_size=(size[0], size[1]),
        crop_pct=float(crop),
        interpolation=interpolation,
        mean=_three("mean", fields["mean"], -256),
        std=_three("std", fields["std"], 1e-6),
        crop_mode=fields["crop_mode"],
        crop_rounding=fields["crop_rounding"],
    )


def read_activation(value: Any) -> Activation | None:  # noqa: ANN401
    """Checks the name of an activation, or None.

    Raises:
        CheckpointError: It is none of them.
    """
    if value is not None and value not in get_args(Activation):
        raise CheckpointError(f"the activation {shown(value)} is not one of {', '.join(get_args(Activation))}")
    return value


def read_labels(labels: Any) -> tuple[str, ...]:  # noqa: ANN401
    """A list of class names.

    Raises:
        CheckpointError: it is no list, or an entry is no text that can be shown.
    """
    if not isinstance(labels, list | tuple):
        raise CheckpointError(f"the labels {shown(labels)} are not a list")
    return tuple(read_text("label", label) for label in labels)


def in_order(names: Any) -> Any:  # noqa: ANN401
    """Returns the values of an object whose keys are the numbers 0 to n - 1, by number; anything else as it is.

    Raises:
        CheckpointError: A number is missing or there twice.
        ValueError: A key is no number.
    """
    if not isinstance(names, dict):
        return names
    numbered = {int(number): name for number, name in names.items()}
    if sorted(numbered) != list(range(len(names))):
        raise CheckpointError(f"the labels' numbers are not 0 to {len(names) - 1}")
    return [numbered[number] for number in range(len(names))]


def read_count(value: Any) -> int:  # noqa: ANN401
    """Checks a number of classes.

    Raises:
        CheckpointError: It is no whole number from 1 on.
    """
    if type(value) is not int or value < 1:
        raise CheckpointError(f"the number of classes {shown(value)} is not a whole number from 1 on")
    return value


def read_text(what: str, value: Any) -> str:  # noqa: ANN401
    """A text of moderate length.

    Raises:
        CheckpointError: it is none, or cannot be written as UTF-8; `what` says which.
    """
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or (not value.isascii() and _is_broken(value)):
        raise CheckpointError(f"the {what} {shown(value)} is not a text of at most {LONGEST_TEXT} letters")
    return value


def shown(value: object) -> str:
    """An untrusted value in a message."""
    return printable(repr(value), 80)


def _three(name: str, value: Any, least: int | float) -> tuple[float, float, float]:  # noqa: ANN401
    if not isinstance(value, list | tuple) or len(value) != 3 or not all(_is_number(item) for item in value):
        raise CheckpointError(f"the {name} {shown(value)} is not of three finite numbers")
    if not all(least <= item <= 256 for item in value):
        raise CheckpointError(f"the {name} {shown(value)} is not from {least:g} to 256, for pictures in [0, 1]")
    red, green, blue = map(float, value)
    return red, green, blue


def _is_side(value: object) -> bool:
    return type(value) is int and 1 <= value <= LARGEST_INPUT


def _is_number(value: object) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _is_broken(text: str) -> bool:
    """Whether it holds half a pair of surrogates, which JSON can write and UTF-8 cannot."""
    return any(0xD800 <= ord(letter) < 0xE000 for letter in text)
