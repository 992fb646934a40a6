"""The file that a process appends to, a line for each picture that is finished: what a killed run is gone on with.

Several processes have a file each in the same folder, which the others only read.
"""

import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from camjax.errors import CamjaxError
from camjax.evaluate.shares import ALONE, Share
from camjax.files import open_regular
from camjax.json_text import json_text

ROWS = re.compile(r"rows(-\d+-of-\d+)?\.jsonl")
"""Every process's file."""
DIGITS = 7
"""Of every number that is kept."""

Line = dict[str, Any]


class RowsError(CamjaxError, ValueError):
    """A folder holds the rows of another evaluation."""


def rows_file(folder: Path, share: Share) -> Path:
    """The file of a share; where it is all, `rows.jsonl`."""
    part = "" if share == ALONE else f"-{share.process}-of-{share.processes}"
    return folder / f"rows{part}.jsonl"


class Rows:
    """The lines of a run: those before it came to be, of any number of processes, and those that it adds.

    Attributes:
        pictures: the finished ones, by their path.
        collages: the finished ones, by the paths of their pictures.
    """

    def __init__(self, folder: Path, settings: Line, share: Share = ALONE) -> None:
        """Opens the share's file, or begins it.

        Args:
            folder: of the report; made when missing.
            settings: what the rows depend on; JSON.
            share: whose lines are added.

        Raises:
            RowsError: a file is of other settings.
        """
        self.pictures: dict[str, Line] = {}
        self.collages: dict[tuple[str, ...], Line] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._path = rows_file(folder, share)
        self._header = json.loads(json_text(settings))
        self._known: dict[Path, int] = {}
        self.reread()
        whole = self._take(self._path)
        self._file: BinaryIO = open_regular(self._path, "r+b") if whole else self._path.open("wb")
        # A line that was cut off by a kill is written again.
        self._file.truncate(whole)
        self._file.seek(whole)
        if not whole:
            self._write([self._header])

    def reread(self) -> None:
        """Takes what other processes have added.

        Raises:
            RowsError: a file is of other settings.
        """
        for path in sorted(self._path.parent.iterdir()):
            if ROWS.fullmatch(path.name) and path != self._path:
                self._take(path)

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

    def _take(self, path: Path) -> int:
        """Keeps the whole lines of a file that are new; returns how many bytes all of them take."""
        start = self._known.get(path, 0)
        lines, whole = _whole_lines(path, start)
        if lines and not start:
            _check(path, lines.pop(0), self._header)
        for line in lines:
            self._keep(line)
        self._known[path] = start + whole
        return start + whole

    def _keep(self, line: Line) -> None:
        if "collage" in line:
            self.collages[tuple(line["collage"])] = line
        else:
            self.pictures[line["picture"]] = line

    def _write(self, lines: Sequence[Line]) -> None:
        text = "".join(json_text(line) + "\n" for line in lines)
        self._file.write(text.encode())
        self._file.flush()
        os.fsync(self._file.fileno())


def number(value: float | np.floating) -> float | None:
    """A number as it is kept; None where it is not finite."""
    value = float(value)
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _whole_lines(path: Path, start: int) -> tuple[list[Line], int]:
    """The lines from there that can be read, up to the first that cannot, and how many bytes they take."""
    if not path.exists():
        return [], 0
    lines: list[Line] = []
    whole = 0
    with open_regular(path) as file:
        file.seek(start)
        for raw in file:
            try:
                line = json.loads(raw)
            except ValueError:
                break
            if not raw.endswith(b"\n") or not isinstance(line, dict):
                break
            lines.append(line)
            whole += len(raw)
    return lines, whole


def _check(path: Path, found: Line, wanted: Line) -> None:
    for name in sorted({*found, *wanted}):
        if found.get(name) != wanted.get(name):
            raise RowsError(
                f"{path}: is of another evaluation, whose {name} is not this one's; give another folder with --out, or "
                "remove it"
            )
