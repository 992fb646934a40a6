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
from typing import Any, Literal

import fsspec
import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.errors import ZarrUserWarning

from camjax.batch.entries import is_url
from camjax.choices import Activation
from camjax.errors import CamjaxError

Group = Any
"""A `zarr.Group`; type checkers cannot tell its arrays from its groups."""

PENDING, EXPLAINED, UNREADABLE = 0, 1, 2
STATUS = {"pending": PENDING, "explained": EXPLAINED, "unreadable": UNREADABLE}

RESULTS = ("classes", "probabilities", "logits", "maps", "geometry", "error")

SIDES = ("height", "width", "top", "left", "bottom", "right")
"""The columns of `geometry`: the picture's size, and the rectangle of it that the maps span, in its pixels."""

FORMAT = 2

PROBABILITIES: Mapping[Activation, str] = {
    "softmax": "softmax over all classes",
    "sigmoid": "sigmoid of the class's logit",
    "none": "the network's output for the class",
}
"""Descriptions of the array `probabilities` by the model's activation."""


class StoreError(CamjaxError, ValueError):
    """A store cannot be used as asked."""


def exists(out: str) -> bool:
    """Whether there is anything at all where the store is to go; an empty folder is nothing."""
    if is_url(out):
        system, path = fsspec.url_to_fs(out)
        return bool(system.exists(path))
    path = Path(out)
    return path.exists() and (not path.is_dir() or any(path.iterdir()))


def open_store(out: str, *, mode: Literal["r", "r+"] = "r") -> Group:
    """Opens a store of camjax's.

    Raises:
        StoreError: there is none, or it is somebody else's.
    """
    try:
        group = zarr.open_group(out, mode=mode)
    except (FileNotFoundError, ValueError, NotADirectoryError) as error:
        raise StoreError(f"{out}: there is no Zarr store; check the path") from error
    if group.attrs.get("camjax_format") != FORMAT:
        raise StoreError(f"{out}: is a Zarr store, but none that this version of camjax wrote")
    return group


def is_listed(group: Group) -> bool:
    """Whether the list of pictures and the empty arrays are all there."""
    return bool(group.attrs.get("listed"))


def begin(out: str) -> Group:
    """Makes a new store with nothing in it; an unfinished one that is there is replaced."""
    return zarr.create_group(out, attributes={"camjax_format": FORMAT}, overwrite=True)


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
    rank, part = ("picture", "rank"), (chunk, top_k)
    add_array(group, "classes", (n, top_k), part, "int32", -1, rank, long_name="number of the class, by falling rank")
    add_array(group, "probabilities", (n, top_k), part, "float32", np.nan, rank, long_name=PROBABILITIES[activation])
    add_array(group, "logits", (n, top_k), part, "float32", np.nan, rank)
    maps = ("picture", "rank", "y", "x")
    add_array(
        group, "maps", (n, top_k, *map_size), (*part, *map_size), "float16", np.nan, maps,
        units=unit, long_name="map of the class, raw and signed",
    )  # fmt: skip
    add_array(
        group, "geometry", (n, 6), (chunk, 6), "float32", np.nan, ("picture", "side"),
        units="pixel", columns=SIDES, long_name="the picture's size, and the rectangle of it that the maps span",
    )  # fmt: skip
    add_array(group, "error", (n,), (chunk,), zarr.dtype.VariableLengthUTF8(), "", ("picture",))
    add_array(group, "status", (n,), (chunk,), "int8", PENDING, ("picture",), **STATUS)
    add_array(group, "label", (len(labels),), (len(labels),), zarr.dtype.VariableLengthUTF8(), "", ("class",))
    check_labels(group, labels)
    group.update_attributes({**attributes, "coordinates": "path label status error", "listed": True})
    consolidate(group)


def consolidate(group: Group) -> None:
    """Puts the metadata of all the arrays into one file, as xarray wants it, unless they are there."""
    if group.metadata.consolidated_metadata is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ZarrUserWarning)  # that Zarr v3 does not define it yet
            zarr.consolidate_metadata(group.store)


def check_options(group: Group, attributes: Mapping[str, Any]) -> None:
    """Refuses other options than those that the store was begun with.

    Raises:
        StoreError: naming every difference.
    """
    old, new = group.attrs["run"], attributes["run"]
    differences = [
        f"{name} was {old.get(name)!r}, now is {new.get(name)!r}"
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
    try:
        there = group["label"][:].tolist() == list(labels)
    except Exception:  # each codec has its own error for a damaged chunk
        there = False
    if not there:
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
    for name in ("status", *RESULTS):
        try:
            parts[name] = group[name][rows]
        except OSError:
            raise
        except Exception:  # each codec has its own error for a damaged chunk
            found[name] = "damaged"
    if "status" in found:
        return found
    status = parts["status"]
    if (status == PENDING).any():
        return {"status": "pending"}
    # A chunk's file that is gone reads as the array's fill value.
    explained = status == EXPLAINED
    for name, part in parts.items():
        if name == "classes":
            gone = ((part[:, 0] >= 0) != explained).any()
        elif name == "error":
            gone = ((part != "") != (status == UNREADABLE)).any()
        else:
            gone = name != "status" and explained.any() and np.isnan(part[explained]).all()
        if gone:
            found[name] = "missing"
    return found


def remove_leftovers(out: str) -> None:
    """Removes the temporary files of a run that was killed while it wrote."""
    if not is_url(out):
        for path in Path(out).rglob("*.partial"):
            path.unlink(missing_ok=True)


def discard(out: str) -> None:
    """Removes a store that came to nothing."""
    if is_url(out):
        system, path = fsspec.url_to_fs(out)
        system.rm(path, recursive=True)
    else:
        shutil.rmtree(out)


def add_array(
    group: Group,
    name: str,
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    dtype: Any,  # noqa: ANN401
    fill: Any,  # noqa: ANN401
    dimensions: tuple[str, ...],
    **attributes: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """Makes an array whose chunks are compressed and carry a checksum."""
    return group.create_array(
        name,
        shape=shape,
        chunks=tuple(max(1, side) for side in chunk),
        dtype=dtype,
        fill_value=fill,
        dimension_names=dimensions,
        compressors=(ZstdCodec(level=3), Crc32cCodec()),
        attributes=attributes,
    )
