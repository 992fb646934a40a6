"""Where one picture of a million is."""

import os
from typing import NamedTuple

from camjax.errors import CamjaxError

ROW_SCHEME = "parquet://"
"""What the path of a row in a Parquet file begins with."""


class SourceError(CamjaxError, OSError):
    """Where the pictures come from cannot be read."""


class Entry(NamedTuple):
    """Where a picture is.

    Attributes:
        path: a file or an fsspec URL; for a part of a tar shard `tar://MEMBER::SHARD`, which fsspec opens too; for a
            row of a Parquet file `parquet://ROW/COLUMN::FILE`.
        offset: where the picture starts in its shard, in bytes, or the row; -1 for a whole file.
        length: of the picture in its shard; -1 for a whole file and for a row.
    """

    path: str
    offset: int = -1
    length: int = -1


def is_url(path: str) -> bool:
    """Whether fsspec is to open it."""
    return "://" in path


def beside(source: str, path: str) -> str:
    """A path that a list names, as seen from here: relative ones are relative to the list's folder."""
    if is_url(path):
        return path
    if is_url(source) and not os.path.isabs(path):
        return f"{source.rpartition('/')[0]}/{path}"
    return os.path.join("" if is_url(source) else os.path.dirname(source), path)
