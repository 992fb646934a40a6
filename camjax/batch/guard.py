"""Storage of a Zarr store that reads only regular files, and bounds the size of every chunk.

A chunk is read and decompressed only if it has no more bytes than its array's metadata allow, and texts are decoded
only if there are as many as the chunk has elements. So a device, an endless file, or a small file that decompresses to
terabytes is an error and never a long wait or a full memory.
"""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

import numcodecs
from zarr.abc.store import ByteRequest, RangeByteRequest
from zarr.buffer import default_buffer_prototype
from zarr.storage import FsspecStore, LocalStore

from camjax.batch.remote import local_path, locate
from camjax.files import IrregularFileError, LargeFileError, read_regular

LARGEST_DOCUMENT = 2**24
"""Largest size of a `zarr.json`, in bytes."""
DOCUMENT = "zarr.json"

HEAD = 32
"""Number of bytes at the start of a chunk that contain its Zstandard header."""
BytesLike = bytes | bytearray | memoryview
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
SLACK = 2**16
"""Bytes that compression may add to a small chunk; to a large one it adds at most a 128th."""
CHECKSUM = 4
"""Number of bytes of the CRC-32C behind the Zstandard frame."""
COUNT = 4
"""Number of bytes at the start of decompressed texts that contain how many there are (`numcodecs.VLenUTF8`)."""


class DamagedChunkError(ValueError):
    """A chunk is not a regular file, or has or claims more bytes than its array allows."""


class _Guard:
    """The size limits that local and remote storage share.

    Attributes:
        limits: Largest decompressed size of a chunk in bytes, by array name; None while a store is being created, when
            it contains nothing yet.
        elements: Number of elements of a chunk, by the names of the arrays of texts.
    """

    limits: Mapping[str, int] | None = None
    elements: Mapping[str, int] = MappingProxyType({})

    def largest(self, key: str) -> int:
        """Returns the largest number of bytes that may be read for a key."""
        if key.rpartition("/")[2] == DOCUMENT:
            return LARGEST_DOCUMENT
        decompressed = self.decompressed(key)
        return decompressed + decompressed // 128 + SLACK

    def decompressed(self, key: str) -> int:
        """Returns the largest number of bytes that the chunk of a key may decompress to."""
        return 2**63 if self.limits is None else self.limits.get(key.partition("/")[0], 0)

    def check(self, key: str, data: BytesLike) -> None:
        """Checks the size of a chunk, compressed and decompressed, and the number of its texts.

        Args:
            key: The chunk's key, such as `maps/c/0/0/0/0`.
            data: The chunk's compressed bytes.

        Raises:
            DamagedChunkError: The chunk is too large, its header claims that it is or is missing, or it claims
                another number of texts than the chunk has elements.
        """
        if len(data) > self.largest(key):
            raise DamagedChunkError(f"{key} has more than {self.largest(key):,} bytes")
        if self.limits is None or key.rpartition("/")[2] == DOCUMENT:
            return
        claimed = decompressed_size(bytes(data[:HEAD]))
        if claimed is None or claimed > self.decompressed(key):
            raise DamagedChunkError(
                f"{key} claims to decompress to {claimed} bytes, more than {self.decompressed(key):,}"
            )
        elements = self.elements.get(key.partition("/")[0])
        if elements is not None and (count := text_count(data[:-CHECKSUM])) != elements:
            raise DamagedChunkError(f"{key} claims to have {count} texts in place of {elements:,}")


class GuardedLocalStore(_Guard, LocalStore):
    """Bounded storage in a local folder."""

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
        self.check(key, data)
        return (prototype or default_buffer_prototype()).buffer.from_bytes(data)


class GuardedRemoteStore(_Guard, FsspecStore):
    """Bounded storage behind a URL."""

    async def get(self, key: str, prototype: Any = None, byte_range: ByteRequest | None = None) -> Any:  # noqa: ANN401
        """Returns the bytes of a key, or None; see `zarr.abc.store.Store.get`."""
        if byte_range is not None:
            raise NotImplementedError("chunks are read whole")
        limit = None if self.limits is None else RangeByteRequest(0, self.largest(key) + 1)
        found = await super().get(key, prototype or default_buffer_prototype(), limit)
        if found is not None:
            self.check(key, found.as_buffer_like())
        return found


def guarded(out: str, *, read_only: bool) -> GuardedLocalStore | GuardedRemoteStore:
    """Returns the storage of a store; its limits are to be set once its metadata are known.

    Args:
        out: The store's path or URL.
        read_only: Whether writing to the store is an error.

    Raises:
        SourceError: The URL is not accepted; see `camjax.batch.remote.locate`.
    """
    if (path := local_path(out)) is not None:
        return GuardedLocalStore(path, read_only=read_only)
    locate(out)  # refuses chains and other protocols
    return cast(GuardedRemoteStore, GuardedRemoteStore.from_url(out, read_only=read_only))


def decompressed_size(data: bytes) -> int | None:
    """Returns the decompressed size in bytes that a Zstandard frame declares, or None if it declares none.

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


def text_count(frame: BytesLike) -> int | None:
    """Returns the number of texts that compressed texts declare, or None if the frame is damaged.

    Zarr's `vlen-utf8` allocates that many objects before it looks at the texts, so 26 bytes can claim 2**32 of them.
    The frame is decompressed here and once more by Zarr; chunks of texts are small.

    Args:
        frame: A Zstandard frame whose declared size has been checked.
    """
    try:
        texts = numcodecs.Zstd().decode(frame)
    except (RuntimeError, ValueError):  # as numcodecs calls a damaged frame
        return None
    return int.from_bytes(texts[:COUNT], "little") if len(texts) >= COUNT else None
