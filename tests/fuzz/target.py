"""What a fuzz target is: sound inputs, and a reader that may refuse any bytes but with an error of camjax's own."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple


class Target(NamedTuple):
    """One reader.

    Attributes:
        seeds: sound inputs, which the reader takes.
        read: called with any bytes; may raise `CamjaxError` and nothing else.
        refuses: what the seeds end in, for a reader that is given one file of two; None where they are read.
    """

    seeds: Sequence[bytes]
    read: Callable[[bytes], object]
    refuses: str | None = None


FOLDER = tempfile.TemporaryDirectory(prefix="camjax-fuzz-")


def from_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """A reader of files as one of bytes; the file's name stays the same."""
    path = Path(FOLDER.name) / name

    def from_bytes(data: bytes) -> object:
        path.write_bytes(data)
        return read(path)

    return from_bytes
