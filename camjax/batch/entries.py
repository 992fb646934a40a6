"""Where one picture of a million is."""

import os
import urllib.parse
from typing import NamedTuple

from camjax.errors import CamjaxError

ROW_SCHEME = "parquet://"
"""What the path of a row in a Parquet file begins with."""
SHARD_SCHEME = "tar://"
"""Prefix of the path of a picture in a tar shard."""
BYTES_SCHEME = "bytes://"
"""Prefix of a stored path that is percent-encoded, because it is not UTF-8 or begins with this prefix itself."""
_KEPT = "/:.-_~ "
"""Characters besides letters and digits that are not percent-encoded."""


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


def stored_path(path: str) -> str:
    """Returns a path in the form in which a store contains it: valid UTF-8, which `path_of` decodes.

    On Linux a file name is a sequence of bytes. If it is not UTF-8, the stored path is `bytes://` and the bytes
    percent-encoded as in URLs: `bytes://photos/M%FCller.png`.

    Args:
        path: A path or URL in which surrogates stand for bytes that are not UTF-8, as `os.fsdecode` returns it.
    """
    if not path.startswith(BYTES_SCHEME) and _is_utf8(path):
        return path
    return BYTES_SCHEME + urllib.parse.quote(path.encode("utf-8", "surrogateescape"), safe=_KEPT)


def path_of(stored: str) -> str:
    """Returns the path whose stored form this is."""
    if not stored.startswith(BYTES_SCHEME):
        return stored
    return urllib.parse.unquote_to_bytes(stored.removeprefix(BYTES_SCHEME)).decode("utf-8", "surrogateescape")


def stored_text(text: str) -> str:
    """Returns a message with escapes in place of surrogates, which UTF-8 cannot encode."""
    return text.encode("utf-8", "backslashreplace").decode()


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
