"""Lists of pictures: text with one path a line, CSV and Parquet with a column of paths."""

import csv
import os
from collections.abc import Iterator, Sequence

import fsspec

from camjax.batch.entries import SourceError, is_url

LIST_SUFFIXES = frozenset({".txt", ".csv", ".parquet"})

COLUMN = "path"


def read_list(source: str) -> Iterator[str]:
    """The paths and URLs that a list names, in its order.

    Args:
        source: a `.txt` with one a line, empty lines left out; a `.csv` with a header, or a `.parquet`, whose column
            `path` is read. Relative paths are relative to the list's own folder.

    Raises:
        SourceError: the list is missing or damaged, or no column is the paths'.
    """
    folder = os.path.dirname(source) if not is_url(source) else source.rpartition("/")[0]
    reader = {".txt": _text, ".csv": _csv, ".parquet": _parquet}[os.path.splitext(source)[1].lower()]
    try:
        for path in reader(source):
            yield path if is_url(path) else _joined(folder, path)
    except FileNotFoundError as error:
        raise SourceError(f"{source}: there is no such list; check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{source}: is a damaged list ({error}); write it as UTF-8") from error


def _joined(folder: str, path: str) -> str:
    return f"{folder}/{path}" if is_url(folder) and not os.path.isabs(path) else os.path.join(folder, path)


def _text(source: str) -> Iterator[str]:
    with fsspec.open(source, "rt", encoding="utf-8", newline="\n") as file:
        for line in file:
            if path := line.rstrip("\r\n"):
                yield path


def _csv(source: str) -> Iterator[str]:
    with fsspec.open(source, "rt", encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        column = _column(source, next(rows, []))
        for row in rows:
            if len(row) > column:
                yield row[column]
            elif row:
                raise SourceError(f"{source}: line {rows.line_num} has no column {COLUMN!r}; mend it")


def _parquet(source: str) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with fsspec.open(source, "rb") as file:
        try:
            table = pq.ParquetFile(file)
            name = table.schema_arrow.names[_column(source, table.schema_arrow.names)]
            for batch in table.iter_batches(columns=[name]):
                yield from map(str, batch.column(0).to_pylist())
        except pa.ArrowException as error:
            raise SourceError(f"{source}: is a damaged Parquet file ({error})") from error


def _column(source: str, names: Sequence[str]) -> int:
    if COLUMN in names:
        return names.index(COLUMN)
    raise SourceError(f"{source}: has no column {COLUMN!r} among {', '.join(names) or 'none'}; name the paths' so")
