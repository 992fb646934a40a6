"""One picture of a million: where it is, and reading it from there."""

import io
import time
from typing import NamedTuple

import fsspec
import numpy as np
from jaxtyping import UInt8

from camjax.errors import CamjaxError, PictureError
from camjax.images.pictures import decode_picture, read_picture

ATTEMPTS = 4
"""How often a remote file is asked for before the run stops; the waits between are 1, 2 and 4 seconds."""


class SourceError(CamjaxError, OSError):
    """Where the pictures come from cannot be read."""


class Entry(NamedTuple):
    """Where a picture is.

    Attributes:
        path: a file or an fsspec URL; for a part of a tar shard `tar://MEMBER::SHARD`, which fsspec opens too.
        offset: where the picture starts in its shard, in bytes; -1 for a whole file.
        length: of the picture in its shard; -1 for a whole file.
    """

    path: str
    offset: int = -1
    length: int = -1


def read_entry_picture(entry: Entry) -> UInt8[np.ndarray, "height width 3"]:
    """Reads a picture; see `camjax.images.pictures.read_picture`.

    Raises:
        PictureError: the picture is missing or damaged.
        SourceError: the connection to where it lies failed, again and again; it says nothing of the picture.
    """
    if entry.offset < 0 and not is_url(entry.path):
        return read_picture(entry.path)
    return decode_picture(_open(entry), entry.path)


def is_url(path: str) -> bool:
    """Whether fsspec is to open it."""
    return "://" in path


def _open(entry: Entry) -> io.BytesIO:
    for attempt in range(ATTEMPTS):
        try:
            return io.BytesIO(_bytes(entry))
        except FileNotFoundError as error:
            raise PictureError(f"{entry.path}: there is no such file; check the path") from error
        except PermissionError as error:
            raise PictureError(f"{entry.path}: you may not read it; change its permissions") from error
        except Exception as error:  # each file system has its own for a lost connection
            if attempt == ATTEMPTS - 1:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise SourceError(
                    f"{entry.path}: cannot be reached ({reason}); go on with --resume when it can"
                ) from error
            time.sleep(2**attempt)
    raise AssertionError


def _bytes(entry: Entry) -> bytes:
    if entry.offset < 0:
        system, path = fsspec.url_to_fs(entry.path)
        return system.cat_file(path)
    shard = entry.path.rpartition("::")[2]
    if is_url(shard):
        system, path = fsspec.url_to_fs(shard)
        return system.cat_file(path, entry.offset, entry.offset + entry.length)
    with open(shard, "rb") as file:
        file.seek(entry.offset)
        return file.read(entry.length)
