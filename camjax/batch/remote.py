"""Files behind paths and fsspec URLs: the accepted protocols, and the failures that are worth another attempt.

fsspec opens more than files: it follows chains of URLs joined by `::`, and some protocols fetch, decompress or render
whatever a file tells them to. Paths in lists, tables and stores are untrusted, so that only plain files are opened, by
a local path or a URL of an accepted protocol without `::`. The same holds for the sources that a user names.
"""

import contextlib
import errno
import socket
import ssl
from collections.abc import Iterator
from typing import BinaryIO, cast

import fsspec

from camjax.batch.entries import SourceError, is_url
from camjax.errors import printable
from camjax.files import open_regular, read_regular

LOCAL = frozenset({"file", "local"})
WEB = frozenset({"http", "https"})
PROTOCOLS = LOCAL | WEB | {"gs", "gcs", "s3", "s3a", "az", "abfs", "abfss", "hf"}
"""The accepted protocols: local files, web servers, and the buckets of Google, Amazon, Azure and Hugging Face."""

LARGEST_FILE = 2**29
"""Largest file that is fetched, in bytes: 128 megapixels with four bytes each, uncompressed."""
PIECE = 2**20

PASSING_STATUSES = frozenset({408, 425, 429})
"""HTTP statuses below 500 that ask for another attempt."""
MISSING_STATUSES = frozenset({404, 410})
_REASONS: dict[type[Exception], str] = {
    FileNotFoundError: "there is no such file; check the path",
    PermissionError: "you may not read it; change its permissions",
    IsADirectoryError: "is a folder, not a picture; name a file in it",
}
_LASTING_ERRORS = frozenset(
    {errno.EINVAL, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ENXIO, errno.ENODEV, errno.EFBIG}
)
_UNKNOWN_HOST = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
_DEEPEST = 10
"""Number of causes of an error that are examined, since libraries wrap the error of the network."""


def refusal(url: str) -> str | None:
    """Returns why a URL is not accepted, as the end of a sentence, or None if it is."""
    protocol = url.partition("://")[0]
    if "::" in url:
        return "is a chain of URLs ('::'), which camjax does not open; name the file itself"
    if protocol not in PROTOCOLS:
        known = ", ".join(sorted(PROTOCOLS))
        return f"camjax does not open the protocol {printable(protocol, 40)!r}; it opens paths and {known}"
    if "\0" in url:
        return "no file has a NUL in its name; mend the list"
    return None


