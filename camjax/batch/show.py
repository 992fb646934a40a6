"""One entry of a store, with its picture read again, as an explanation to be drawn."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float16, Float32

from camjax.batch import store
from camjax.batch.entries import is_url, path_of, stored_path, stored_text
from camjax.batch.listing import read_entries
from camjax.batch.plan import options_of
from camjax.batch.reading import read_entry_image
from camjax.batch.schema import PART
from camjax.core.maps import is_flat, upsample
from camjax.core.result import CamResult
from camjax.errors import PictureError, printable
from camjax.explain.explanation import Explanation
from camjax.images.decode.ranges import NoteCounter
from camjax.images.geometry import Geometry
from camjax.methods.condition import conditions

MOST_DIGITS = 18
"""Largest number of digits in an entry's number."""
LARGEST_SHOWN = 2**32
"""Largest size in bytes of the maps of one picture at the size of the network's input."""


def read_entry(out: str, wanted: str) -> Explanation:
    """Reads one entry of a store, and its picture from where it was.

    Args:
        out: the store.
        wanted: the row's number, or the picture's path, as it is or as the store has it.

    Returns:
        Maps at the size of the network's input, upsampled by PyTorch's bicubic where the store has smaller ones.

    Raises:
        StoreError: no such store, no such entry, or this part of the store is damaged.
        PictureError: the picture could not be read in the run, or has not been explained yet, or cannot be read now.
    """
    group = store.open_store(out)
    row = _row(group, out, wanted)
    (entry,) = read_entries(group, slice(row, row + 1))
    entry = entry._replace(path=path_of(entry.path))
    status = int(_value(group, out, "status", row))
    if status == store.UNREADABLE:
        raise PictureError(f"entry {row} was not explained: {_value(group, out, 'error', row)}")
    if status == store.PENDING:
        raise PictureError(f"{entry.path}: entry {row} is not explained yet; go on with camjax batch --resume")
    folder = Path(path_of(str(group.attrs["folder"])))
    if entry.offset < 0 and not is_url(entry.path) and not _exists(entry.path):
        entry = entry._replace(path=str(folder / entry.path))
    classes, small = _value(group, out, "classes", row), _value(group, out, "maps", row)
    labels = store.read_rows(group, "label", slice(None))
    if labels is None or not ((classes >= 0) & (classes < len(labels))).all():
        raise _damaged(out, row, "classes" if labels is not None else "label")
    input_size = tuple(group.attrs["run"]["input_size"])
    if 4 * len(classes) * input_size[0] * input_size[1] > LARGEST_SHOWN:
        raise store.StoreError(f"{out}: its maps are too large to be shown: {len(classes)} of {input_size} pixels")
    size = _value(group, out, "geometry", row)[:2]
    image = read_entry_image(entry, options_of(group.attrs["run"]))
    NoteCounter().add(image.notes)
    if image.size != tuple(size.tolist()):
        raise PictureError(f"{entry.path}: is another picture now, of another size; explain it again")
    maps = upsample(jnp.asarray(_without_rounding(small)), input_size)
    result = CamResult(jnp.zeros(len(labels)), jnp.asarray(classes), jnp.zeros(len(classes)), maps)
    return Explanation(
        Path(entry.path),
        image.pixels,
        _geometry(group, out, image.size),
        tuple(str(labels[number]) for number in classes),
        classes,
        _value(group, out, "probabilities", row),
        _value(group, out, "logits", row),
        np.asarray(maps),
        np.asarray(conditions(result)),
        method=group.attrs["run"]["method"],
        layer=group.attrs["run"]["layer"],
        value_range=image.value_range,
    )


def _without_rounding(maps: Float16[np.ndarray, "k h w"]) -> Float32[np.ndarray, "k h w"]:
    """Returns a store's maps in float32, those constant but for the rounding to float16 truly constant.

    In float32 the difference of two neighbouring float16 numbers would count as a pattern.
    """
    high = maps.max((1, 2), keepdims=True)
    flat = is_flat(maps.min((1, 2), keepdims=True), high)
    return np.where(flat, high, maps).astype(np.float32)


def _value(group: store.Group, out: str, name: str, row: int) -> np.ndarray:
    """Returns one row of an array.

    Raises:
        StoreError: The row's chunk is damaged.
    """
    found = store.read_rows(group, name, slice(row, row + 1))
    if found is None:
        raise _damaged(out, row, name)
    return np.asarray(found[0])


def _damaged(out: str, row: int, name: str) -> store.StoreError:
    return store.StoreError(
        f"{out}: entry {row} is damaged in {name}; camjax check names all that is, and camjax batch --resume mends it"
    )


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long, or with a NUL; the reader says so
        return False


def _row(group: store.Group, out: str, wanted: str) -> int:
    count, damaged = group["path"].shape[0], False
    names = {stored_path(wanted), stored_text(wanted)}
    for start in range(0, count, PART):
        paths = store.read_rows(group, "path", slice(start, min(start + PART, count)))
        damaged = damaged or paths is None
        if paths is not None and (found := np.flatnonzero(np.isin(paths.astype(object), list(names)))).size:
            return start + int(found[0])
    if wanted.isdecimal():
        if len(wanted) <= MOST_DIGITS and int(wanted) < count:
            return int(wanted)
        raise store.StoreError(f"{out}: has no entry {printable(wanted, 40)}; its {count} entries begin at 0")
    if damaged:
        raise store.StoreError(f"{out}: its list is damaged; name the entry's number, or mend the list with --resume")
    text = printable(wanted)
    raise store.StoreError(f"{out}: has no entry {text!r}; name its number, or its path as the store has it")


def _geometry(group: store.Group, out: str, size: tuple[int, int]) -> Geometry:
    run = group.attrs["run"]
    (height, width), preprocess = run["input_size"], run["preprocess"]
    fields = ("crop_pct", "interpolation", "crop_mode", "crop_rounding")
    try:
        return Geometry(run["geometry"], size, (height, width), **{name: preprocess[name] for name in fields})
    except ValueError as error:
        raise store.StoreError(f"{out}: its metadata are damaged: {error}") from error
