"""Pictures in Parquet files: a column of paths, or of the pictures themselves, as Hugging Face's datasets have them.

A picture in such a file goes by its row: `parquet://ROW/COLUMN::FILE`. Listing reads no picture. Reading goes through a
row group from row to row, and holds a page of it and a few rows in memory in each process; `camjax.batch.pages` bounds
both, whatever the file claims.
"""

import bisect
import contextlib
import functools
import itertools
import threading
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from camjax.batch import remote
from camjax.batch.entries import ROW_SCHEME, Entry, SourceError, is_url
from camjax.batch.pages import rows_at_once
from camjax.errors import PictureError, printable

LARGEST_ROWS = remote.LARGEST_FILE + 2**20
"""Largest size in bytes of a row, whose picture is as large as any file may be."""
BUFFER = 2**20
"""Number of bytes of a column that are read from the file at once."""


def read_table(source: str, name: str) -> Iterator[str | Entry]:
    """What a column holds, row by row.

    Args:
        source: the file, or its URL.
        name: the column: text is paths; bytes, and a struct of `bytes` and `path`, are pictures.

    Yields:
        A path, or the place of the row: of a picture, or of nothing, which is found when it is read.

    Raises:
        SourceError: the file is damaged, or the column holds something else.
    """
    if "::" in name or "::" in source:
        raise SourceError(f"{source}: neither its path nor its column may have '::' in it; rename it")
    with opened(source) as (file, table):
        kind = table.schema_arrow.field(name).type
        if not _is_text(kind):
            if not _is_picture(kind):
                raise SourceError(f"{source}: the column {name!r} has neither paths nor pictures, but {kind}")
            yield from (_place(source, name, row) for row in range(table.metadata.num_rows))
            return
        row = 0
        for group in range(table.metadata.num_row_groups):
            for batch in _batches(file, table, group, name):
                for value in batch:  # one after the other, since many may share one long text
                    path = value.as_py()
                    yield _place(source, name, row) if path is None else path
                    row += 1


def column_names(source: str) -> list[str]:
    """The file's columns.

    Raises:
        SourceError: the file is damaged.
    """
    with opened(source) as (_, table):
        return list(table.schema_arrow.names)


def read_row(entry: Entry) -> bytes | str:
    """The picture in a row, or the path that stands there instead.

    Raises:
        PictureError: there is neither, or this part of the file is damaged.
        OSError: the file cannot be reached.
    """
    place, _, source = entry.path.partition("::")
    name = place.removeprefix(ROW_SCHEME).partition("/")[2]
    try:
        starts = _group_starts(source)
        group = bisect.bisect_right(starts, entry.offset) - 1
        with _READING:
            try:
                value = _cursor(source, name, group).value(entry.offset - starts[group]).as_py()
            except BaseException:
                _cursor.cache_clear()  # its reader cannot go on
                raise
    except (FileNotFoundError, PermissionError, SourceError):
        raise
    except (pa.ArrowException, IndexError, KeyError, ValueError) as error:
        raise PictureError(f"{entry.path}: is damaged ({_reason(error)}); make the file again") from error
    except OSError as error:  # which is Arrow's word for damaged pages too; the system's errors have a number
        if is_url(source) or error.errno is not None:
            raise
        raise PictureError(f"{entry.path}: is damaged ({_reason(error)}); make the file again") from error
    found = value if isinstance(value, bytes) else (value or {}).get("bytes") or (value or {}).get("path")
    if not found:
        raise PictureError(f"{entry.path}: there is nothing in this row")
    return found


@contextlib.contextmanager
def opened(source: str) -> Iterator[tuple[BinaryIO, pq.ParquetFile]]:
    """A Parquet file, as bytes and as a table; what is wrong with it is one line.

    Raises:
        SourceError: it is damaged.
        OSError: it cannot be read.
    """
    try:
        with remote.opened(source) as file:
            yield file, pq.ParquetFile(file, buffer_size=BUFFER)
    except SourceError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:  # OSError is Arrow's word for damaged pages
        if isinstance(error, OSError) and error.errno is not None:  # the system's errors have a number
            raise
        raise SourceError(f"{source}: is a damaged Parquet file ({_reason(error)})") from error


@functools.lru_cache(4)
def _group_starts(source: str) -> list[int]:
    """The first row of every row group."""
    with remote.opened(source) as file:
        metadata = pq.ParquetFile(file).metadata
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    return list(itertools.accumulate(counts[:-1], initial=0))


class _Cursor:
    """A row group of a column that is read from its start to its end, and from the start again for an earlier row.

    Pictures are read in their order, so that every page is decompressed once.

    Args:
        source: The file, or its URL.
        name: The column.
        group: Index of the row group.
    """

    _start: int
    _batch: pa.Array
    _batches: Iterator[pa.Array]

    def __init__(self, source: str, name: str, group: int) -> None:
        self._source, self._name, self._group = source, name, group
        self._begin()

    def value(self, row: int) -> pa.Scalar:
        """Returns the value of a row, by its number in the row group.

        Raises:
            IndexError: There is no such row.
        """
        if row < self._start:
            self._begin()
        while row >= self._start + len(self._batch):
            self._start += len(self._batch)
            batch = next(self._batches, None)
            if batch is None:
                raise IndexError(f"row {row} of row group {self._group} is missing")
            self._batch = batch
        return self._batch[row - self._start]

    def _begin(self) -> None:
        self._batches = self._read()
        self._start, self._batch = 0, pa.nulls(0)

    def _read(self) -> Iterator[pa.Array]:
        with remote.opened(self._source) as file:
            table = pq.ParquetFile(file, buffer_size=BUFFER)
            yield from _batches(file, table, self._group, self._name)


_cursor = functools.lru_cache(1)(_Cursor)
_READING = threading.Lock()


def _batches(file: BinaryIO, table: pq.ParquetFile, group: int, name: str) -> Iterator[pa.Array]:
    """Yields the values of a column of a row group, as many at once as fit into memory.

    Raises:
        ValueError: A page is too large for what it is made of, or a value for a picture or path.
    """
    size = rows_at_once(file, table, group, name)
    for batch in table.iter_batches(size, row_groups=[group], columns=[name], use_threads=False):
        held = batch.get_total_buffer_size()  # older versions of Arrow know no `nbytes` of binary views
        if held > LARGEST_ROWS:
            raise ValueError(f"{len(batch)} rows have {held:,} bytes, more than {LARGEST_ROWS:,}")
        yield batch.column(0)


def _place(source: str, name: str, row: int) -> Entry:
    return Entry(f"{ROW_SCHEME}{row}/{name}::{source}", row)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _is_picture(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return _is_bytes(kind)
    fields = {kind.field(number).name: kind.field(number).type for number in range(kind.num_fields)}
    data, path = fields.get("bytes", pa.null()), fields.get("path", pa.null())  # null: nothing in any row
    return _is_bytes(data) and (_is_text(path) or pa.types.is_null(path))


def _reason(error: BaseException) -> str:
    return printable(" ".join(str(error).split())) or type(error).__name__
