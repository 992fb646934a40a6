"""Boxes in the formats of COCO (JSON) and Pascal VOC (XML), read as streams that hold one entry at a time."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import ijson

from camjax.errors import printable
from camjax.evaluate.image_index import MAX_NAME, quoted
from camjax.evaluate.truth_files import (
    MAX_BYTES,
    MAX_LABEL,
    Claim,
    Selection,
    TruthError,
    open_truth,
    read_csv_boxes,
    reason,
)

MAX_IMAGES = 2_000_000
"""Images, or categories, that a COCO file lists, evaluated or not."""
MAX_XML_BYTES = 2**23
"""Size of a Pascal VOC file, which describes one image in a few kilobytes."""
MAX_DEPTH = 32
"""Elements of a Pascal VOC file inside one another; the format has 5."""
SIDES = ("xmin", "ymin", "xmax", "ymax")
MAX_SIDES = 5
"""Numbers of a COCO box that are kept, one more than it has."""


def read_boxes(path: Path, selection: Selection) -> Iterator[Claim]:
    """Reads boxes: a CSV with a header, COCO's JSON, a Pascal VOC XML file, or a folder of the latter.

    Args:
        path: The file or folder.
        selection: Decides by an image's name whether its entries are kept.

    Raises:
        TruthError: a file is missing, damaged, too large, of another kind, or has no such columns.
    """
    if path.is_dir():
        files = sorted(path.rglob("*.xml"))
        if not files:
            raise TruthError(f"{path}: there is no .xml file of boxes in this folder")
        return (claim for file in files for claim in _voc(file, selection))
    readers = {".csv": read_csv_boxes, ".json": _coco, ".xml": _voc}
    if path.suffix.lower() not in readers:
        raise TruthError(f"{path}: boxes are a .csv, COCO's .json, Pascal VOC's .xml, or a folder of the latter")
    return readers[path.suffix.lower()](path, selection)


def _coco(path: Path, selection: Selection) -> Iterator[Claim]:
    names: dict[Any, str | None] = {}
    classes: dict[Any, str] = {}
    # The order of the sections is free, and annotations are too many to be kept until the images are known.
    for section, record in _records(path, {"images": ("id", "file_name"), "categories": ("id", "name")}):
        kind, name = ("image", record.get("file_name")) if section == "images" else ("category", record.get("name"))
        number = _identifier(f"{path}: {kind}", record.get("id"))
        if not isinstance(name, str):
            raise TruthError(f"{path}: {kind} {quoted(number)} has no name; COCO files have file_name and name")
        known: dict[Any, Any] = names if section == "images" else classes
        value = name[:MAX_LABEL] if section == "categories" else name if selection.has(name) else None
        if value is None and not selection.example:
            selection.example = name[:MAX_NAME]
        if known.setdefault(number, value) != value:
            raise TruthError(f"{path}: two of its {section} have the id {quoted(number)}; give each its own")
        if len(known) > MAX_IMAGES:
            raise TruthError(f"{path}: has more than {MAX_IMAGES:,} {section}; split it")
    fields = ("id", "image_id", "category_id", "bbox", "iscrowd")
    for count, (_, record) in enumerate(_records(path, {"annotations": fields})):
        number = _identifier(f"{path}: annotation {count} of an image", record.get("image_id"))
        name = names.get(number)
        if name is None:
            selection.skip(f"id {printable(str(number), 60)}")
            continue
        where = f"{path} annotation {quoted(record.get('id', count))}"
        if record.get("iscrowd") not in (None, 0, 1):
            raise TruthError(f"{where}: iscrowd must be 0 or 1, got {quoted(record['iscrowd'])}")
        if not record.get("iscrowd"):
            left, top, width, height = _sides(where, record.get("bbox"))
            category = _identifier(f"{where}: category", record.get("category_id"))
            label = classes.get(category, f"category {quoted(category)}")
            yield Claim(where, name, label, (top, left, top + height, left + width))


def _records(path: Path, sections: dict[str, Sequence[str]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The elements of the arrays of those names, with those of their fields, whatever else the file holds."""
    collector = _Collector(sections)
    with open_truth(path, MAX_BYTES) as file:
        file.seek(3 if file.read(3) == b"\xef\xbb\xbf" else 0)
        try:
            for event, value in ijson.basic_parse(file, use_float=True):
                record = collector.take(event, value)
                if record is not None:
                    yield collector.section, record
        except (ijson.JSONError, UnicodeError, ValueError, ArithmeticError) as error:
            raise TruthError(f"{path}: is damaged ({reason(error)}); write it again, as UTF-8") from error
    if collector.lacking:
        lacking = " or ".join(sorted(collector.lacking))
        raise TruthError(f"{path}: is not as COCO's instances are; it has no list of {lacking}")


