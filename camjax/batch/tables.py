"""Pictures in Parquet files: a column of paths, or of the pictures themselves, as Hugging Face's datasets have them.

A picture in such a file goes by its row: `parquet://ROW/COLUMN::FILE`. Listing reads no picture; reading holds one row
group in memory in each process, the next pictures being in the same one.
"""

import bisect
import contextlib
import functools
import itertools
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from camjax.batch import remote
from camjax.batch.entries import ROW_SCHEME, Entry, SourceError, is_url
from camjax.errors import PictureError, printable


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
    with opened(source) as table:
        kind = table.schema_arrow.field(name).type
        if not _is_text(kind):
            if not _is_picture(kind):
                raise SourceError(f"{source}: the column {name!r} has neither paths nor pictures, but {kind}")
            yield from (_place(source, name, row) for row in range(table.metadata.num_rows))
            return
        row = 0
        for batch in table.iter_batches(columns=[name]):
            for path in batch.column(0).to_pylist():
                yield _place(source, name, row) if path is None else path
                row += 1


def column_names(source: str) -> list[str]:
    """The file's columns.

    Raises:
        SourceError: the file is damaged.
    """
    with opened(source) as table:
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
        value = _column(source, name, group)[entry.offset - starts[group]].as_py()
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
def opened(source: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file; what is wrong with it is one line.

    Raises:
        SourceError: it is damaged.
        OSError: it cannot be read.
    """
    try:
        with remote.opened(source) as file:
            yield pq.ParquetFile(file)
    except SourceError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # OSError is Arrow's word for damaged pages
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


@functools.lru_cache(1)
def _column(source: str, name: str, group: int) -> pa.ChunkedArray:
    with remote.opened(source) as file:
        return pq.ParquetFile(file).read_row_group(group, columns=[name]).column(0)


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
