"""Names of classes: reading lists of them, and finding a class by its name or number."""

import difflib
import functools
import importlib.resources
import os
import re
from collections.abc import Iterable, Sequence

from camjax.errors import CamjaxError
from camjax.files import read_text

_SYNSET_ID = re.compile(r"n\d{8}\s+")


class LabelError(CamjaxError, LookupError):
    """A class was asked for that is not among the labels, or a list of labels cannot be used."""


@functools.cache
def imagenet_labels() -> tuple[str, ...]:
    """The 1000 ImageNet classes in the order of the usual weights' logits.

    Each is a synset's names, divided by commas: `"tabby, tabby cat"`.
    """
    return parse_labels(_imagenet())


@functools.cache
def imagenet_ids() -> dict[str, int]:
    """The number of each of those classes by its WordNet id, such as `"n02123045"`, as ImageNet's folders are named."""
    return {line.split()[0]: number for number, line in enumerate(_imagenet().splitlines())}


def parse_labels(text: str) -> tuple[str, ...]:
    """Labels from a text of one a line, as in a `synset.txt`; a WordNet id before the name is dropped.

    Raises:
        LabelError: there is no line, or an empty one among the others.
    """
    lines = [_SYNSET_ID.sub("", line.strip(), count=1) for line in text.strip().splitlines()]
    if not lines:
        raise LabelError("the list of labels is empty; it needs one label a line")
    if "" in lines:
        raise LabelError(f"the list of labels has an empty line, number {lines.index('') + 1}")
    return tuple(lines)


def read_labels(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Labels from a text file, as `parse_labels` takes them.

    Raises:
        LabelError: the file is missing, cannot be read, is not UTF-8, or holds no list of labels.
    """
    try:
        return parse_labels(read_text(path))
    except UnicodeDecodeError as error:
        raise LabelError(f"{path}: is not UTF-8 (byte {error.start}: {error.reason}); save it as UTF-8") from error
    except OSError as error:
        raise LabelError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except LabelError as error:
        raise LabelError(f"{path}: {error}") from error


def _imagenet() -> str:
    return importlib.resources.files("camjax").joinpath("data/imagenet1k.txt").read_text("utf-8").strip()


def short_label(label: str) -> str:
    """The first of a class's names: `"tabby"` of `"tabby, tabby cat"`."""
    return label.split(",")[0].strip()


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


def _find_class(labels: Sequence[str], text: str) -> int:
    if re.fullmatch(r"-?\d+", text):
        if 0 <= int(text) < len(labels):
            return int(text)
        raise LabelError(f"class {text} does not exist; the model has classes 0 to {len(labels) - 1}")
    names = [[name.strip().lower() for name in label.split(",")] for label in labels]
    key = text.lower()
    # A class's first name is what tables show, so it wins over another class's synonym.
    found = [number for number, own in enumerate(names) if own[0] == key or key == ", ".join(own)]
    found = found or [number for number, own in enumerate(names) if key in own]
    if len(found) == 1:
        return found[0]
    if found:
        choices = "; ".join(f"{number} ({labels[number]})" for number in found)
        raise LabelError(f"{text!r} names several classes, use a number: {choices}")
    close = difflib.get_close_matches(key, sorted({name for own in names for name in own}))
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    raise LabelError(f"no class is called {text!r}{hint}")
