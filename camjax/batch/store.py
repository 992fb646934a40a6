"""The Zarr store that explanations go to: its arrays, what is written when, and what is still missing.

Zarr v3, one row a picture. The pictures are divided into chunks of rows; a chunk belongs to one process, is written at
once, and its `status` comes last: the chunks of `status` are the log of what is whole. Every chunk of the results
carries a CRC-32C checksum, so a file that a crash of the machine left half written is found when the run goes on.
"""

import hashlib
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.errors import ZarrUserWarning

from camjax.batch.entries import is_url
from camjax.batch.guard import guarded
from camjax.batch.opening import Group as Group
from camjax.batch.opening import is_listed as is_listed
from camjax.batch.opening import open_store as open_store
from camjax.batch.remote import locate
from camjax.batch.schema import FORMAT, LAYOUTS, SIDES, TEXT, shown
from camjax.batch.schema import StoreError as StoreError
from camjax.choices import Activation
from camjax.errors import printable
from camjax.json_text import finite

PENDING, EXPLAINED, UNREADABLE = 0, 1, 2
STATUS = {"pending": PENDING, "explained": EXPLAINED, "unreadable": UNREADABLE}

RESULTS = ("classes", "probabilities", "logits", "maps", "geometry", "error")

PROBABILITIES: Mapping[Activation, str] = {
    "softmax": "softmax over all classes",
    "sigmoid": "sigmoid of the class's logit",
    "none": "the network's output for the class",
}
"""Descriptions of the array `probabilities` by the model's activation."""


def exists(out: str) -> bool:
    """Whether there is anything at all where the store is to go; an empty folder is nothing."""
    if is_url(out):
        system, path = locate(out)
        return bool(system.exists(path))
    folder = Path(out)
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


def begin(out: str) -> Group:
    """Makes a new store with nothing in it; an unfinished one that is there is replaced."""
    storage = guarded(out, read_only=False)
    return zarr.create_group(storage, attributes={"camjax_format": FORMAT}, overwrite=True, zarr_format=3)


def allocate(
    group: Group,
    *,
    chunk: int,
    top_k: int,
    map_size: tuple[int, int],
    unit: str,
    labels: Sequence[str],
    activation: Activation,
    attributes: Mapping[str, Any],
) -> None:
    """Makes the empty arrays of the results and marks the store as ready to be filled.

    Args:
        group: from `begin`, with its list.
        chunk: rows that are written at once.
        top_k: classes a picture.
        map_size: of the maps.
        unit: of the maps.
        labels: of all the classes, by number.
        activation: The function that turns the network's outputs into probabilities.
        attributes: what made the store, to be compared when a run goes on.
    """
    n = group["path"].shape[0]
    part = (chunk, top_k)
    add_array(group, "classes", (n, top_k), part, long_name="number of the class, by falling rank")
    add_array(group, "probabilities", (n, top_k), part, long_name=PROBABILITIES[activation])
    add_array(group, "logits", (n, top_k), part)
    add_array(
        group, "maps", (n, top_k, *map_size), (*part, *map_size), units=unit,
        long_name="map of the class, raw and signed",
    )  # fmt: skip
    add_array(
        group, "geometry", (n, len(SIDES)), (chunk, len(SIDES)), units="pixel", columns=SIDES,
        long_name="the picture's size, and the rectangle of it that the maps span",
    )  # fmt: skip
    add_array(group, "error", (n,), (chunk,))
    add_array(group, "status", (n,), (chunk,), **STATUS)
    add_array(group, "label", (len(labels),), (len(labels),))
    check_labels(group, labels)
    set_attributes(group, {**attributes, "coordinates": "path label status error", "listed": True})
    consolidate(group)


def set_attributes(group: Group, attributes: Mapping[str, Any]) -> None:
    """Updates the attributes of a store; NaN and infinities become null, since JSON cannot express them."""
    group.update_attributes(finite(attributes))


def consolidate(group: Group) -> None:
    """Puts the metadata of all the arrays into one file, as xarray wants it, unless they are there.

    Raises:
        StoreError: there is an array beside camjax's with metadata that Zarr does not understand.
    """
    if group.metadata.consolidated_metadata is not None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZarrUserWarning)  # that Zarr v3 does not define it yet
        try:
            zarr.consolidate_metadata(group.store)
        except OSError:
            raise
        except Exception as error:  # of an array beside camjax's, whose metadata are damaged
            reason = printable(" ".join(str(error).split()) or type(error).__name__, 160)
            raise StoreError(
                f"the store's metadata cannot be put together ({reason}); remove what is damaged"
            ) from error


