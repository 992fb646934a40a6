"""Files of class names as people have them: lists, tables with numbers, JSON and Python literals; untrusted.

A file is read by its numbers wherever it has any, whatever its order; one that can be read in two ways is refused.
"""

import codecs
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from camjax.errors import LabelError
from camjax.files import read_regular
from camjax.images.label_tables import by_number, checked, parse_labels, shown

LARGEST = 2**23
"""Bytes of a file; 22,000 synsets have 2 MB."""

MAPPINGS = ("id2label", "label2id", "class_to_idx", "label_names", "labels", "names", "classes")
"""Keys of a JSON object behind which the names stand; the first that is there counts."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NUMBER = re.compile(r"[0-9]{1,9}")
_TEXT = r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*\""""
_PAIR = re.compile(rf"\s*([0-9]{{1,9}}|{_TEXT})\s*:\s*([0-9]{{1,9}}|{_TEXT})\s*(?:,|\Z)")
_ITEM = re.compile(rf"\s*({_TEXT})\s*(?:,|\Z)")


def read_label_file(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Reads the labels of all classes, in their order.

    The file is a list of one label a line, where WordNet ids before all of them are dropped (`synset.txt`), and a first
    line such as `label` (`HEADERS`); a table of a number and a name a line, in either order, divided by one of `CELLS`
    or `PATTERNS`, with or without a header; JSON: a list, `id2label`, `label2id` or `class_to_idx`; or a list or
    dictionary as Python prints it. Text is UTF-8, or UTF-16 with a byte-order mark.

    Args:
        path: Path of a regular file of at most `LARGEST` bytes.

    Raises:
        LabelError: The file cannot be read, holds no list of labels, can be read in two ways, or its numbers are not
            0 to n - 1, each once.
    """
    try:
        text = _decoded(read_regular(path, LARGEST))
        if _is_json(text, Path(path)):
            labels: Sequence[str] = _from_json(text)
        elif (literal := _literal(text)) is not None:
            labels = _from_document(literal)
        else:
            labels = parse_labels(text)
        return tuple(checked(labels))
    except OSError as error:
        raise LabelError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except LabelError as error:
        raise LabelError(f"{path}: {error}") from error


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
    return _from_document(document)


def _from_document(document: Any) -> list[str]:  # noqa: ANN401
    if isinstance(document, dict):
        inner = (document.get(key) for key in MAPPINGS)
        document = next((value for value in inner if isinstance(value, dict | list)), document)
    if isinstance(document, list):
        return [_name(value) for value in document]
    if not isinstance(document, dict) or not document:
        raise LabelError("its JSON is neither a list of names nor an object with names and numbers")
    numbered, valued = (all(map(_is_number, part)) for part in (document.keys(), document.values()))
    if numbered and valued and any(str(key) != str(value) for key, value in document.items()):
        raise LabelError("its names are numbers as its keys are; which is which cannot be told")
    if numbered:
        names = map(str, document.values()) if valued else map(_name, document.values())
        return by_number([int(key) for key in document], list(names))
    if valued:
        return by_number([int(value) for value in document.values()], list(document))
    raise LabelError("its JSON is neither a list of names nor an object with names and numbers")


def _without_repeats(pairs: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
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
        raise LabelError(f"{shown(value)} is not a name")
    return value


def _literal(text: str) -> Any:  # noqa: ANN401
    """Returns a dictionary or list of names as Python prints it, or None for any other text; nothing is evaluated.

    The best-known file of ImageNet's names has this form: `{0: 'tench, Tinca tinca', 1: 'goldfish'}`.

    Raises:
        LabelError: A key stands there twice.
    """
    text = text.strip()
    pattern = {("{", "}"): _PAIR, ("[", "]"): _ITEM}.get((text[:1], text[-1:]))
    if pattern is None:
        return None
    body, position, found = text[1:-1].strip(), 0, []
    while position < len(body):
        match = pattern.match(body, position)
        if match is None:
            return None
        position = match.end()
        found.append(tuple(map(_python_text, match.groups())))
    if pattern is _ITEM:
        return [name for (name,) in found]
    return _without_repeats(found)


def _python_text(token: str) -> str:
    """Returns the value of a number or text, in which a backslash may precede a quotation mark or a backslash."""
    return re.sub(r"\\([\\'\"])", r"\1", token[1:-1]) if token[0] in "'\"" else token
