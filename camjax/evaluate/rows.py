"""The file that a run appends to, a line for each picture that is finished: what a killed run is gone on with."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from camjax.errors import CamjaxError

ROWS = "rows.jsonl"
DIGITS = 7
"""Of every number that is kept."""

Line = dict[str, Any]


class RowsError(CamjaxError, ValueError):
    """A folder holds the rows of another evaluation."""


class Rows:
    """The lines of a run, those before it came to be and those that it adds.

    Attributes:
        pictures: the finished ones, by their path.
        collages: the finished ones, by the paths of their pictures.
    """

    def __init__(self, folder: Path, settings: Line) -> None:
        """Opens the file, or begins it.

        Args:
            folder: of the report; made when missing.
            settings: what the rows depend on; JSON.

        Raises:
            RowsError: the file is of other settings.
        """
        self.pictures: dict[str, Line] = {}
        self.collages: dict[tuple[str, ...], Line] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / ROWS
        header = json.loads(json.dumps(settings))
        lines, whole = _whole_lines(self._path)
        if lines:
            _check(self._path, lines[0], header)
        for line in lines[1:]:
            self._keep(line)
        self._file: BinaryIO = self._path.open("r+b" if whole else "wb")
        # A line that was cut off by a kill is written again.
        self._file.truncate(whole)
        self._file.seek(whole)
        if not lines:
            self._write([header])

    def add(self, lines: Sequence[Line]) -> None:
        """Adds the lines of a batch, on the disk when this returns."""
        for line in lines:
            self._keep(line)
        self._write(lines)

    def __enter__(self) -> "Rows":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _keep(self, line: Line) -> None:
        if "collage" in line:
            self.collages[tuple(line["collage"])] = line
        else:
            self.pictures[line["picture"]] = line

    def _write(self, lines: Sequence[Line]) -> None:
        text = "".join(json.dumps(line, ensure_ascii=True) + "\n" for line in lines)
        self._file.write(text.encode())
        self._file.flush()
        os.fsync(self._file.fileno())


def number(value: float | np.floating) -> float | None:
    """A number as it is kept; None is NaN."""
    value = float(value)
    return None if value != value else float(f"{value:.{DIGITS}g}")


def _whole_lines(path: Path) -> tuple[list[Line], int]:
    """The lines that can be read, up to the first that cannot, and how many bytes they take."""
    if not path.exists():
        return [], 0
    lines: list[Line] = []
    whole = 0
    for raw in _raw(path):
        try:
            line = json.loads(raw)
        except ValueError:
            break
        if not raw.endswith(b"\n") or not isinstance(line, dict):
            break
        lines.append(line)
        whole += len(raw)
    return lines, whole


def _raw(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def _check(path: Path, found: Line, wanted: Line) -> None:
    for name in sorted({*found, *wanted}):
        if found.get(name) != wanted.get(name):
            raise RowsError(
                f"{path}: is of another evaluation, whose {name} is not this one's; give another folder with --out, or "
                "remove it"
            )
