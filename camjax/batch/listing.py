"""The list of pictures in a store: which picture each row is for, written first and compared whenever a run goes on."""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from camjax.batch.entries import Entry, stored_path
from camjax.batch.schema import LIST, PART
from camjax.batch.store import Group, StoreError, add_array, read_rows, set_attributes

NOTHING = Entry("", -1, -1)
"""As a chunk reads whose file is gone."""


def write_list(group: Group, entries: Iterable[Entry]) -> int:
    """Writes the list to a new store, and its SHA-256 to the attributes.

    Returns:
        How many pictures there are.
    """
    texts = {"offset": "first byte in the shard, or the row, or -1", "length": "bytes in the shard, or -1"}
    arrays = [
        add_array(group, name, (0,), (PART,), **({"long_name": texts[name]} if name in texts else {})) for name in LIST
    ]
    digest, count = hashlib.sha256(), 0
    for rows, part in _parts(entries):
        digest.update(bytes_of(part))
        for array, column in zip(arrays, _columns(part), strict=True):
            array.resize((rows.stop,))
            array[rows] = column
        count = rows.stop
    set_attributes(group, {"list": digest.hexdigest()})
    return count


def read_entries(group: Group, rows: slice) -> list[Entry]:
    """Where those pictures are, as the store has it; `camjax.batch.entries.path_of` makes a path of each.

    Raises:
        StoreError: this part of the list is damaged.
    """
    columns = [read_rows(group, name, rows) for name in LIST]
    if any(column is None for column in columns):
        raise StoreError(f"the store's list is damaged at entry {rows.start}; --resume with the list mends it")
    return [
        Entry(*fields) for fields in zip(*(column.tolist() for column in columns if column is not None), strict=True)
    ]


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
        for name, column in zip(LIST, _columns(part), strict=True):
            there = read_rows(group, name, rows)
            if there is None or there.tolist() != column.tolist():
                group[name][rows] = column


def _parts(entries: Iterable[Entry]) -> Iterator[tuple[slice, list[Entry]]]:
    """The rows of every part, and the entries as they are stored."""
    entries, start = iter(entries), 0
    while part := [_stored(entry) for entry in itertools.islice(entries, PART)]:
        yield slice(start, start + len(part)), part
        start += len(part)


def _stored(entry: Entry) -> Entry:
    return entry._replace(path=stored_path(entry.path))


def _columns(part: Sequence[Entry]) -> tuple[Any, ...]:
    paths, offsets, lengths = zip(*part, strict=True)
    return np.asarray(paths, object), np.asarray(offsets, np.int64), np.asarray(lengths, np.int64)


def bytes_of(part: Sequence[Entry]) -> bytes:
    """What the list's SHA-256 is of."""
    return "".join(f"{path}\0{offset}\0{length}\n" for path, offset, length in part).encode()
