"""Names of classes: ImageNet's, and finding a class by its name or number."""

import difflib
import functools
import importlib.resources
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

from camjax.errors import LabelError as LabelError
from camjax.errors import printable
from camjax.images.label_files import read_label_file
from camjax.images.label_tables import without_synset_ids

IMAGENET = "imagenet"
"""Stands for ImageNet's names wherever a list of labels is asked for."""

LISTED = 5
"""Classes that an error lists."""

LONGEST_NUMBER = 9
LONGEST_GUESSED = 200
"""Letters of a name for which close ones are looked up."""


@functools.cache
def imagenet_labels() -> tuple[str, ...]:
    """The 1000 ImageNet classes in the order of the usual weights' logits.

    Each is a synset's names, divided by commas: `"tabby, tabby cat"`.
    """
    return tuple(without_synset_ids(_imagenet().splitlines()))


@functools.cache
def imagenet_ids() -> dict[str, int]:
    """The number of each of those classes by its WordNet id, such as `"n02123045"`, as ImageNet's folders are named."""
    return {line.split()[0]: number for number, line in enumerate(_imagenet().splitlines())}


def read_labels(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Reads the labels of all classes, in their order.

    Args:
        path: Path of a file that `read_label_file` reads, or `"imagenet"` for ImageNet's names.

    Raises:
        LabelError: As for `read_label_file`.
    """
    return imagenet_labels() if os.fspath(path) == IMAGENET else read_label_file(path)


def names_of(label: str) -> tuple[str, ...]:
    """Returns the names of a class: the parts between the commas for one of ImageNet's synsets, else the label itself.

    Args:
        label: A class's label.

    Returns:
        At least one name, the one that tables show first.
    """
    return tuple(name.strip() for name in label.split(",")) if label in _synsets() else (label.strip(),)


def short_label(label: str) -> str:
    """Returns the first of a class's names: `"tabby"` of ImageNet's `"tabby, tabby cat"`, and any other label whole."""
    return names_of(label)[0]


def find_classes(labels: Sequence[str], wanted: Iterable[str]) -> tuple[int, ...]:
    """The numbers of classes given by any of their names (in any case) or by number.

    Args:
        labels: every class's label, in order.
        wanted: names or decimal numbers.

    Raises:
        LabelError: a name is unknown (close ones are suggested) or belongs to several classes (they are listed), or a
            number is out of range.
    """
    return tuple(_find_class(labels, text.strip()) for text in wanted)


def find_listed_classes(labels: Sequence[str], texts: Iterable[str]) -> tuple[int, ...]:
    """Returns the numbers of classes that are named in lists divided by commas, in which names may contain commas.

    Args:
        labels: Label of every class, in order.
        texts: Lists such as `"tabby,282"`. A text that is a class's name as a whole is that name alone.

    Raises:
        LabelError: As for `find_classes`, or a text is a class's name as a whole and a list of other classes too.
    """
    return tuple(number for text in texts for number in _find_listed(labels, text))


def numbered_classes(labels: Sequence[str], classes: Any) -> Any:  # noqa: ANN401
    """Replaces names of classes by their numbers.

    Args:
        labels: Label of every class, in order.
        classes: Numbers, names, or lists of them nested as an array's axes are; arrays of text, too.

    Returns:
        `classes` as they came where no name is among them, else nested lists of numbers.

    Raises:
        LabelError: A name is unknown or belongs to several classes.
    """
    if isinstance(classes, str):
        return find_classes(labels, [classes])[0]
    if getattr(getattr(classes, "dtype", None), "kind", "") in ("U", "O"):  # of NumPy, which help texts do without
        classes = classes.tolist()
    if not isinstance(classes, list | tuple):
        return classes
    numbers = [numbered_classes(labels, part) for part in classes]
    return classes if all(new is old for new, old in zip(numbers, classes, strict=True)) else numbers


def _find_listed(labels: Sequence[str], text: str) -> tuple[int, ...]:
    parts = text.split(",")
    whole = [number for number, label in enumerate(labels) if label.strip().lower() == text.strip().lower()]
    if len(parts) == 1 or not whole:
        return find_classes(labels, parts)
    try:
        listed = find_classes(labels, parts)
    except LabelError:
        listed = ()
    if {*listed} - {*whole}:
        raise LabelError(
            f"{_quoted(text)} is the name of class {whole[0]}, and names the classes "
            f"{', '.join(map(str, listed))} as a list; use numbers"
        )
    return find_classes(labels, [text])


def _find_class(labels: Sequence[str], text: str) -> int:
    if not labels:
        raise LabelError(f"the model has no labels, so {_quoted(text)} cannot be found; use numbers")
    if re.fullmatch(r"-?\d+", text):
        return _numbered(labels, text)
    names = [[name.lower() for name in names_of(label)] for label in labels]
    key = text.lower()
    # A class's first name is what tables show, so it wins over another class's synonym.
    found = [number for number, own in enumerate(names) if own[0] == key or key == ", ".join(own)]
    found = found or [number for number, own in enumerate(names) if key in own]
    if len(found) == 1:
        return found[0]
    if found:
        choices = "; ".join(f"{number} ({printable(labels[number], 80)})" for number in found[:LISTED])
        more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
        raise LabelError(f"{_quoted(text)} names several classes, use a number: {choices}{more}")
    known = sorted({name for own in names for name in own}) if len(key) <= LONGEST_GUESSED else []
    close = difflib.get_close_matches(key, known)
    hint = f"; did you mean {', '.join(printable(name, 80) for name in close)}?" if close else ""
    raise LabelError(f"no class is called {_quoted(text)}{hint}")


def _numbered(labels: Sequence[str], text: str) -> int:
    """Returns the class of that decimal number, unless another class has the number for a name."""
    if len(text) > LONGEST_NUMBER or not 0 <= int(text) < len(labels):
        raise LabelError(f"class {printable(text, 20)} does not exist; the model has classes 0 to {len(labels) - 1}")
    number = int(text)
    if text in labels and labels[number] != text:
        raise LabelError(
            f"{text} is the number of class {number} ({printable(labels[number], 80)}) and the name of class "
            f"{list(labels).index(text)}; use the other's name or number"
        )
    return number


def _quoted(text: str) -> str:
    return printable(repr(text), 80)


@functools.cache
def _synsets() -> frozenset[str]:
    return frozenset(imagenet_labels())


def _imagenet() -> str:
    return importlib.resources.files("camjax").joinpath("data/imagenet1k.txt").read_text("utf-8").strip()
