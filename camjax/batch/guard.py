"""How the bytes of a store are read: regular files only, and never more than their array can have.

Whatever a store's files claim, a chunk is read and unpacked only as far as its array's metadata allows, so that neither
a device nor an endless file nor a small one that unpacks to terabytes keeps a reader busy.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from zarr.abc.store import ByteRequest, RangeByteRequest
from zarr.buffer import default_buffer_prototype
from zarr.storage import FsspecStore, LocalStore

from camjax.batch.remote import local_path, locate
from camjax.files import IrregularFileError, LargeFileError, read_regular

LARGEST_DOCUMENT = 2**24
"""Bytes of a `zarr.json`."""
DOCUMENT = "zarr.json"

HEAD = 32
"""Bytes at a chunk's start that say what it unpacks to."""
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
SLACK = 2**16
"""Bytes by which a small chunk may be larger in its file than unpacked; compression adds a 128th at most."""


class DamagedChunkError(ValueError):
    """A chunk's file is none, or has or claims more bytes than its array's chunks."""


class _Guard:
    """What both kinds of store have in common.

    Attributes:
        limits: the bytes of an unpacked chunk, by array; None while a store is made, and nothing in it is old.
    """

    limits: Mapping[str, int] | None = None

    def largest(self, key: str) -> int:
        """Bytes that may be read for a key."""
        if key.rpartition("/")[2] == DOCUMENT:
            return LARGEST_DOCUMENT
        unpacked = self.unpacked(key)
        return unpacked + unpacked // 128 + SLACK

    def unpacked(self, key: str) -> int:
        """Bytes that a chunk may have when it is unpacked."""
        return 2**63 if self.limits is None else self.limits.get(key.partition("/")[0], 0)

    def check(self, key: str, size: int, head: bytes) -> None:
        """Refuses a chunk that is, or that claims to be, too large.

        Args:
            key: of the chunk.
            size: bytes of its file.
            head: the first of them, `HEAD` or all.

        Raises:
            DamagedChunkError: it is.
        """
        if size > self.largest(key):
            raise DamagedChunkError(f"{key} has more than {self.largest(key):,} bytes")
        if self.limits is None or key.rpartition("/")[2] == DOCUMENT:
            return
        claimed = unpacked_size(head)
        if claimed is None or claimed > self.unpacked(key):
            raise DamagedChunkError(f"{key} claims to unpack to {claimed} bytes, more than {self.unpacked(key):,}")


class GuardedLocalStore(_Guard, LocalStore):
    """A store in a folder."""

    async def get(self, key: str, prototype: Any = None, byte_range: ByteRequest | None = None) -> Any:  # noqa: ANN401
        """Returns the bytes of a key, or None; see `zarr.abc.store.Store.get`."""
        return await asyncio.to_thread(self.get_sync, key, prototype=prototype, byte_range=byte_range)

    def get_sync(self, key: str, *, prototype: Any = None, byte_range: ByteRequest | None = None) -> Any:  # noqa: ANN401
        """Returns the bytes of a key, or None."""
        if byte_range is not None:
            raise NotImplementedError("chunks are read whole")
        try:
            data = read_regular(self.root / key, min(self.largest(key), 2**62))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except (IrregularFileError, LargeFileError) as error:
            raise DamagedChunkError(f"{key}: {error.strerror}") from error
        self.check(key, len(data), data[:HEAD])
        return (prototype or default_buffer_prototype()).buffer.from_bytes(data)


class GuardedRemoteStore(_Guard, FsspecStore):
    """A store behind a URL."""

    async def get(self, key: str, prototype: Any = None, byte_range: ByteRequest | None = None) -> Any:  # noqa: ANN401
        """Returns the bytes of a key, or None; see `zarr.abc.store.Store.get`."""
        if byte_range is not None:
            raise NotImplementedError("chunks are read whole")
        limit = None if self.limits is None else RangeByteRequest(0, self.largest(key) + 1)
        found = await super().get(key, prototype or default_buffer_prototype(), limit)
        if found is not None:
            self.check(key, len(found), found[:HEAD].to_bytes())
        return found


def guarded(out: str, *, read_only: bool) -> GuardedLocalStore | GuardedRemoteStore:
    """Returns the storage of a store, with no limits yet.

    Args:
        out: the store's path or URL.
        read_only: whether nothing is to be written.

    Raises:
        SourceError: the URL is none that is opened; see `camjax.batch.remote.locate`.
    """
    if (path := local_path(out)) is not None:
        return GuardedLocalStore(path, read_only=read_only)
    locate(out)  # refuses chains and other protocols
    return cast(GuardedRemoteStore, GuardedRemoteStore.from_url(out, read_only=read_only))


def unpacked_size(data: bytes) -> int | None:
    """Returns the size that a Zstandard frame says it unpacks to, or None where it says none.

    The frame's header (RFC 8878, 3.1.1.1): a magic number, a descriptor whose two highest bits tell the size's width,
    whose bit 5 tells that no window size follows, and whose two lowest bits tell the width of a dictionary's number.
    """
    if len(data) < 6 or data[:4] != ZSTD_MAGIC:
        return None
    descriptor = data[4]
    single = descriptor >> 5 & 1
    width = (single, 2, 4, 8)[descriptor >> 6]
    start = 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3]
    if not width or len(data) < start + width:
        return None
    return int.from_bytes(data[start : start + width], "little") + (256 if width == 2 else 0)
