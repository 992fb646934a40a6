"""Reading one picture from where it is."""

import io
import time

from camjax.batch.entries import ROW_SCHEME, SHARD_SCHEME, Entry, SourceError, beside, is_url
from camjax.batch.remote import LARGEST_FILE, fetch, fetch_part, lasting_reason, refusal
from camjax.batch.sources import is_shard, shard_problem
from camjax.errors import PictureError
from camjax.images.decode.image import DecodedImage, ReadOptions, decode_image, read_image

ATTEMPTS = 4
"""How often a remote file is asked for before the run stops; the waits between are 1, 2 and 4 seconds."""


def read_entry_image(entry: Entry, options: ReadOptions | None = None) -> DecodedImage:
    """Reads the image of an entry; see `camjax.images.decode.image.read_image`.

    Lost connections and busy servers are retried. Every failure that another attempt would not mend belongs to the
    picture: a missing file, a protocol that is not accepted (`camjax.batch.remote.PROTOCOLS`), a URL that the server
    refuses.

    Args:
        entry: Where the image is, untrusted.
        options: How to read it; None is the default.

    Raises:
        PictureError: The image is missing, damaged or larger than the limit, or its path or URL is not accepted.
        SourceError: The connection failed `ATTEMPTS` times, or the package for the protocol is missing.
    """
    if entry.offset < 0:
        if "\0" in entry.path:
            raise PictureError(f"{entry.path!r}: no file has a NUL in its name; mend the list")
        if is_url(entry.path) and (reason := refusal(entry.path)):
            raise PictureError(f"{entry.path}: {reason}")
        if is_shard(entry.path):
            raise PictureError(shard_problem(entry.path))
        if not is_url(entry.path):
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
        except (PictureError, SourceError):
            raise
        except ImportError as error:  # which names the package
            raise SourceError(f"{entry.path}: {error}") from error
        except Exception as error:  # each file system has its own for a lost connection
            if reason := lasting_reason(error):
                raise PictureError(f"{entry.path}: {reason}") from error
            if attempt == ATTEMPTS - 1:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise SourceError(
                    f"{entry.path}: cannot be reached ({reason}); go on with --resume when it can"
                ) from error
            time.sleep(2**attempt)
    raise AssertionError


def _bytes(entry: Entry) -> bytes | str:
    if entry.offset < 0:
        return fetch(entry.path)
    if entry.path.startswith(ROW_SCHEME):
        from camjax.batch.tables import read_row  # with pyarrow, for which no other picture should wait

        source = entry.path.partition("::")[2]
        found = read_row(entry)
        return beside(source, found) if isinstance(found, str) else found
    if not entry.path.startswith(SHARD_SCHEME):
        raise PictureError(f"{entry.path}: is no part of a shard, whatever the list says; make the list again")
    if not 0 <= entry.length <= LARGEST_FILE:
        raise PictureError(f"{entry.path}: has a size of {entry.length} in its shard; make the shard again")
    return fetch_part(entry.path.rpartition("::")[2], entry.offset, entry.length)
