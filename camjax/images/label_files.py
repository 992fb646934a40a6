"""Files of class names as people have them: lists, tables with numbers, and JSON; untrusted.

A file is read by its numbers wherever it has any, whatever its order; one that can be read in two ways is refused.
"""

import codecs
import csv
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from camjax.errors import LabelError, printable
from camjax.files import read_regular

LARGEST = 2**23
"""Bytes of a file; 22,000 synsets have 2 MB."""

LONGEST = 4096
"""Letters of a label."""

SEPARATORS = ("\t", ",", ";", ":", " ")
"""Between a number and a name. A space stands for any run of white space."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NUMBER = re.compile(r"[0-9]{1,9}")
_SYNSET_ID = re.compile(r"n\d{8}\s+")


class _Table(NamedTuple):
    """Lines that were divided into a number and a name each.

    Attributes:
        separator: One of `SEPARATORS`.
        numbers: Number of each line.
        names: Name of each line.
    """

    separator: str
    numbers: list[int]
    names: list[str]


def read_label_file(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Reads the labels of all classes, in their order.

    The file is a list of one label a line, where WordNet ids before all of them are dropped (`synset.txt`); a table of
    a number and a name a line, in either order, divided by a tab, comma, semicolon, colon or white space, with or
    without a header; or JSON: a list, `id2label` or `class_to_idx`. Text is UTF-8, or UTF-16 with a byte-order mark.

    Args:
        path: Path of a regular file of at most `LARGEST` bytes.

    Raises:
        LabelError: The file cannot be read, holds no list of labels, can be read in two ways, or its numbers are not
            0 to n - 1, each once.
    """
    try:
        text = _decoded(read_regular(path, LARGEST))
        labels = _from_json(text) if _is_json(text, Path(path)) else parse_labels(text)
        return tuple(_checked(labels))
    except OSError as error:
        raise LabelError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except LabelError as error:
        raise LabelError(f"{path}: {error}") from error


def parse_labels(text: str) -> tuple[str, ...]:
    """Reads labels from the text of a list or table; see `read_label_file`.

    Raises:
        LabelError: There is no line, an empty one among the others, or the lines can be read in two ways.
    """
    lines = [line.strip() for line in text.strip().splitlines()]
    if not lines:
        raise LabelError("the list of labels is empty; it needs one label a line")
    if "" in lines:
        raise LabelError(f"the list of labels has an empty line, number {lines.index('') + 1}")
    if all(map(_NUMBER.fullmatch, lines)):
        raise LabelError(
            "every line is a number, which may be a label or a class; write a JSON list of labels, or lines such as "
            "0,NAME"
        )
    for separator in SEPARATORS:
        if (table := _table(lines, separator)) is not None:
            return tuple(_by_number(table.numbers, table.names))
    return tuple(without_synset_ids(lines))


def without_synset_ids(lines: Sequence[str]) -> list[str]:
    """Removes the WordNet ids from lines that all begin with one, as those of a `synset.txt` do.

    Args:
        lines: Lines of a list of labels.

    Returns:
        The names behind the ids, or the lines as they are where one has no id.
    """
    if not all(_SYNSET_ID.match(line) for line in lines):
        return list(lines)
    return [_SYNSET_ID.sub("", line, count=1) for line in lines]


