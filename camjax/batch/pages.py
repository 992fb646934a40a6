"""Bounds of what a column of a Parquet file decompresses and decodes to, from the headers of its pages.

Arrow decompresses a page to the size that its header claims, and repeats a value of a dictionary as often as the rows
say, so a file of 400 bytes can fill any memory. The file's own metadata may lie about both; the headers are what Arrow
goes by. They are structs of Thrift's compact protocol, of which only the fields below are used.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow.parquet as pq

LARGEST_PAGE = 2**28
"""Largest decompressed size of a page in bytes, however few bytes of the file it is made of."""
MOST_COMPRESSED = 16
"""Number of bytes that a byte of the file may decompress to in larger pages, as a row group of large images has."""
BATCH_BYTES = 2**26
"""Number of bytes that the rows of one batch may decode to, where one row has fewer."""
MOST_ROWS = 4096

UNCOMPRESSED, COMPRESSED = 2, 3
"""The fields of a header with the page's sizes in bytes."""
_ENCODING = {5: 2, 8: 4}
"""The fields that the headers of data pages have for versions 1 and 2, and the field of the encoding in them."""
_DELTA = 7
"""The encoding DELTA_BYTE_ARRAY, whose values may begin as the one before does, across pages."""

_HEADER_LIMITS = (2**12, 2**16, 2**20, 2**24)
"""Number of bytes that are read for a header at first, and if it is longer; the last is Arrow's limit."""
_DEEPEST = 8
"""Number of structs and lists inside one another; a page header has 4."""
_DAMAGE = "the header of a page is damaged"


def rows_at_once(file: BinaryIO, table: pq.ParquetFile, group: int, name: str) -> int:
    """Returns how many rows of a column can be decoded at once without filling the memory.

    Args:
        file: The seekable file.
        table: The same file, opened.
        group: Index of the row group.
        name: Name of a top-level column.

    Returns:
        From 1 to `MOST_ROWS`: so many that the rows have at most `BATCH_BYTES`, or 1 where one row may have more.

    Raises:
        ValueError: A page is larger than `LARGEST_PAGE` and than `MOST_COMPRESSED` times its compressed size, or its
            header is damaged.
    """
    largest = 1
    metadata = table.metadata.row_group(group)
    for number in range(metadata.num_columns):
        chunk = metadata.column(number)
        if chunk.path_in_schema != name and not chunk.path_in_schema.startswith(f"{name}."):
            continue
        total, shared = 0, False
        for _, header in page_headers(file, chunk):
            size, compressed = header[UNCOMPRESSED], header[COMPRESSED]
            if size > max(LARGEST_PAGE, MOST_COMPRESSED * compressed):
                raise ValueError(f"a page of {compressed:,} bytes claims to decompress to {size:,}")
            total += size
            largest = max(largest, size)
            shared |= any((header.get(kind) or {}).get(field) == _DELTA for kind, field in _ENCODING.items())
        largest = max(largest, total) if shared else largest
    return min(max(1, BATCH_BYTES // largest), MOST_ROWS)


def page_headers(file: BinaryIO, chunk: pq.ColumnChunkMetaData) -> Iterator[tuple[int, dict[int, Any]]]:
    """Yields the headers of a column chunk's pages.

    Args:
        file: The seekable file.
        chunk: The chunk's metadata in the file's footer.

    Yields:
        The header's length in bytes, and its fields by number, among them `UNCOMPRESSED` and `COMPRESSED`.

    Raises:
        ValueError: A header is damaged.
    """
    start = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
        start = chunk.dictionary_page_offset
    stop = start + chunk.total_compressed_size
    if not 0 <= start <= stop < 2**62:
        raise ValueError("its pages lie outside the file")
    while start < stop:
        length, header = _header(file, start)
        if any(not isinstance(header.get(field), int) or header[field] < 0 for field in (UNCOMPRESSED, COMPRESSED)):
            raise ValueError(_DAMAGE)
        yield length, header
        start += length + header[COMPRESSED]


def _header(file: BinaryIO, start: int) -> tuple[int, dict[int, Any]]:
    for limit in _HEADER_LIMITS:
        file.seek(start)
        reader = _Compact(file.read(limit))
        try:
            header = reader.struct(0)
        except IndexError:  # it goes on behind what was read
            continue
        return reader.position, header
    raise ValueError(_DAMAGE)


class _Compact:
    """A reader of Thrift's compact protocol.

    https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md

    Attributes:
        position: Number of bytes that have been read.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def struct(self, depth: int) -> dict[int, Any]:
        """Returns the fields of a struct by number; None for those that are no numbers, booleans or structs."""
        fields: dict[int, Any] = {}
        number = 0
        while kind := self._byte():
            step, kind = kind >> 4, kind & 15
            number = number + step if step else self._integer(16)
            if number in fields or number >= 2**15:  # which of two counts, and what is cut off, is a reader's choice
                raise ValueError(_DAMAGE)
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:  # noqa: ANN401
        """Returns a value; booleans, which have one byte in lists and none in structs, are read as bytes."""
        if depth > _DEEPEST:
            raise ValueError(_DAMAGE)
        match kind:
            case 1 | 2 | 3:
                return self._byte()
            case 4 | 5 | 6:
                return self._integer(16 << kind - 4)
            case 7:
                self._skip(8)
            case 8:
                self._skip(self._varint())
            case 9 | 10:
                head = self._byte()
                for _ in range(head >> 4 if head >> 4 < 15 else self._varint()):
                    self._value(head & 15, depth + 1)
            case 12:
                return self.struct(depth + 1)
            case _:
                raise ValueError(_DAMAGE)
        return None

    def _byte(self) -> int:
        self._skip(1)
        return self._data[self.position - 1]

    def _skip(self, count: int) -> None:
        self.position += count
        if self.position > len(self._data):
            raise IndexError(self.position)

    def _integer(self, bits: int) -> int:
        value = self._varint()
        if value >> bits:  # which other readers cut off
            raise ValueError(_DAMAGE)
        return value >> 1 ^ -(value & 1)

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 64, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError(_DAMAGE)
