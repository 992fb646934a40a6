"""Files of ground truth: what they claim about evaluated images, and CSV files of classes and boxes.

Each file is read as a stream into claims about evaluated images; entries of other images are counted and dropped, so
that a file that describes a whole data set costs little beside a few images of it. Whether a claim can be true is not
decided here. What is kept of a file is bounded by `MAX_BYTES` and `MAX_CLAIMS`.
"""

import csv
import io
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from camjax.errors import CamjaxError, printable
from camjax.evaluate.image_index import MAX_NAME, AmbiguousNameError, ImageIndex
from camjax.files import open_regular

Box = tuple[float, float, float, float]
"""Top, left, bottom, right, in the image's pixels from its upper left corner."""

IMAGE = ("path", "image", "picture", "file", "filename")
CLASS = ("class", "label", "name")
SIDES = (("top", "left", "bottom", "right"), ("ymin", "xmin", "ymax", "xmax"), ("y", "x", "height", "width"))
"""Names of columns; the first of these that is there. The last ones have sizes, not ends."""

MAX_BYTES = 2**30
"""Size of a CSV or COCO file: twice that of COCO's largest."""
MAX_CLAIMS = 1_000_000
"""Entries of evaluated images in one file; COCO's whole training set has 860,001."""
MAX_LINE = 2**20
"""Characters of a line of a CSV."""
MAX_LABEL = 500
"""Characters of a class's name that are kept; a longer one is of no class."""


class TruthError(CamjaxError, ValueError):
    """A file of ground truth cannot be read."""


class Claim(NamedTuple):
    """What a file says about an evaluated image.

    Attributes:
        where: File and line, annotation or object, for errors.
        image: Name of the image as the file has it.
        label: Name or number of the class; empty for the class that is explained, whichever it is.
        box: Box around the object, or None.
    """

    where: str
    image: str
    label: str
    box: Box | None = None


class Selection:
    """Tells which entries of one file are of evaluated images, and counts the others.

    Attributes:
        skipped: Number of entries of images that are not evaluated.
        example: Name of the first such image.
        matched: Whether a name was that of an evaluated image.
    """

    def __init__(self, index: ImageIndex) -> None:
        self._index = index
        self.skipped = 0
        self.example = ""
        self.matched = False

    def has(self, name: str) -> bool:
        """Returns whether a name may be that of an evaluated image, also where it fits several."""
        try:
            found = self._index.find(name) is not None
        except AmbiguousNameError:
            found = True
        self.matched = self.matched or found
        return found

    def skip(self, name: str) -> None:
        """Counts an entry of an image that is not evaluated."""
        self.skipped += 1
        self.example = self.example or name[:MAX_NAME]

    def keeps(self, name: str) -> bool:
        """Returns what `has` does, and counts the entry where it is not."""
        kept = self.has(name)
        if not kept:
            self.skip(name)
        return kept


def read_image_labels(path: Path, selection: Selection) -> Iterator[Claim]:
    """Reads a CSV with a header and columns of the images and their classes.

    Args:
        path: The file, UTF-8, or UTF-16 with a byte order mark.
        selection: Decides by an image's name whether its entries are kept.

    Raises:
        TruthError: the file is missing, damaged or too large, or a column is missing.
    """
    rows = _csv_rows(path)
    _, names = next(rows)
    image, label = _column(path, names, IMAGE), _column(path, names, CLASS)
    for where, row in rows:
        if selection.keeps(row[image]):
            yield Claim(where, row[image], row[label][:MAX_LABEL])


def open_truth(path: Path, max_bytes: int) -> io.BufferedReader:
    """Opens a file of ground truth, without waiting for a pipe or device to answer.

    Args:
        path: The file.
        max_bytes: Largest size of the file that is accepted.

    Raises:
        TruthError: the file is missing, may not be read, is a folder, pipe or device, or is too large.
    """
    name = printable(os.fspath(path))
    try:
        file = open_regular(path)
    except (OSError, ValueError) as error:
        text = getattr(error, "strerror", None) or error
        raise TruthError(f"{name}: cannot be read ({text}); check the path") from error
    size = os.fstat(file.fileno()).st_size
    if size <= max_bytes:
        return file
    file.close()
    raise TruthError(f"{name}: has {size:,} bytes, of at most {max_bytes:,}; keep what your images need")


def read_csv_boxes(path: Path, selection: Selection) -> Iterator[Claim]:
    """Reads a CSV with a header, a column of the images, four of the boxes' sides and perhaps one of classes.

    Args:
        path: The file, UTF-8, or UTF-16 with a byte order mark.
        selection: Decides by an image's name whether its entries are kept.

    Raises:
        TruthError: the file is missing, damaged or too large, a column is missing, or a side is no number.
    """
    rows = _csv_rows(path)
    _, names = next(rows)
    image = _column(path, names, IMAGE)
    label = next((names.index(name) for name in CLASS if name in names), None)
    sides = next((four for four in SIDES if all(side in names for side in four)), None)
    if sides is None:
        choices = ", or ".join(",".join(four) for four in SIDES)
        raise TruthError(f"{path}: has no columns for boxes; it needs {choices}")
    columns = [names.index(side) for side in sides]
    for where, row in rows:
        if not selection.keeps(row[image]):
            continue
        try:
            top, left, bottom, right = (float(row[column]) for column in columns)
        except ValueError:
            raise TruthError(f"{where}: a side of the box is no number; mend it") from None
        if sides == SIDES[-1]:
            bottom, right = top + bottom, left + right
        yield Claim(where, row[image], "" if label is None else row[label][:MAX_LABEL], (top, left, bottom, right))


def _csv_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The header in lower case, then each row with where it is; there is at least one row."""
    with open_truth(path, MAX_BYTES) as file:
        encoding = "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        file.seek(0)
        with io.TextIOWrapper(file, encoding, newline="") as text:
            reader = csv.reader(_lines(path, text))
            rows = (row for row in reader if row)
            try:
                header, first = next(rows, []), next(rows, None)
                if first is None:
                    raise TruthError(
                        f"{path}: is empty; it needs a header such as path,class and a line for each image"
                    )
                yield str(path), [name.strip().lower() for name in header]
                for row in itertools.chain([first], rows):
                    where = f"{path} line {reader.line_num}"
                    if len(row) != len(header):
                        raise TruthError(f"{where}: does not have the header's {len(header)} columns; mend it")
                    yield where, [value.strip() for value in row]
            except (csv.Error, UnicodeError) as error:
                where = f"{path} line {reader.line_num + 1}"
                raise TruthError(f"{where}: is damaged ({reason(error)}); mend it") from error


def _lines(path: Path, text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise TruthError(f"{path}: has a line of more than {MAX_LINE:,} characters; it is no table")
        yield line


def _column(path: Path, names: Sequence[str], accepted: Sequence[str]) -> int:
    for name in accepted:
        if names.count(name) > 1:
            raise TruthError(f"{path}: has {names.count(name)} columns {name}; remove all but one")
        if name in names:
            return names.index(name)
    there = ", ".join(printable(name, 20) for name in names[:10]) or "none"
    raise TruthError(
        f"{path}: its first line must name the columns, such as path,class, and has no column {' or '.join(accepted)} "
        f"among {there}; classes are names, WordNet ids or numbers from 0, not ILSVRC's own numbers"
    )


def reason(error: Exception) -> str:
    """Returns what a parser says of a damaged file, as one bounded line."""
    return printable(" ".join(str(error).split()), 120) or type(error).__name__