def _decoded(data: bytes) -> str:
    encoding = next((name for mark, name in _BOMS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise LabelError(f"is not {name} (byte {error.start}: {error.reason}); save it as UTF-8") from error
    if "\0" in text:
        raise LabelError("holds zero bytes, as UTF-16 without a byte-order mark does; save it as UTF-8")
    return text


def _is_json(text: str, path: Path) -> bool:
    """Tells JSON by the file's name, or by a text that is JSON; a label may begin with a bracket, too."""
    if path.suffix.lower() == ".json":
        return True
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _from_json(text: str) -> list[str]:
    try:
        document = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise LabelError(f"is not JSON ({error})") from error
    if isinstance(document, dict) and isinstance(document.get("id2label"), dict):
        document = document["id2label"]
    if isinstance(document, list):
        return [_name(value) for value in document]
    if not isinstance(document, dict) or not document:
        raise LabelError("its JSON is neither a list of names nor an object with names and numbers")
    numbered, valued = (all(map(_is_number, part)) for part in (document.keys(), document.values()))
    if numbered and valued:
        raise LabelError("its names are numbers as its keys are; which is which cannot be told")
    if numbered:
        return _by_number([int(key) for key in document], [_name(value) for value in document.values()])
    if valued:
        return _by_number([int(value) for value in document.values()], list(document))
    raise LabelError("its JSON is neither a list of names nor an object with names and numbers")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise LabelError("its JSON has the same key twice")
    return found


def _is_number(value: object) -> bool:
    return (type(value) is int and value >= 0) or (isinstance(value, str) and bool(_NUMBER.fullmatch(value)))


def _name(value: object) -> str:
    """Returns a text, or the second of a WordNet id and a name, as Keras' `imagenet_class_index.json` has them."""
    if isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value):
        value = value[1] if re.fullmatch(r"n\d{8}", value[0]) else value
    if not isinstance(value, str):
        raise LabelError(f"{_shown(value)} is not a name")
    return value


def _table(lines: Sequence[str], separator: str) -> _Table | None:
    """Divides lines into numbers and names; None where they are not divided so.

    A number of white space proves little: names end in numbers, too. There, the numbers have to be those of the
    classes, and the names differ.

    Raises:
        LabelError: Both columns are numbers, there are more than two, or the numbers look like those of classes and
            are not.
    """
    rows = _rows(lines, separator)
    if rows is None:
        return None
    is_number = [[bool(_NUMBER.fullmatch(cell)) for cell in row] for row in rows]
    headed = len(rows) > 1 and not any(is_number[0])
    body, is_number = (rows[1:], is_number[1:]) if headed else (rows, is_number)
    first, last = (all(flags[place] for flags in is_number) for place in (0, -1))
    if not (first or last):
        return None
    if any(len(row) != 2 for row in rows):
        raise LabelError(
            f"has lines of more than two columns divided by {separator!r}; keep a number and a name, and put names "
            "that contain it between quotation marks"
        )
    if first and last:
        raise LabelError("both columns are numbers; which are the classes cannot be told")
    numbers = [int(row[0 if first else 1]) for row in body]
    names = [row[1 if first else 0] for row in body]
    if separator == " ":
        distinct = len({*names}) == len(names)
        if sorted(numbers) == list(range(len(numbers))):
            return _Table(separator, numbers, names) if distinct and not headed else None
        likely = len({*numbers}) == len(numbers) and max(numbers) < 2 * len(numbers)
        if not (distinct and likely):
            return None
    return _Table(separator, numbers, names)


def _rows(lines: Sequence[str], separator: str) -> list[list[str]] | None:
    """Returns the cells of each line; None where a line has only one."""
    if separator == " ":
        parts = [re.fullmatch(r"([0-9]{1,9})\s+(.+)|(.+?)\s+([0-9]{1,9})", line) for line in lines]
        rows = [[cell for cell in part.groups() if cell is not None] if part else [] for part in parts]
    elif separator == ":":
        rows = [[cell.strip() for cell in _at_colon(line)] for line in lines]
    else:
        try:
            rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator, strict=True)]
        except csv.Error:
            return None
    return None if any(len(row) < 2 for row in rows) or len(rows) != len(lines) else rows


def _at_colon(line: str) -> list[str]:
    """Divides a line at the colon beside its number, since names contain colons, too."""
    head, _, tail = line.partition(":")
    if _NUMBER.fullmatch(head.strip()):
        return [head, tail]
    head, found, tail = line.rpartition(":")
    return [head, tail] if found else [line]


def _by_number(numbers: Iterable[int], names: Sequence[str]) -> list[str]:
    by_number = dict(zip(numbers, names, strict=True))
    if sorted(by_number) != list(range(len(names))):
        least, most = min(by_number), max(by_number)
        why = f"are from {least} to {most}" if len(by_number) == len(names) else "are not all different"
        raise LabelError(f"the numbers of its {len(names)} classes {why}; they have to be 0 to {len(names) - 1}")
    return [by_number[number] for number in range(len(names))]


def _checked(labels: Sequence[str]) -> Sequence[str]:
    if not labels:
        raise LabelError("the list of labels is empty")
    for label in labels:
        if not label.strip() or len(label) > LONGEST or any(0xD800 <= ord(letter) < 0xE000 for letter in label):
            raise LabelError(f"{_shown(label)} is not a label of 1 to {LONGEST} letters")
    return labels


def _shown(value: object) -> str:
    return printable(repr(value), 80)
