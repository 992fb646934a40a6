"""What there is to explain: folders, lists, tar shards and buckets, one picture after the other, in a fixed order."""

import contextlib
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import fsspec

from camjax.batch.entries import SHARD_SCHEME, Entry, SourceError, is_url
from camjax.batch.lists import LIST_SUFFIXES, read_list
from camjax.batch.remote import lasting_reason, local_path, locate, opened, refusal
from camjax.errors import PictureError
from camjax.files import IrregularFileError
from camjax.images.decode.kinds import SkippedFiles
from camjax.images.pictures import PICTURE_SUFFIXES, files_in

SHARD_SUFFIX = ".tar"
PACKED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")
LEAST = -(2**62)
"""Of a size in a shard, so that the store can keep it."""
LARGEST_HEADER = 2**24
"""Largest header of a shard in bytes; tarfile reads as much as a header claims."""
UNPACK = "make a .tar of it, e.g. gunzip -k SHARD.tar.gz (bunzip2, unxz, unzstd), or unzip into a folder"

_DAMAGE = (tarfile.TarError, ValueError, OverflowError, MemoryError, RecursionError)
"""What tarfile raises for bytes that are no shard."""
_WANTED = PICTURE_SUFFIXES | {SHARD_SUFFIX}


class UnusableShardError(SourceError):
    """A shard that will never be readable as it is: it is missing, damaged, compressed or not accepted."""


def list_entries(
    sources: Iterable[str | os.PathLike[str]], column: str | None = None, skipped: SkippedFiles | None = None
) -> Iterator[Entry]:
    """Every picture of the sources, as often as it is named.

    A folder or a bucket's prefix is searched for pictures and tar shards, by name, hidden ones left out. A tar shard
    gives the pictures in it, in its order. A list gives the pictures and shards that it names, in its order. Anything
    else is a picture, recognised by its content when it is read. One folder's names, or one shard's, are in memory at
    a time.

    Args:
        sources: paths and URLs; `camjax.batch.remote` says which are accepted.
        column: of lists that have several; see `camjax.batch.lists.read_list`.
        skipped: Counts the files in folders and shards that are no images, from the start of the list; None counts
            nothing.

    Yields:
        One entry for each picture; also for a URL or a shard in a list that cannot be used, which fails when it is
        read. Of a damaged shard in a list, the pictures before the damage come first.

    Raises:
        PictureError: a folder holds no picture, or something that is named is not there.
        SourceError: a source is a URL that is not accepted, or a shard or a list is damaged or of a kind that cannot
            be read in parts, or the connection to one is lost.
    """
    skipped = SkippedFiles() if skipped is None else skipped
    skipped.clear()
    for source in [os.fspath(source) for source in sources]:
        found = False
        for entry in _entries(source, column, skipped):
            found = True
            yield entry
        if not found:
            there = f"; it has {skipped.line()}" if skipped else ""
            raise PictureError(f"{source}: there is no picture in it ({', '.join(sorted(PICTURE_SUFFIXES))}){there}")


def _entries(source: str, column: str | None, skipped: SkippedFiles) -> Iterator[Entry]:
    if os.path.splitext(source)[1].lower() in LIST_SUFFIXES:
        yield from _listed(source, column, skipped)
    elif is_url(source):
        yield from _remote(source, skipped)
    elif os.path.isdir(source):
        try:
            for file in files_in(Path(source), _WANTED, skipped):
                yield from _expanded(os.fspath(file), skipped)
        except PermissionError as error:
            raise PictureError(f"{error.filename}: you may not read it; change its permissions") from error
    elif not os.path.lexists(source):
        raise PictureError(f"{source}: there is no such file or folder; check the path")
    else:
        yield from _expanded(source, skipped)


def _listed(source: str, column: str | None, skipped: SkippedFiles) -> Iterator[Entry]:
    """Yields what a list names; a row that will never be readable is one entry, so that no row stops a run."""
    for named in read_list(source, column):
        if isinstance(named, Entry):
            yield named
        elif is_url(named) and refusal(named):
            yield Entry(named)
        else:
            try:
                yield from _expanded(named, skipped)
            except UnusableShardError:
                yield Entry(named)


def _remote(source: str, skipped: SkippedFiles) -> Iterator[Entry]:
    if (folder := local_path(source)) is not None and os.path.isdir(folder):
        yield from _entries(folder, None, skipped)
        return
    system, path = locate(source)
    with _reached(source):
        is_folder = system.isdir(path)
    if not is_folder:
        yield from _expanded(source, skipped)
        return
    files = _files_below(system, path, skipped)
    while True:
        with _reached(source):
            found = next(files, None)
        if found is None:
            return
        yield from _expanded(system.unstrip_protocol(found), skipped)