class _Collector:
    """Makes records of a JSON document's events: of the elements of some arrays those fields that are needed.

    The document is a map (depth 1) of arrays (depth 2) of maps (depth 3), whose fields are scalars or arrays of them.

    Attributes:
        section: Key of the array that is being read.
        lacking: Arrays that have not been met.
    """

    def __init__(self, sections: dict[str, Sequence[str]]) -> None:
        self._sections = sections
        self._depth = 0
        self._field = ""
        self._record: dict[str, Any] | None = None
        self.section = ""
        self.lacking = set(sections)

    def take(self, event: str, value: Any) -> dict[str, Any] | None:  # noqa: ANN401
        """Takes an event of `ijson.basic_parse`; returns a record where it ends one."""
        if event == "map_key":
            if self._depth == 1:
                self.section = value
            elif self._depth == 3:
                self._field = value
        elif event in ("start_map", "start_array"):
            self._depth += 1
            self._enter(event)
        elif event in ("end_map", "end_array"):
            self._depth -= 1
            if self._depth == 2:
                record, self._record = self._record, None
                return record
        elif self._record is not None and self._field in self._sections[self.section]:
            self._keep(value)
        return None

    def _enter(self, event: str) -> None:
        if self._depth == 2 and event == "start_array":
            self.lacking.discard(self.section)
        elif self._depth == 3 and event == "start_map" and self.section in self._sections.keys() - self.lacking:
            self._record = {}
        elif self._depth == 4 and self._record is not None:
            self._record[self._field] = [] if event == "start_array" else {}

    def _keep(self, value: Any) -> None:  # noqa: ANN401
        assert self._record is not None
        if self._depth == 3:
            self._record[self._field] = value
        elif self._depth == 4 and isinstance(sides := self._record[self._field], list) and len(sides) < MAX_SIDES:
            sides.append(value)


def _identifier(what: str, number: object) -> object:
    if isinstance(number, bool) or not isinstance(number, int | float | str):
        raise TruthError(f"{what}: its id must be a number, got {quoted(number)}")
    return number


def _sides(where: str, box: object) -> list[float]:
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(isinstance(side, int | float) and not isinstance(side, bool) for side in box)
    ):
        raise TruthError(f"{where}: its bbox must be four numbers, left, top, width and height; mend it")
    # Without its C library, ijson reads whole numbers that no float holds.
    return [float(side) if abs(side) < 2**1000 else float("inf") for side in box]


def _voc(path: Path, selection: Selection) -> Iterator[Claim]:
    name = printable(os.fspath(path))
    document = _VocDocument(name)
    with open_truth(path, MAX_XML_BYTES) as file:
        parser = ElementTree.XMLParser(target=document)
        try:
            while chunk := file.read(2**16):
                parser.feed(chunk)
            parser.close()
        except TruthError:
            raise
        except (ElementTree.ParseError, ValueError, LookupError) as error:
            raise TruthError(f"{name}: is damaged ({reason(error)}); write it again") from error
    image = document.image.strip() or path.stem
    if not selection.has(image):
        for _ in document.objects:
            selection.skip(image)
        return
    for number, (label, sides) in enumerate(document.objects, 1):
        where = f"{name} object {number}"
        try:
            left, top, right, bottom = (float(sides[side]) for side in SIDES)
        except (KeyError, ValueError):
            raise TruthError(f"{where}: has a box without its four sides; mend it") from None
        # Its pixels count from 1, and the last one is the box's own.
        yield Claim(where, image, label.strip()[:MAX_LABEL], (top - 1, left - 1, bottom, right))


class _VocDocument:
    """The file name and the objects of a Pascal VOC file, collected while a parser reads it.

    Attributes:
        image: Text of `filename`.
        objects: Name and sides of each `object`.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: list[str] = []
        self._text: list[str] = []
        self.image = ""
        self.objects: list[tuple[str, dict[str, str]]] = []

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """Refuses declarations, whose entities could expand without bound."""
        raise TruthError(f"{self._name}: has a document type declaration; remove the line that begins with <!DOCTYPE")

    def start(self, tag: str, attributes: object) -> None:
        """Enters an element."""
        if len(self._open) == MAX_DEPTH:
            raise TruthError(f"{self._name}: has more than {MAX_DEPTH} elements inside one another; no annotation has")
        self._open.append(tag)
        self._text = []
        if self._open[1:] == ["object"]:
            self.objects.append(("", {}))

    def data(self, text: str) -> None:
        """Takes a part of an element's text."""
        if len(self._text) < MAX_NAME:
            self._text.append(text[:MAX_NAME])

    def end(self, tag: str) -> None:
        """Leaves an element; the first one of its name counts."""
        inside, text = self._open[1:], "".join(self._text)[:MAX_NAME]
        self._open.pop()
        self._text = []
        if inside == ["filename"]:
            self.image = self.image or text
        elif inside == ["object", "name"]:
            name, sides = self.objects[-1]
            self.objects[-1] = (name or text, sides)
        elif inside[:2] == ["object", "bndbox"] and len(inside) == 3 and tag in SIDES:
            self.objects[-1][1].setdefault(tag, text)
