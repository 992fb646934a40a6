"""Reading one picture from where it is."""

import io
import time

import fsspec

from camjax.batch.entries import ROW_SCHEME, Entry, SourceError, beside, is_url
from camjax.errors import PictureError
from camjax.images.decode.files import DecodedImage, ReadOptions, decode_image, read_image

ATTEMPTS = 4
"""How often a remote file is asked for before the run stops; the waits between are 1, 2 and 4 seconds."""


def read_entry_image(entry: Entry, options: ReadOptions | None = None) -> DecodedImage:
    """Reads the image of an entry; see `camjax.images.decode.files.read_image`.

    Args:
        entry: Where the image is.
        options: How to read it; None is the default.

    Raises:
        PictureError: The image is missing, damaged or larger than the limit.
        SourceError: The connection to where it lies failed, again and again; it says nothing of the image.
    """
    if "\0" in entry.path and entry.offset < 0:
        raise PictureError(f"{entry.path!r}: no file has a NUL in its name; mend the list")
    if entry.offset < 0 and not is_url(entry.path):
        return read_image(entry.path, options)
    data = _fetched(entry)
    if isinstance(data, str):
        return read_entry_image(Entry(data), options)
    return decode_image(io.BytesIO(data), entry.path, options)


def _fetched(entry: Entry) -> bytes | str:
    """A picture's bytes, or the path that stands in its row instead."""
    for attempt in range(ATTEMPTS):
        try:
            return _bytes(entry)
        except PictureError:
            raise
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


def _bytes(entry: Entry) -> bytes | str:
    if entry.path.startswith(ROW_SCHEME):
        from camjax.batch.tables import read_row  # with pyarrow, for which no other picture should wait

        source = entry.path.partition("::")[2]
        found = read_row(entry)
        return beside(source, found) if isinstance(found, str) else found
    if entry.offset < 0:
        _check_protocol(entry.path)
        system, path = fsspec.url_to_fs(entry.path)
        return system.cat_file(path)
    shard = entry.path.rpartition("::")[2]
    if entry.length < 0:
        raise PictureError(f"{entry.path}: has a size of {entry.length} in its shard; make the shard again")
    if is_url(shard):
        system, path = fsspec.url_to_fs(shard)
        return system.cat_file(path, entry.offset, entry.offset + entry.length)
    with open(shard, "rb") as file:
        file.seek(entry.offset)
        return file.read(entry.length)


def _check_protocol(url: str) -> None:
    """A protocol that does not exist is a slip in the list; one whose package is missing concerns all pictures."""
    for part in url.split("::"):
        protocol = part.partition("://")[0]
        try:
            fsspec.get_filesystem_class(protocol)
        except ValueError as error:
            raise PictureError(f"{url}: there is no protocol {protocol!r}; mend the list") from error
        except ImportError as error:  # fsspec names the package
            raise SourceError(f"{url}: {error}") from error