@contextlib.contextmanager
def _reached(source: str) -> Iterator[None]:
    """Turns the errors of listing a remote folder into a `SourceError` that names it."""
    try:
        yield
    except Exception as error:  # each file system has its own for a lost connection
        if reason := lasting_reason(error):
            raise SourceError(f"{source}: {reason}") from error
        raise SourceError(f"{source}: cannot be reached ({_words(error)}); go on with --resume when it can") from error


def _files_below(system: fsspec.AbstractFileSystem, folder: str, skipped: SkippedFiles) -> Iterator[str]:
    for info in sorted(system.ls(folder, detail=True), key=lambda info: info["name"]):
        path = info["name"]
        if path.rstrip("/") == folder.rstrip("/") or path.rstrip("/").rpartition("/")[2].startswith("."):
            continue
        if info["type"] == "directory":
            yield from _files_below(system, path, skipped)
        elif os.path.splitext(path)[1].lower() in _WANTED:
            yield path
        else:
            skipped.add(path)


def _expanded(path: str, skipped: SkippedFiles) -> Iterator[Entry]:
    """A picture's file, or what is in a shard."""
    if path.lower().endswith(PACKED_SUFFIXES):
        raise UnusableShardError(f"{path}: is compressed, so that its pictures cannot be read one by one; {UNPACK}")
    if path.lower().endswith(SHARD_SUFFIX):
        yield from _in_shard(path, skipped)
    else:
        yield Entry(path)


def _in_shard(shard: str, skipped: SkippedFiles) -> Iterator[Entry]:
    if "::" in shard:
        raise UnusableShardError(f"{shard}: the path of a shard may not have '::' in it; rename it")
    before = -1
    with _named(shard), opened(shard) as file, _archive(file) as archive:
        for member in archive:
            if member.offset <= before:  # a size below zero can lead back
                raise tarfile.ReadError("it runs in a circle")
            before = member.offset
            if member.isreg() and os.path.splitext(member.name)[1].lower() in PICTURE_SUFFIXES:
                yield Entry(f"{SHARD_SCHEME}{member.name}::{shard}", member.offset_data, max(member.size, LEAST))
            elif member.isreg():
                skipped.add(member.name)


def _archive(file: Any) -> tarfile.TarFile:  # noqa: ANN401  (file systems have files of their own)
    return tarfile.open(fileobj=cast(Any, _Headers(file)), mode="r:")


class _Headers:
    """A shard's file for listing, which refuses to read headers of more than `LARGEST_HEADER` bytes."""

    def __init__(self, file: Any) -> None:  # noqa: ANN401
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= LARGEST_HEADER:
            raise tarfile.ReadError(f"a header claims {size:,} bytes")
        return cast(bytes, self._file.read(size))


@contextlib.contextmanager
def _named(shard: str) -> Iterator[None]:
    """What is wrong with a shard, in one line that names it."""
    try:
        yield
    except SourceError as error:
        if isinstance(error.__cause__, ValueError):  # a malformed URL
            raise UnusableShardError(str(error)) from error
        raise
    except Exception as error:  # a header may claim any number, and each reader and file system has its own errors
        reason = lasting_reason(error)
        access = isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | IrregularFileError)
        if not access and (not is_url(shard) or isinstance(error, _DAMAGE)):
            reason = f"is a damaged tar shard ({_words(error)}); make it again, or leave it out"
        if reason:
            raise UnusableShardError(f"{shard}: {reason}") from error
        raise SourceError(f"{shard}: cannot be reached ({_words(error)}); go on with --resume when it can") from error


def is_shard(path: str) -> bool:
    """Returns whether a path or URL names a shard by its ending, also one that is compressed."""
    return path.lower().endswith((SHARD_SUFFIX, *PACKED_SUFFIXES))


def shard_problem(path: str) -> str:
    """Returns why a shard that stands for a single picture cannot be used, as a line that begins with its path.

    Only the shard's first header is read.

    Raises:
        SourceError: The shard cannot be reached, perhaps for a while.
    """
    try:
        next(_expanded(path, SkippedFiles()), None)
    except UnusableShardError as error:
        return str(error)
    return f"{path}: is a tar shard that cannot be read to its end, or stands for a picture; make it or the list again"


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