def locate(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Returns the file system of a URL, and the path on it.

    Raises:
        SourceError: The URL is a chain or malformed, its protocol is not one of `PROTOCOLS`, or the package for it is
            missing.
    """
    try:
        return _locate(url)
    except ValueError as error:
        raise SourceError(f"{printable(url)}: {_words(error)}") from error


def _locate(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Does as `locate`, but raises a ValueError for a malformed URL."""
    if reason := refusal(url):
        raise SourceError(f"{printable(url)}: {reason}")
    try:
        return cast(tuple[fsspec.AbstractFileSystem, str], fsspec.url_to_fs(url))
    except ImportError as error:  # which names the package
        raise SourceError(f"{printable(url)}: {_words(error)}") from error


def local_path(source: str) -> str | None:
    """Returns the local path of a path or a `file://` URL, or None for a remote file.

    Raises:
        SourceError: As for `locate`.
    """
    if not is_url(source):
        return source
    return locate(source)[1] if source.partition("://")[0] in LOCAL else None


@contextlib.contextmanager
def opened(source: str) -> Iterator[BinaryIO]:
    """Opens a path or a URL for reading.

    Args:
        source: A path of a regular file, or a URL of one of `PROTOCOLS`.

    Yields:
        A seekable binary file.

    Raises:
        SourceError: As for `locate`.
        Exception: Whatever the file system raises for a file that cannot be read; see `lasting_reason`.
    """
    path = local_path(source)
    if path is not None:
        with open_regular(path) as file:
            yield file
        return
    system, path = locate(source)
    with system.open(path, "rb") as file:
        yield file


def fetch(url: str) -> bytes:
    """Returns the bytes of a file behind a URL.

    Raises:
        ValueError: The URL is malformed, or the file has more than `LARGEST_FILE` bytes.
        Exception: As for `opened`.
    """
    if (local := local_path(url)) is not None:
        return read_regular(local, LARGEST_FILE)
    system, path = _locate(url)
    if url.partition("://")[0] not in WEB:
        data = system.cat_file(path, 0, LARGEST_FILE + 1)
    else:
        # A web server may send without end, whatever range it is asked for, and compress a terabyte to a megabyte. A
        # block size of 0 streams; the size, which is not used then, saves a request that asks for it.
        pieces, left = [], LARGEST_FILE + 1
        with system.open(path, "rb", block_size=0, size=1) as file:
            while left > 0 and (piece := file.read(min(PIECE, left))):
                pieces.append(piece)
                left -= len(piece)
        data = b"".join(pieces)
    if len(data) > LARGEST_FILE:
        raise ValueError(f"has more than {LARGEST_FILE:,} bytes, which no picture's file should")
    return data


def fetch_part(source: str, start: int, length: int) -> bytes:
    """Returns a part of a local or a remote file.

    Args:
        source: A path or a URL, as for `opened`.
        start: The first byte, from 0.
        length: The number of bytes, at most `LARGEST_FILE`.

    Raises:
        ValueError: The URL is malformed, or `length` is larger.
        Exception: As for `opened`.
    """
    if length > LARGEST_FILE:
        raise ValueError(f"has more than {LARGEST_FILE:,} bytes, which no picture's file should")
    if (path := local_path(source)) is None:
        system, path = _locate(source)
        return cast(bytes, system.cat_file(path, start, start + length))
    with open_regular(path) as file:
        file.seek(start)
        return file.read(length)


def lasting_reason(error: BaseException) -> str | None:
    """Returns why another attempt to read a file would fail too, or None for a failure that may be temporary.

    Timeouts, lost connections and HTTP statuses from 500 or in `PASSING_STATUSES` may be temporary. So may every
    unknown error, since a store must not record a picture as missing after a lost connection.

    Args:
        error: The error that a file system raised.

    Returns:
        The reason as the end of a sentence that begins with the file's name.
    """
    cause = error.__cause__ if isinstance(error, FileNotFoundError) else None
    if cause is not None and not isinstance(cause, LookupError) and _status(cause) not in MISSING_STATUSES:
        return lasting_reason(cause)  # fsspec calls a web server's file missing whatever went wrong
    for kind, reason in _REASONS.items():
        if isinstance(error, kind):
            return reason
    if (status := _status(error)) is not None:
        passing = status >= 500 or status in PASSING_STATUSES
        return None if passing else f"the server refuses it with status {status}; check the URL"
    if wrong := next(filter(None, map(_wrong_server, _causes(error))), None):
        return wrong
    if isinstance(error, ValueError | TypeError | NotImplementedError):
        return _words(error)
    if isinstance(error, OSError) and error.errno in _LASTING_ERRORS:
        return f"cannot be read ({error.strerror or _words(error)}); check the path"
    return None


def _wrong_server(error: BaseException) -> str | None:
    """Returns why the server of a URL cannot be used, or None if the error does not say so."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its server's certificate is not valid ({_words(error)}); check the URL"
    if type(error).__name__ == "TooManyRedirects":  # as aiohttp and requests call it
        return "its server sends it from one address to the next without end; check the URL"
    if isinstance(error, socket.gaierror) and error.errno in _UNKNOWN_HOST:
        return "there is no server of that name; check the URL"
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yields an error and the errors that it was raised from."""
    cause: BaseException | None = error
    for _ in range(_DEEPEST):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__


def _status(error: BaseException) -> int | None:
    """Returns the HTTP status in an error of aiohttp, gcsfs, azure, botocore or huggingface_hub."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        metadata = response.get("ResponseMetadata")
        status = metadata.get("HTTPStatusCode") if isinstance(metadata, dict) else None
        return status if isinstance(status, int) else None
    for holder, name in ((error, "status"), (error, "status_code"), (response, "status_code"), (error, "code")):
        status = getattr(holder, name, None)
        if isinstance(status, int):
            return status if 300 <= status < 600 else None
    return None


def _words(error: BaseException) -> str:
    return printable(" ".join(str(error).split())) or type(error).__name__
