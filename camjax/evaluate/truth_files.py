"""Ground truth in the forms that people have: lists of classes and boxes as CSV, COCO's JSON, Pascal VOC's XML.

Each file is read into claims, one a line, annotation or object; whether they fit the pictures is not asked here.
"""

import csv
import json
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from camjax.errors import CamjaxError
from camjax.files import read_text

Box = tuple[float, float, float, float]
"""Top, left, bottom, right, in the picture's pixels from its upper left corner."""

LARGEST_FILE = 2**30
"""Bytes of a file of ground truth; COCO's largest has less than half."""
PICTURE = ("path", "image", "picture", "file", "filename")
CLASS = ("class", "label", "name")
SIDES = (("top", "left", "bottom", "right"), ("ymin", "xmin", "ymax", "xmax"), ("y", "x", "height", "width"))
"""What columns are called; the first of these that is there. The last ones have sizes, not ends."""


class TruthError(CamjaxError, ValueError):
    """A file of ground truth cannot be read."""


class Claim(NamedTuple):
    """What a file says of a picture.

    Attributes:
        where: in which file and where in it, for errors.
        picture: as the file names it.
        label: a class's name or number; empty for the class that is explained, whichever it is.
        box: where it is, or None.
    """

    where: str
    picture: str
    label: str
    box: Box | None = None


def read_labels_of_pictures(path: Path) -> list[Claim]:
    """A CSV with a header and columns of the pictures and their classes.

    Raises:
        TruthError: it is missing, damaged, or a column is.
    """
    rows = _rows(path)
    picture, label = _column(path, rows[0][1], PICTURE), _column(path, rows[0][1], CLASS)
    return [Claim(where, row[picture], row[label]) for where, row in rows]


def read_boxes(path: Path) -> list[Claim]:
    """Boxes: a CSV with a header; COCO's JSON; a Pascal VOC XML file, or a folder of them.

    Raises:
        TruthError: it is missing, damaged, of another kind, or has no such columns.
    """
    if path.is_dir():
        files = sorted(path.rglob("*.xml"))
        if not files:
            raise TruthError(f"{path}: there is no .xml file of boxes in this folder")
        return [claim for file in files for claim in _voc(file)]
    readers = {".csv": _csv, ".json": _coco, ".xml": _voc}
    if path.suffix.lower() not in readers:
        raise TruthError(f"{path}: boxes are a .csv, COCO's .json, Pascal VOC's .xml, or a folder of these")
    return list(readers[path.suffix.lower()](path))


def _csv(path: Path) -> Iterator[Claim]:
    rows = _rows(path)
    names = rows[0][1]
    picture = _column(path, names, PICTURE)
    label = next((name for name in CLASS if name in names), None)
    sides = next((four for four in SIDES if all(side in names for side in four)), None)
    if sides is None:
        choices = ", or ".join(",".join(four) for four in SIDES)
        raise TruthError(f"{path}: has no columns for boxes; it needs {choices}")
    for where, row in rows:
        try:
            top, left, bottom, right = (float(row[side]) for side in sides)
        except (TypeError, ValueError):
            raise TruthError(f"{where}: a side of the box is no number; mend it") from None
        if sides == SIDES[-1]:
            bottom, right = top + bottom, left + right
        yield Claim(where, row[picture], row[label] if label else "", (top, left, bottom, right))


def _coco(path: Path) -> Iterator[Claim]:
    document = _parsed(path, json.loads)
    try:
        names = {image["id"]: str(image["file_name"]) for image in document["images"]}
        classes = {category["id"]: str(category["name"]) for category in document["categories"]}
        for number, annotation in enumerate(document["annotations"]):
            if annotation.get("iscrowd"):
                continue
            left, top, width, height = map(float, annotation["bbox"])
            where = f"{path} annotation {annotation.get('id', number)}"
            picture = names.get(annotation["image_id"], f"of id {annotation['image_id']}")
            label = classes.get(annotation["category_id"], f"category {annotation['category_id']}")
            yield Claim(where, picture, label, (top, left, top + height, left + width))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TruthError(f"{path}: is not as COCO's instances are ({type(error).__name__}: {error})") from error


def _voc(path: Path) -> Iterator[Claim]:
    root = _parsed(path, ElementTree.fromstring)
    name = (root.findtext("filename") or path.stem).strip()
    try:
        for number, thing in enumerate(root.iter("object"), 1):
            left, top, right, bottom = (
                float(thing.findtext(f"bndbox/{side}") or "") for side in ("xmin", "ymin", "xmax", "ymax")
            )
            # Its pixels count from 1, and the last one is the box's own.
            label = (thing.findtext("name") or "").strip()
            yield Claim(f"{path} object {number}", name, label, (top - 1, left - 1, bottom, right))
    except ValueError as error:
        raise TruthError(f"{path}: has a box without its four sides; mend it") from error


def _rows(path: Path) -> list[tuple[str, dict[str, str]]]:
    """A table's lines with where they are, at least one."""
    lines = _parsed(path, str.splitlines)
    reader = csv.DictReader(lines)
    names = [name.strip().lower() for name in reader.fieldnames or ()]
    reader.fieldnames = names
    rows = []
    for row in reader:
        where = f"{path} line {reader.line_num}"
        if None in row or None in row.values():
            raise TruthError(f"{where}: does not have the header's {len(names)} columns; mend it")
        rows.append((where, {name: value.strip() for name, value in row.items()}))
    if not rows:
        raise TruthError(f"{path}: is empty; it needs a header such as path,class and a line for each picture")
    return rows


def _column(path: Path, row: dict[str, str], wanted: Sequence[str]) -> str:
    for name in wanted:
        if name in row:
            return name
    raise TruthError(f"{path}: has no column {' or '.join(wanted)} among {', '.join(row) or 'none'}")


def _parsed(path: Path, parse: Any) -> Any:  # noqa: ANN401
    try:
        return parse(read_text(path, limit=LARGEST_FILE))
    except OSError as error:
        raise TruthError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except (ValueError, RecursionError, ElementTree.ParseError, csv.Error) as error:
        reason = " ".join(str(error).split())[:120]
        raise TruthError(f"{os.fspath(path)}: is damaged ({reason}); write it again, as UTF-8") from error
