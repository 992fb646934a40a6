"""Text with the names of classes: one a line, or a table of numbers and names in any form that people write.

A table is read by its numbers, whatever its order; text that can be read in two ways is refused.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from camjax.errors import LabelError, printable

LONGEST = 4096
"""Letters of a label."""

CELLS = ("\t", ",", ";", "|")
"""Separators of tables, in which cells may be quoted."""
_N = r"([0-9]{1,9}(?:\.0{1,9})?)"
PATTERNS = {
    ":": (rf"{_N}\s*:(.*)", rf"(.*):\s*{_N}", r"(.*?):(.*)"),
    "=": (rf"{_N}\s*=(.*)", rf"(.*)=\s*{_N}", r"(.*?)=(.*)"),
    ".": (rf"{_N}\.\s+(.+)",),
    ")": (rf"\(?{_N}\)(.+)",),
    "]": (rf"\[{_N}\]:?(.+)",),
    "-": (rf"{_N}\s+[-\u2013\u2014]\s+(.+)",),
    " ": (rf"{_N}\s+(.+)", r"(.*\S)\s+([0-9]{1,9})"),
}
"""Other separators between a number and a name, and how a line may be divided by them; the first that fits counts.
A space stands for any run of white space. All take time in proportion to the line, whatever it holds."""
HEADERS = frozenset({"label", "labels", "label name", "class", "classes", "class name", "name", "names", "category"})
"""First lines that are no class where each line is one name; `_` stands for a space, too."""
_NUMBER = re.compile(r"[0-9]{1,9}")
_INDEX = re.compile(_N)
_NUMERIC = re.compile(r"[-+]?[0-9.]+")
_SYNSET_ID = re.compile(r"n\d{8}\s+")


class _Table(NamedTuple):
    """Lines that were divided into a number and a name each.

    Attributes:
        separator: One of `CELLS`, or a key of `PATTERNS`.
        numbers: Number of each line.
        names: Name of each line.
    """

    separator: str
    numbers: list[int]
    names: list[str]


def parse_labels(text: str) -> tuple[str, ...]:
    """Reads labels from the text of a list or table; see `read_label_file`.

    Raises:
        LabelError: There is no line, an empty one among the others, or the lines can be read in two ways.
    """
    lines = [line.strip() for line in text.strip().splitlines()]
    if not lines:
        raise LabelError("the list of labels is empty; it needs one label a line")
    if lines == [str(number) for number in range(len(lines))]:
        return tuple(lines)  # digits: a number is its own name
    if all(map(_NUMBER.fullmatch, lines)):
        raise LabelError(
            "every line is a number, which may be a label or a class; write a JSON list of labels, or lines such as "
            "0,NAME"
        )
    for separator in (*CELLS, *PATTERNS):
        if (table := _table(text, lines, separator)) is not None:
            return tuple(by_number(table.numbers, table.names))
    if "" in lines:
        raise LabelError(f"the list of labels has an empty line, number {lines.index('') + 1}")
    checked(lines)
    _check_plain(lines)
    for separator in (*CELLS, *PATTERNS):
        _check_not_numbered(lines, separator)
    names = without_synset_ids(_unquoted(lines))
    return tuple(names[1:] if len(names) > 1 and names[0].lower().replace("_", " ") in HEADERS else names)


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


def _table(text: str, lines: Sequence[str], separator: str) -> _Table | None:
    """Divides lines into numbers and names; None where they are not divided so.

    A number of white space proves little: names end in numbers, too. There, the numbers have to be those of the
    classes, and the names differ.

    Raises:
        LabelError: Both columns are numbers, there are more than two, or the numbers look like those of classes and
            are not.
    """
    rows = _rows(text, lines, separator)
    if rows is None:
        return None
    is_number = [[bool(_INDEX.fullmatch(cell)) for cell in row] for row in rows]
    headed = len(rows) > 1 and not any(map(_NUMERIC.fullmatch, rows[0]))
    body, is_number = (rows[1:], is_number[1:]) if headed else (rows, is_number)
    first, last = (all(flags[place] for flags in is_number) for place in (0, -1))
    if not (first or last):
        return None
    if any(len(row) != 2 for row in rows):
        raise LabelError(
            f"has lines of more than two columns divided by {separator!r}; keep a number and a name, and put names "
            "that contain it between quotation marks"
        )
    if first and last and any(one != other for one, other in body):
        raise LabelError("both columns are numbers; which are the classes cannot be told")
    numbers = [int(float(row[0 if first else 1])) for row in body]
    names = [row[1 if first else 0] for row in body]
    if separator == " ":
        distinct = len({*names}) == len(names)
        if sorted(numbers) == list(range(len(numbers))):
            return _Table(separator, numbers, names) if distinct and not headed else None
        likely = len({*numbers}) == len(numbers) and max(numbers) < 2 * len(numbers)
        if not (distinct and likely):
            return None
    return _Table(separator, numbers, names)


def _rows(text: str, lines: Sequence[str], separator: str) -> list[list[str]] | None:
    """Returns the cells of each line, with line breaks in quoted ones as spaces; None where a line has only one."""
    if separator in CELLS:
        reader = csv.reader(io.StringIO(text.lstrip("\r\n ").rstrip(), newline=""), delimiter=separator, strict=True)
        try:
            rows = [[" ".join(cell.splitlines()).strip() for cell in row] for row in reader]
        except csv.Error:
            return None
    else:
        rows = [_divided(line, separator) for line in lines]
    return None if any(len(row) < 2 for row in rows) else rows


def _divided(line: str, separator: str) -> list[str]:
    """Divides a line at the separator beside its number, since names contain separators, too."""
    if separator in CELLS:
        return [cell.strip() for cell in line.split(separator)]
    matches = (re.fullmatch(pattern, line) for pattern in PATTERNS[separator])
    match = next(filter(None, matches), None)
    return [cell.strip() for cell in match.groups()] if match else []


def _check_not_numbered(lines: Sequence[str], separator: str) -> None:
    """Refuses lines that are no table, but of which most are a number and a name.

    Raises:
        LabelError: More than half of the lines are, or half of them in the order of their numbers; of white space,
            only those in order and of different names.
    """
    rows = {place: cells for place, line in enumerate(lines) if len(cells := _divided(line, separator)) == 2}
    columns = [{place: cells for place, cells in rows.items() if _INDEX.fullmatch(cells[side])} for side in (0, 1)]
    side = 0 if len(columns[0]) >= len(columns[1]) else 1
    numbered = columns[side]
    steps = {int(float(cells[side])) - place for place, cells in numbered.items()}
    ordered = len(steps) == 1 and abs(min(steps)) <= 1
    distinct = len({cells[1 - side] for cells in numbered.values()}) == len(numbered)
    if separator == " " and not (ordered and distinct):
        return
    if len(lines) > 1 and (2 * len(numbered) > len(lines) or (ordered and 2 * len(numbered) == len(lines))):
        other = next(place for place in range(len(lines)) if place not in numbered)
        raise LabelError(
            f"{len(numbered)} of {len(lines)} lines are a number and a name divided by {separator!r}, but line "
            f"{other + 1}, {shown(lines[other])}, is not; mend it, or write a JSON list of labels"
        )


def _check_plain(lines: Sequence[str]) -> None:
    """Refuses YAML and lines of JSON, whose syntax would become part of the labels.

    Raises:
        LabelError: The lines look like either.
    """
    keys = any(re.match(r"(names|classes|labels)\s*:", line) for line in lines)
    if keys or all(line.startswith("- ") for line in lines):
        raise LabelError("looks like YAML, of which only lines such as '0: NAME' are read; write a JSON list of labels")
    if all(line.startswith("{") and line.endswith("}") and ":" in line for line in lines):
        raise LabelError("looks like JSON objects or Python dictionaries that camjax does not read; write a JSON list")


def _unquoted(lines: Sequence[str]) -> list[str]:
    """Removes the quotation marks of a table of one column, where some names have them around and none inside."""
    quoted = [re.fullmatch(r'"((?:[^"]|"")*)"', line) for line in lines]
    if not any(quoted) or any('"' in line for line, match in zip(lines, quoted, strict=True) if not match):
        return list(lines)
    return [match[1].replace('""', '"').strip() if match else line for line, match in zip(lines, quoted, strict=True)]


def by_number(numbers: Iterable[int], names: Sequence[str]) -> list[str]:
    """Returns names in the order of their numbers.

    Raises:
        LabelError: The numbers are not 0 to n - 1, each once.
    """
    found = dict(zip(numbers, names, strict=True))
    if sorted(found) != list(range(len(names))):
        least, most = min(found), max(found)
        why = f"are from {least} to {most}" if len(found) == len(names) else "are not all different"
        raise LabelError(f"the numbers of its {len(names)} classes {why}; they have to be 0 to {len(names) - 1}")
    return [found[number] for number in range(len(names))]


def checked(labels: Sequence[str]) -> Sequence[str]:
    """Returns labels as they are.

    Raises:
        LabelError: There is none, or one is empty, longer than `LONGEST` or no valid Unicode.
    """
    if not labels:
        raise LabelError("the list of labels is empty")
    for label in labels:
        if not label.strip() or len(label) > LONGEST or any(0xD800 <= ord(letter) < 0xE000 for letter in label):
            raise LabelError(f"{shown(label)} is not a label of 1 to {LONGEST} letters")
    return labels


def shown(value: object) -> str:
    """Returns an untrusted value for an error message, on one line and not too long."""
    return printable(repr(value), 80)
