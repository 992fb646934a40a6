"""Opening a store, after its metadata have been validated."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import zarr

from camjax.batch.guard import DOCUMENT, LARGEST_DOCUMENT, guarded
from camjax.batch.remote import local_path, locate
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
"""Number of chunks of the list that may be missing however few there are."""


def open_store(out: str, *, mode: Literal["r", "r+"] = "r") -> Group:
    """Opens a store that camjax wrote, after validating its metadata.

    Only Zarr format 3 is read, and only the codecs that camjax writes, since other codecs may run code.

    Args:
        out: The store's path or URL.
        mode: `"r"` for reading, or `"r+"` for reading and writing.

    Returns:
        The open group.

    Raises:
        StoreError: There is no store, camjax did not write it, or its metadata are not as camjax writes them.
        SourceError: The URL is not accepted; see `camjax.batch.remote.locate`.
    """
    with _one_line(out):
        document = read_document(_read(out))
        attributes, arrays = read_group(document), read_consolidated(document)
        sizes = _checked(out, attributes, arrays)
        storage = guarded(out, read_only=mode == "r")
        group: Group = zarr.open_group(storage, mode=mode, zarr_format=3, use_consolidated=bool(arrays))
        if sizes is not None:
            storage.limits, storage.elements = sizes.limits, sizes.elements
            for name in LAYOUTS:
                group[name]  # Zarr interprets the metadata here, so that its errors are raised here
        return group


def _checked(out: str, attributes: Mapping[str, Any], arrays: Mapping[str, Any] | None) -> Sizes | None:
    """Validates the metadata; returns None for a store whose list of pictures was never completed."""
    if not is_listed(attributes):
        if "run" in attributes or arrays is not None:
            raise StoreError("its attributes have a run but no finished list")
        return None
    sizes = check_metadata(attributes, arrays or {name: read_document(_read_array(out, name)) for name in LAYOUTS})
    _check_list_is_there(out, sizes)
    return sizes


@contextlib.contextmanager
def _one_line(out: str) -> Iterator[None]:
    """Turns every error but those of the file system into a `StoreError` of one line that names the store."""
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


def _read_array(out: str, name: str) -> bytes:
    try:
        return _read(out, name)
    except FileNotFoundError as error:
        raise StoreError(f"array {name} is missing") from error


def _read(out: str, *array: str) -> bytes:
    """Reads the metadata document of the root or of an array."""
    key = "/".join((*array, DOCUMENT))
    if (folder := local_path(out)) is not None:
        return read_regular(Path(folder) / key, LARGEST_DOCUMENT)
    system, path = locate(out)
    data = system.cat_file(f"{path.rstrip('/')}/{key}", 0, LARGEST_DOCUMENT + 1)
    if len(data) > LARGEST_DOCUMENT:
        raise StoreError(f"its {key} has more than {LARGEST_DOCUMENT:,} bytes")
    return bytes(data)


def _why_none(out: str) -> str:
    """Returns why there is no store to open, as the end of a sentence."""
    folder = local_path(out)
    if folder is not None and any((Path(folder) / name).exists() for name in (".zgroup", ".zarray", ".zmetadata")):
        return "is a Zarr store of format 2, which camjax neither writes nor reads"
    return "there is no Zarr store; check the path"


def _check_list_is_there(out: str, sizes: Sizes) -> None:
    """Refuses a store that claims far more pictures than its list has chunks.

    The list is written completely before anything else, so damage leaves a few chunks missing and never most of them.
    Without this check, looking for the chunks of 10**12 pictures would take days.

    Raises:
        StoreError: More than `SPARSE` chunks and more than two thirds of them are missing.
    """
    parts = -(-sizes.pictures // PART)
    if parts <= SPARSE:
        return
    if (local := local_path(out)) is not None:
        folder = Path(local) / "path" / "c"
        there = sum(1 for _ in itertools.islice(folder.iterdir(), parts)) if folder.is_dir() else 0
    else:
        system, path = locate(out)
        folder_url = f"{path.rstrip('/')}/path/c"
        there = len(system.ls(folder_url, detail=False)) if system.exists(folder_url) else 0
    if parts > SPARSE + 2 * there:
        raise StoreError(f"claims {sizes.pictures:,} pictures, but has {there} of {parts:,} parts of their list")


def is_listed(attributes: Mapping[str, Any]) -> bool:
    """Returns whether a store's attributes say that its list of pictures and its arrays are complete."""
    return attributes.get("listed") is True
