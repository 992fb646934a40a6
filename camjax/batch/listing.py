"""The list of pictures in a store: which picture each row is for, written first and compared whenever a run goes on."""

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import zarr

from camjax.batch.entries import Entry
from camjax.batch.store import Group, StoreError, add_array

PART = 4096
"""Entries in a chunk: the list is written and compared that many at a time."""

COLUMNS = ("path", "offset", "length")
NOTHING = Entry("", -1, -1)
"""As a chunk reads whose file is gone."""


def write_list(group: Group, entries: Iterable[Entry]) -> int:
    """Writes the list to a new store, and its SHA-256 to the attributes.

    Returns:
        How many pictures there are.
    """
    path = add_array(group, "path", (0,), (PART,), zarr.dtype.VariableLengthUTF8(), "", ("picture",))
    places = [
        add_array(group, name, (0,), (PART,), "int64", -1, ("picture",), long_name=text)
        for name, text in [
            ("offset", "first byte in the shard, or the row, or -1"),
            ("length", "bytes in the shard, or -1"),
        ]
    ]
    digest, count = hashlib.sha256(), 0
    for rows, part in _parts(entries):
        digest.update(bytes_of(part))
        for array, column in zip((path, *places), _columns(part), strict=True):
            array.resize((rows.stop,))
            array[rows] = column
        count = rows.stop
    group.update_attributes({"list": digest.hexdigest()})
    return count


def read_entries(group: Group, rows: slice) -> list[Entry]:
    """Where those pictures are.

    Raises:
        StoreError: this part of the list is damaged.
    """
    try:
        columns = [group[name][rows].tolist() for name in COLUMNS]
    except OSError:
        raise
    except Exception as error:  # each codec has its own error for a damaged chunk
        raise StoreError(
            f"the store's list is damaged at entry {rows.start}; --resume with the list mends it"
        ) from error
    return [Entry(*fields) for fields in zip(*columns, strict=True)]


def check_list(group: Group, entries: Callable[[], Iterable[Entry]]) -> None:
    """Refuses another list of pictures than the store's; damaged parts of the store's are written again.

    Args:
        group: the store.
        entries: begins the list, from its start at every call.

    Raises:
        StoreError: naming the first difference.
    """
    digest, count, total = hashlib.sha256(), 0, group["path"].shape[0]
    damaged: str | None = None
    for rows, part in _parts(entries()):
        digest.update(bytes_of(part))
        try:
            stored = read_entries(group, rows)
        except StoreError as error:
            damaged = damaged or str(error)
        else:
            gone = _compare(rows.start, stored, part)
            damaged = damaged or gone
        count = rows.stop
    if count != total:
        raise StoreError(f"the list is not the store's: it had {total} pictures, now has {count}")
    if damaged and digest.hexdigest() != group.attrs.get("list"):
        raise StoreError(f"the list is not the store's, whose own is damaged; {damaged}")
    if damaged:
        _mend(group, entries())


def _compare(start: int, stored: Sequence[Entry], part: Sequence[Entry]) -> str | None:
    """The first difference that a chunk without its file explains; any other is an error."""
    damaged = None
    for number, (old, new) in enumerate(itertools.zip_longest(stored, part), start):
        if old == new:
            continue
        was = repr(old.path) if old else "not in it"
        moved = " (elsewhere in its shard)" if old and old.path == new.path else ""
        text = f"entry {number} was {was}, now is {new.path!r}{moved}"
        if old is None or not all(ours in (theirs, none) for ours, theirs, none in zip(old, new, NOTHING, strict=True)):
            raise StoreError(f"the list is not the store's: {text}")
        damaged = damaged or text
    return damaged


def _mend(group: Group, entries: Iterable[Entry]) -> None:
    for rows, part in _parts(entries):
        for name, column in zip(COLUMNS, _columns(part), strict=True):
            try:
                whole = group[name][rows].tolist() == column.tolist()
            except Exception:  # each codec has its own error for a damaged chunk
                whole = False
            if not whole:
                group[name][rows] = column


def _parts(entries: Iterable[Entry]) -> Iterator[tuple[slice, list[Entry]]]:
    """The rows of every part, and the entries as they can be stored."""
    entries, start = iter(entries), 0
    while part := [_storable(entry) for entry in itertools.islice(entries, PART)]:
        yield slice(start, start + len(part)), part
        start += len(part)


def _storable(entry: Entry) -> Entry:
    """A name that is not UTF-8 cannot be stored as it is; the picture will be recorded as one that is not there."""
    return entry._replace(path=os.fsencode(entry.path).decode("utf-8", "backslashreplace"))


def _columns(part: Sequence[Entry]) -> tuple[Any, ...]:
    paths, offsets, lengths = zip(*part, strict=True)
    return np.asarray(paths, object), np.asarray(offsets, np.int64), np.asarray(lengths, np.int64)


def bytes_of(part: Sequence[Entry]) -> bytes:
    """What the list's SHA-256 is of."""
    return "".join(f"{path}\0{offset}\0{length}\n" for path, offset, length in part).encode()
