"""What there is to explain: folders, lists, tar shards and buckets, one picture after the other, in a fixed order."""

import contextlib
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import fsspec

from camjax.batch.entries import Entry, SourceError, is_url
from camjax.batch.lists import LIST_SUFFIXES, read_list
from camjax.errors import PictureError
from camjax.images.decode.kinds import SkippedFiles
from camjax.images.pictures import PICTURE_SUFFIXES, files_in

SHARD_SUFFIX = ".tar"
PACKED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")
LEAST = -(2**62)
"""Of a size in a shard, so that the store can keep it."""
UNPACK = "make a .tar of it, e.g. gunzip -k SHARD.tar.gz (bunzip2, unxz, unzstd), or unzip into a folder"

_WANTED = PICTURE_SUFFIXES | {SHARD_SUFFIX}


def list_entries(
    sources: Iterable[str | os.PathLike[str]], column: str | None = None, skipped: SkippedFiles | None = None
) -> Iterator[Entry]:
    """Every picture of the sources, as often as it is named.

    A folder or a bucket's prefix is searched for pictures and tar shards, by name, hidden ones left out. A tar shard
    gives the pictures in it, in its order. A list gives the pictures and shards that it names, in its order. Anything
    else is a picture, recognised by its content when it is read. One folder's names, or one shard's, are in memory at
    a time.

    Args:
        sources: paths and fsspec URLs.
        column: of lists that have several; see `camjax.batch.lists.read_list`.
        skipped: Counts the files in folders and shards that are no images, from the start of the list; None counts
            nothing.

    Raises:
        PictureError: a folder holds no picture, or something that is named is not there.
        SourceError: a shard or a list is damaged or of a kind that cannot be read in parts.
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
        for named in read_list(source, column):
            if isinstance(named, Entry):
                yield named
            else:
                yield from _expanded(named, skipped)
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


def _remote(source: str, skipped: SkippedFiles) -> Iterator[Entry]:
    try:
        system, path = fsspec.url_to_fs(source)
        if not system.isdir(path):
            yield from _expanded(source, skipped)
            return
        for found in _files_below(system, path, skipped):
            yield from _expanded(system.unstrip_protocol(found), skipped)
    except (ImportError, ValueError) as error:  # fsspec names the package that is missing, or the unknown protocol
        raise SourceError(f"{source}: {error}") from error


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
        raise SourceError(f"{path}: is compressed, so that its pictures cannot be read one by one; {UNPACK}")
    if path.lower().endswith(SHARD_SUFFIX):
        yield from _in_shard(path, skipped)
    else:
        yield Entry(path)


def _in_shard(shard: str, skipped: SkippedFiles) -> Iterator[Entry]:
    if "::" in shard:
        raise SourceError(f"{shard}: the path of a shard may not have '::' in it; rename it")
    before = -1
    with _named(shard), fsspec.open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
        for member in archive:
            if member.offset <= before:  # a size below zero can lead back
                raise tarfile.ReadError("it runs in a circle")
            before = member.offset
            if member.isreg() and os.path.splitext(member.name)[1].lower() in PICTURE_SUFFIXES:
                yield Entry(f"tar://{member.name}::{shard}", member.offset_data, max(member.size, LEAST))
            elif member.isreg():
                skipped.add(member.name)


@contextlib.contextmanager
def _named(shard: str) -> Iterator[None]:
    """What is wrong with a shard, in one line that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise SourceError(f"{shard}: there is no such shard; check the path") from error
    except PermissionError as error:
        raise SourceError(f"{shard}: you may not read it; change its permissions") from error
    except ImportError as error:
        raise SourceError(f"{shard}: {error}") from error
    except Exception as error:  # a header may claim any number, and each reader and file system has its own errors
        reason = " ".join(str(error).split()) or type(error).__name__
        if is_url(shard) and not isinstance(error, (tarfile.TarError, ValueError, OverflowError, MemoryError)):
            raise SourceError(f"{shard}: cannot be reached ({reason}); go on with --resume when it can") from error
        raise SourceError(f"{shard}: is a damaged tar shard ({reason}); make it again, or leave it out") from error
