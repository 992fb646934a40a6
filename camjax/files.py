"""Opening files that users, lists and stores name: only regular files, never pipes or devices, which could block.

All errors are `OSError` with the reason in `strerror`, as for missing files.
"""

import errno
import io
import os
import stat
from typing import BinaryIO, Literal, overload

LARGEST_TEXT = 2**24
"""Default limit of a text file in bytes; labels of a million classes fit."""

_PIECE = 2**16

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


class IrregularFileError(OSError):
    """A path that names a pipe, a socket or a device instead of a file."""


class LargeFileError(OSError):
    """A file that has more bytes than its kind of content can have."""


@overload
def open_regular(path: str | os.PathLike[str], mode: Literal["rb"] = "rb") -> io.BufferedReader: ...
@overload
def open_regular(path: str | os.PathLike[str], mode: Literal["r+b"]) -> io.BufferedRandom: ...
def open_regular(path: str | os.PathLike[str], mode: Literal["rb", "r+b"] = "rb") -> BinaryIO:
    """Opens a regular file without blocking.

    The type is checked after opening, so that the file cannot be exchanged in between.

    Args:
        path: The file's path; links are followed.
        mode: `"rb"` to read, or `"r+b"` to read and write a file that exists.

    Returns:
        The open binary file.

    Raises:
        IrregularFileError: The path names a pipe, a socket or a device.
        IsADirectoryError: The path names a folder.
        OSError: The file is missing or may not be opened.
    """
    return open(path, mode, opener=_open_without_waiting)


def read_regular(path: str | os.PathLike[str], limit: int) -> bytes:
    """Reads a regular file whole.

    Args:
        path: The file's path; links are followed.
        limit: The largest number of bytes that the file may have.

    Raises:
        LargeFileError: The file has more bytes than `limit`.
        OSError: As for `open_regular`.
    """
    with open_regular(path) as file:
        # As much as is asked for is allocated at once, and a file that says it is empty, as those of /proc, may not be.
        size = os.fstat(file.fileno()).st_size
        pieces, left = [], limit + 1 if size <= limit else 0
        while left > 0 and (piece := file.read(min(max(size + 1, _PIECE), left))):
            pieces.append(piece)
            left -= len(piece)
    if left <= 0:
        raise LargeFileError(errno.EFBIG, f"has more than the {limit:,} bytes that such a file may have", path)
    return b"".join(pieces)


def read_text(path: str | os.PathLike[str], encoding: str = "utf-8-sig", *, limit: int = LARGEST_TEXT) -> str:
    """Reads a regular file as text; every kind of line end becomes a newline.

    Args:
        path: The file's path; links are followed.
        encoding: The text's encoding; the default is UTF-8 with or without a byte-order mark.
        limit: The largest number of bytes that the file may have.

    Raises:
        UnicodeDecodeError: The bytes are not text of that encoding.
        OSError: As for `read_regular`.
    """
    with io.TextIOWrapper(io.BytesIO(read_regular(path, limit)), encoding) as text:
        return text.read()


def _open_without_waiting(path: str, flags: int) -> int:
    """Opens a path as `open` asks; without O_NONBLOCK, opening a pipe would wait for its other end."""
    try:
        descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a device that is not there
            raise _irregular(path, os.stat(path).st_mode) from error
        raise
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # `open` refuses folders by itself
        return descriptor
    os.close(descriptor)
    raise _irregular(path, mode)


def _irregular(path: str, mode: int) -> IrregularFileError:
    kind = _KINDS.get(stat.S_IFMT(mode), "no file")
    return IrregularFileError(errno.EINVAL, f"is {kind}, not a regular file", path)
