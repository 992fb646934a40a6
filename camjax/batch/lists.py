"""Lists of pictures: text with one path a line, CSV and Parquet with a column of paths, Parquet with pictures."""

import contextlib
import csv
import io
import os
from collections.abc import Iterator, Sequence

from camjax.batch.entries import Entry, SourceError, beside, is_url
from camjax.batch.remote import lasting_reason, opened
from camjax.errors import printable

LIST_SUFFIXES = frozenset({".txt", ".csv", ".parquet"})

COLUMNS = ("path", "image")
"""What a column is called where nobody says; the first of these that is there."""

ENCODING = "utf-8-sig"  # a byte-order mark, as Windows writes it, is no part of the first path

LONGEST_LINE = 2**22
"""Largest number of characters in a line, since a table may have captions beside its paths."""
LONGEST_PATH = 2**15
"""Largest number of characters in a path or a URL."""


def read_list(source: str, column: str | None = None) -> Iterator[str | Entry]:
    """What a list names, in its order.

    Args:
        source: a `.txt` with one path or URL a line, empty lines left out; a `.csv` with a header, or a `.parquet`, of
            which a column is read. Relative paths are relative to the list's own folder.
        column: which; None is `path`, or else `image`.

    Yields:
        Paths and URLs; for a Parquet file that holds pictures, and for rows without a path, the rows' places.

    Raises:
        SourceError: the list is missing or damaged, is no regular file, or no column is the paths'.
    """
    reader = {".txt": _text, ".csv": _csv, ".parquet": _parquet}[os.path.splitext(source)[1].lower()]
    try:
        for number, found in enumerate(reader(source, column)):
            if isinstance(found, Entry):
                yield found
            elif len(found) > LONGEST_PATH:
                text = f"{source}: entry {number} has {len(found):,} characters, and a path at most {LONGEST_PATH:,}"
                raise SourceError(f"{text}; mend the list")
            else:
                yield beside(source, found)
    except SourceError:
        raise
    except FileNotFoundError as error:
        raise SourceError(f"{source}: there is no such list; check the path") from error
    except PermissionError as error:
        raise SourceError(f"{source}: you may not read it; change its permissions") from error
    except IsADirectoryError as error:
        raise SourceError(f"{source}: is a folder, but named as a list is; rename it") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{source}: is a damaged list ({error}); write it as UTF-8") from error
    except Exception as error:  # each file system has its own for a lost connection
        reason = lasting_reason(error) or f"cannot be read ({_words(error)})"
        again = "; go on with --resume when it can" if is_url(source) and not lasting_reason(error) else ""
        raise SourceError(f"{source}: {reason}{again}") from error


@contextlib.contextmanager
def _lines(source: str, newline: str) -> Iterator[Iterator[str]]:
    """Opens a text and yields its lines, none longer than `LONGEST_LINE`."""
    with opened(source) as file, io.TextIOWrapper(file, ENCODING, newline=newline) as text:
        yield _bounded(source, text)


def _bounded(source: str, text: io.TextIOWrapper) -> Iterator[str]:
    number = 0
    while line := text.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise SourceError(f"{source}: line {number} has more than {LONGEST_LINE:,} characters; it is no list")
        yield line


def _text(source: str, _: str | None) -> Iterator[str]:
    with _lines(source, "\n") as lines:
        for line in lines:
            if path := line.rstrip("\r\n"):
                yield path


def _csv(source: str, column: str | None) -> Iterator[str]:
    with _lines(source, "") as lines:
        rows = csv.reader(lines)
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


def _words(error: Exception) -> str:
    return printable(" ".join(str(error).split())) or type(error).__name__