def check_options(group: Group, attributes: Mapping[str, Any]) -> None:
    """Refuses other options than those that the store was begun with.

    Raises:
        StoreError: naming every difference.
    """
    old, new = group.attrs["run"], attributes["run"]
    differences = [
        f"{printable(str(name), 40)} was {shown(old.get(name))}, now is {shown(new.get(name))}"
        for name in [*old, *(name for name in new if name not in old)]
        if old.get(name) != new.get(name)
    ]
    if differences:
        raise StoreError(f"the store was begun with other options: {'; '.join(differences)}; or choose another --out")


def write_chunk(group: Group, start: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes the rows of one chunk, its status last."""
    rows = slice(start, start + len(arrays["status"]))
    for name in [*(name for name in arrays if name != "status"), "status"]:
        group[name][rows] = arrays[name]


def check_labels(group: Group, labels: Sequence[str]) -> None:
    """Writes the classes' names where they are not there, or are damaged."""
    there = read_rows(group, "label", slice(None))
    if there is None or there.tolist() != list(labels):
        group["label"][:] = np.asarray(labels, object)


def digest_of(labels: Sequence[str]) -> str:
    """By which the classes' names are compared."""
    return hashlib.sha256("\n".join(labels).encode()).hexdigest()


def chunks(group: Group) -> list[tuple[int, int]]:
    """The first row and the row past the last of every chunk."""
    n, chunk = group["status"].shape[0], group["status"].chunks[0]
    return [(start, min(start + chunk, n)) for start in range(0, n, chunk)]


def is_whole(group: Group, start: int, stop: int) -> bool:
    """Whether a chunk has been written, all of it, and its checksums hold."""
    return not problems(group, start, stop)


def problems(group: Group, start: int, stop: int) -> dict[str, str]:
    """What is wrong with a chunk, by array: `"pending"`, `"damaged"` or `"missing"`; empty when it is whole."""
    rows, found, parts = slice(start, stop), dict[str, str](), dict[str, np.ndarray]()
    status = read_rows(group, "status", rows)
    if status is None:
        return {"status": "damaged"}
    if (status == PENDING).any():  # before more is read of a chunk that is not there
        return {"status": "pending"}
    if not np.isin(status, (EXPLAINED, UNREADABLE)).all():
        return {"status": "damaged"}
    for name in RESULTS:
        part = read_rows(group, name, rows)
        if part is None:
            found[name] = "damaged"
        else:
            parts[name] = part
    # A chunk's file that is gone reads as the array's fill value.
    explained = status == EXPLAINED
    for name, part in parts.items():
        if name == "classes":
            gone = ((part[:, 0] >= 0) != explained).any()
        elif name == "error":
            gone = ((part != "") != (status == UNREADABLE)).any()
        else:
            gone = explained.any() and np.isnan(part[explained]).all()
        if gone:
            found[name] = "missing"
    return found


def read_rows(group: Group, name: str, rows: slice) -> np.ndarray | None:
    """Returns rows of an array, or None if a chunk of them is damaged.

    Raises:
        OSError: The file system failed.
    """
    try:
        return np.asarray(group[name][rows])
    except OSError:
        raise
    except Exception:  # each codec has its own error for a damaged chunk
        return None


def remove_leftovers(out: str) -> None:
    """Removes the temporary files of a run that was killed while it wrote."""
    if not is_url(out):
        for path in Path(out).rglob("*.partial"):
            path.unlink(missing_ok=True)


def discard(out: str) -> None:
    """Removes a store that came to nothing."""
    if is_url(out):
        system, path = locate(out)
        system.rm(path, recursive=True)
    else:
        shutil.rmtree(out)


def add_array(
    group: Group,
    name: str,
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    **attributes: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """Makes an array of `LAYOUTS`, whose chunks are compressed and carry a checksum."""
    layout = LAYOUTS[name]
    text = layout.data_type == TEXT
    return group.create_array(
        name,
        shape=shape,
        chunks=tuple(max(1, side) for side in chunk),
        dtype=zarr.dtype.VariableLengthUTF8() if text else layout.data_type,
        fill_value=np.nan if layout.fill == "NaN" else layout.fill,
        dimension_names=layout.dimensions,
        compressors=(ZstdCodec(level=3), Crc32cCodec()),
        attributes=attributes,
    )
