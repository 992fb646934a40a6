"""One entry of a store, with its picture read again, as an explanation to be drawn."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from camjax.batch import store
from camjax.batch.entries import is_url
from camjax.batch.listing import PART, read_entries
from camjax.batch.plan import options_of
from camjax.batch.reading import read_entry_image
from camjax.core.maps import upsample
from camjax.core.result import CamResult
from camjax.errors import PictureError
from camjax.explain.explanation import Explanation
from camjax.images.decode.ranges import NoteCounter
from camjax.images.geometry import Geometry
from camjax.methods.condition import conditions


def read_entry(out: str, wanted: str) -> Explanation:
    """Reads one entry of a store, and its picture from where it was.

    Args:
        out: the store.
        wanted: the row's number, or the picture's path as the store has it.

    Returns:
        Maps at the size of the network's input, upsampled by PyTorch's bicubic where the store has smaller ones.

    Raises:
        StoreError: no such store, or no such entry.
        PictureError: the picture could not be read in the run, or has not been explained yet, or cannot be read now.
    """
    group = store.open_store(out)
    row = _row(group, out, wanted)
    rows = slice(row, row + 1)
    (entry,) = read_entries(group, rows)
    status = int(group["status"][row])
    if status == store.UNREADABLE:
        raise PictureError(f"entry {row} was not explained: {group['error'][rows][0]}")
    if status == store.PENDING:
        raise PictureError(f"{entry.path}: entry {row} is not explained yet; go on with camjax batch --resume")
    folder = Path(str(group.attrs["folder"]))
    if entry.offset < 0 and not is_url(entry.path) and not Path(entry.path).exists():
        entry = entry._replace(path=str(folder / entry.path))
    image = read_entry_image(entry, options_of(group.attrs["run"]))
    NoteCounter().add(image.notes)
    geometry = _geometry(group, image.size)
    if image.size != tuple(group["geometry"][row, :2].astype(int)):
        raise PictureError(f"{entry.path}: is another picture now, of another size; explain it again")
    classes, labels = group["classes"][row], group["label"][:]
    maps = upsample(jnp.asarray(group["maps"][row].astype(np.float32)), geometry.input_size)
    result = CamResult(jnp.zeros(len(labels)), jnp.asarray(classes), jnp.zeros(len(classes)), maps)
    return Explanation(
        Path(entry.path),
        image.pixels,
        geometry,
        tuple(str(labels[number]) for number in classes),
        classes,
        group["probabilities"][row],
        group["logits"][row],
        np.asarray(maps),
        np.asarray(conditions(result)),
        method=group.attrs["run"]["method"],
        layer=group.attrs["run"]["layer"],
        value_range=image.value_range,
    )


def _row(group: store.Group, out: str, wanted: str) -> int:
    count = group["path"].shape[0]
    for start in range(0, count, PART):
        found = np.flatnonzero(group["path"][start : start + PART] == wanted)
        if len(found):
            return start + int(found[0])
    if wanted.isdecimal():
        if int(wanted) < count:
            return int(wanted)
        raise store.StoreError(f"{out}: has no entry {wanted}; its {count} entries begin at 0")
    raise store.StoreError(f"{out}: has no entry {wanted!r}; name its number, or its path as the store has it")


def _geometry(group: store.Group, size: tuple[int, int]) -> Geometry:
    run = group.attrs["run"]
    (height, width), preprocess = run["input_size"], run["preprocess"]
    return Geometry(run["geometry"], size, (height, width), preprocess["crop_pct"], preprocess["interpolation"])
