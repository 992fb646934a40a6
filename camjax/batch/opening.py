"""Opening a store: nothing of it is used before its metadata have been checked."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import zarr

from camjax.batch.entries import is_url
from camjax.batch.guard import DOCUMENT, LARGEST_DOCUMENT, guarded
from camjax.batch.remote import locate
from camjax.batch.schema import (
    LAYOUTS,
    PART,
    Sizes,
    StoreError,
    check_metadata,
    read_consolidated,
    read_document,
    read_group,
)
from camjax.errors import printable
from camjax.files import read_regular

Group = Any
"""A `zarr.Group`; type checkers cannot tell its arrays from its groups."""

SPARSE = 16
"""Chunks of the list that may be missing where others are not; a store that lacks more never had them."""


def open_store(out: str, *, mode: Literal["r", "r+"] = "r") -> Group:
    """Opens a store of camjax's, once its metadata have been checked.

    Only Zarr format 3 is read, and only arrays that are coded as camjax codes them: other codecs may run code.

    Args:
        out: the store's path or URL.
        mode: `"r"` to read, `"r+"` to write too.

    Raises:
        StoreError: there is none, it is somebody else's, or its metadata are not as camjax writes them.
        SourceError: the URL is none that is opened; see `camjax.batch.remote.locate`.
    """
    with _one_line(out):
        document = read_document(_read(out))
        attributes, arrays = read_group(document), read_consolidated(document)
        sizes = _checked(out, attributes, arrays)
        storage = guarded(out, read_only=mode == "r")
        group: Group = zarr.open_group(storage, mode=mode, zarr_format=3, use_consolidated=bool(arrays))
        if sizes is not None:
            storage.limits = sizes.limits
            for name in LAYOUTS:
                group[name]  # so that Zarr makes what it can of the metadata here, and errors are of here
        return group


def _checked(out: str, attributes: Mapping[str, Any], arrays: Mapping[str, Any] | None) -> Sizes | None:
    """What the metadata say of the store's shape; None where its list was never finished, so that it has none."""
    if not is_listed(attributes):
        if "run" in attributes or arrays is not None:
            raise StoreError("its attributes have a run but no finished list")
        return None
    sizes = check_metadata(attributes, arrays or {name: read_document(_read(out, name)) for name in LAYOUTS})
    _check_list_is_there(out, sizes)
    return sizes


@contextlib.contextmanager
def _one_line(out: str) -> Iterator[None]:
    """Makes whatever is wrong with a store a line that names it; errors of the file system stay what they are."""
    try:
        yield
    except FileNotFoundError as error:
        raise StoreError(f"{out}: {_why_none(out)}") from error
    except NotADirectoryError as error:
        raise StoreError(f"{out}: there is no Zarr store; check the path") from error
    except OSError:
        raise
    except StoreError as error:
        raise StoreError(f"{out}: {error}; check the path, or put its {DOCUMENT} back from a copy") from error
    except Exception as error:  # Zarr has many for metadata that it does not understand
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StoreError(f"{out}: cannot be opened as a Zarr store ({printable(reason, 160)})") from error


def _read(out: str, *array: str) -> bytes:
    """The metadata of the root, or of an array, as they stand."""
    key = "/".join((*array, DOCUMENT))
    if not is_url(out):
        return read_regular(Path(out) / key, LARGEST_DOCUMENT)
    system, path = locate(out)
    data = system.cat_file(f"{path.rstrip('/')}/{key}", 0, LARGEST_DOCUMENT + 1)
    if len(data) > LARGEST_DOCUMENT:
        raise StoreError(f"its {key} has more than {LARGEST_DOCUMENT:,} bytes")
    return bytes(data)


def _why_none(out: str) -> str:
    """Why there is no store to open."""
    if not is_url(out) and any((Path(out) / name).exists() for name in (".zgroup", ".zarray", ".zmetadata")):
        return "is a Zarr store of format 2, which camjax neither writes nor reads"
    return "there is no Zarr store; check the path"


def _check_list_is_there(out: str, sizes: Sizes) -> None:
    """Refuses a store that claims to have far more pictures than there are chunks of its list.

    The list is written whole before anything else, so that a few chunks are missing after damage, and never most. To
    look for the chunks of a million million pictures would take days.

    Raises:
        StoreError: it does.
    """
    parts = -(-sizes.pictures // PART)
    if parts <= SPARSE:
        return
    if is_url(out):
        system, path = locate(out)
        there = len(system.ls(f"{path.rstrip('/')}/path/c", detail=False))
    else:
        folder = Path(out) / "path" / "c"
        there = sum(1 for _ in itertools.islice(folder.iterdir(), parts)) if folder.is_dir() else 0
    if parts > SPARSE + 2 * there:
        raise StoreError(f"claims {sizes.pictures:,} pictures, but has {there} of {parts:,} parts of their list")


def is_listed(attributes: Mapping[str, Any]) -> bool:
    """Whether a store's attributes say that the list of pictures and the empty arrays are all there."""
    return attributes.get("listed") is True
