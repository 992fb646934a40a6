"""Lists of pictures: text with one path a line, CSV and Parquet with a column of paths, Parquet with pictures."""

import csv
import os
from collections.abc import Iterator, Sequence

import fsspec

from camjax.batch.entries import Entry, SourceError, beside
from camjax.errors import printable

LIST_SUFFIXES = frozenset({".txt", ".csv", ".parquet"})

COLUMNS = ("path", "image")
"""What a column is called where nobody says; the first of these that is there."""

ENCODING = "utf-8-sig"  # a byte-order mark, as Windows writes it, is no part of the first path


def read_list(source: str, column: str | None = None) -> Iterator[str | Entry]:
    """What a list names, in its order.

    Args:
        source: a `.txt` with one path or URL a line, empty lines left out; a `.csv` with a header, or a `.parquet`, of
            which a column is read. Relative paths are relative to the list's own folder.
        column: which; None is `path`, or else `image`.

    Yields:
        Paths and URLs; for a Parquet file that holds pictures, and for rows without a path, the rows' places.

    Raises:
        SourceError: the list is missing or damaged, or no column is the paths'.
    """
    reader = {".txt": _text, ".csv": _csv, ".parquet": _parquet}[os.path.splitext(source)[1].lower()]
    try:
        for found in reader(source, column):
            yield beside(source, found) if isinstance(found, str) else found
    except FileNotFoundError as error:
        raise SourceError(f"{source}: there is no such list; check the path") from error
    except PermissionError as error:
        raise SourceError(f"{source}: you may not read it; change its permissions") from error
    except IsADirectoryError as error:
        raise SourceError(f"{source}: is a folder, but named as a list is; rename it") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{source}: is a damaged list ({error}); write it as UTF-8") from error
    except (ValueError, ImportError) as error:  # fsspec's, of an unknown protocol and of a missing package
        raise SourceError(f"{source}: {error}") from error


def _text(source: str, _: str | None) -> Iterator[str]:
    with fsspec.open(source, "rt", encoding=ENCODING, newline="\n") as file:
        for line in file:
            if path := line.rstrip("\r\n"):
                yield path


def _csv(source: str, column: str | None) -> Iterator[str]:
    with fsspec.open(source, "rt", encoding=ENCODING, newline="") as file:
        rows = csv.reader(file)
        names = next(rows, [])
        name = _column(source, names, column)
        number = names.index(name)
        for row in rows:
            if len(row) > number:
                yield row[number]
            elif row:
                raise SourceError(f"{source}: line {rows.line_num} has no column {name!r}; mend it")


def _parquet(source: str, column: str | None) -> Iterator[str | Entry]:
    from camjax.batch.tables import column_names, read_table  # with pyarrow, for which no other list should wait

    yield from read_table(source, _column(source, column_names(source), column))


def _column(source: str, names: Sequence[str], wanted: str | None) -> str:
    for name in (wanted,) if wanted else COLUMNS:
        if name in names:
            return name
    words = " or ".join(map(repr, [wanted] if wanted else COLUMNS))
    raise SourceError(
        f"{source}: has no column {words} among {printable(', '.join(names), 200) or 'none'}; choose one with --column"
    )
