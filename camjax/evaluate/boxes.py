"""Boxes from maps beside those that somebody drew, and the accuracies of all of a run's.

A level is right or wrong, a bit; those of a map are kept as words of hexadecimal digits.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from camjax.metrics.box_accuracy import DELTAS, as_bytes, best_overlaps, largest_overlaps
from camjax.metrics.boxes import boxes_of, intersection_over_union
from camjax.metrics.components import LEVELS

HALF = 0.5
"""What MaxBoxAcc asks of the largest component's box."""

Boxes = Sequence[Sequence[Float[np.ndarray, "_ 4"]]]
"""Of each picture's each class, as they lie on the network's input."""

Parts = Sequence[tuple[slice, slice]]
"""Of each picture, the rows and columns of the network's input that show it; the others are padding."""

Levels = list[list[dict[str, Any]]]
"""Of each picture's each class: `levels`, a word for each of `DELTAS`, and `largest`, a word; neither where no box was
drawn."""


def box_overlaps(
    maps: Float[np.ndarray, "b k h w"], boxes: Boxes, parts: Parts | None = None
) -> Float[np.ndarray, "b k"]:
    """How well the box around each map's largest component lies on one drawn.

    Args:
        maps: of any unit.
        boxes: that were drawn.
        parts: of the maps that count; None is all.

    Returns:
        Intersection over union with the best; NaN where no box was drawn, or the map has a NaN.
    """
    best = np.full(maps.shape[:2], np.nan)
    for row, slot, one, drawn in _drawn(maps, boxes, parts):
        best[row, slot] = np.nan_to_num(intersection_over_union(boxes_of(one)[None], drawn)).max()
    return best


def levels_of(
    maps: Float[np.ndarray, "b k h w"], boxes: Boxes, parts: Parts | None = None, *, any_box: bool, largest: bool
) -> Levels:
    """At which levels a map is right.

    Args:
        maps: of any unit.
        boxes: that were drawn.
        parts: of the maps that count; None is all.
        any_box: by any of its boxes, for MaxBoxAccV2.
        largest: by the box around its largest component, for MaxBoxAcc, which takes most of the time.
    """
    found: Levels = [[{} for _ in row] for row in maps]
    for row, slot, one, drawn in _drawn(maps, boxes, parts):
        values = as_bytes(one)
        if any_box:
            shares = best_overlaps(values, drawn)
            found[row][slot]["levels"] = [_word(shares >= delta) for delta in DELTAS]
        if largest:
            found[row][slot]["largest"] = _word(largest_overlaps(values, drawn) >= HALF)
    return found


def best_accuracy(words: Sequence[Sequence[str]]) -> float:
    """The share of maps that are right at the best level, a mean over the words of each map.

    Args:
        words: as many of each map, at least one map.
    """
    flat = np.frombuffer(bytes.fromhex("".join(itertools.chain(*words))), np.uint8)
    bits = np.unpackbits(flat.reshape(len(words), len(words[0]), -1), axis=-1, count=LEVELS - 1)
    return float(bits.sum(0, dtype=np.int64).max(-1).mean() / len(words))


def box_around(mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "1 4"]:
    """The box around all of a mask."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return np.asarray([[rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]], np.float32)


def _drawn(
    maps: Float[np.ndarray, "b k h w"], boxes: Boxes, parts: Parts | None
) -> Iterator[tuple[int, int, Float[np.ndarray, "rows columns"], Float[np.ndarray, "_ 4"]]]:
    """The maps that are held against boxes: their places, what of them counts, and the boxes as they lie on that."""
    for row, slot in np.ndindex(*maps.shape[:2]):
        rows, columns = parts[row] if parts else np.s_[:, :]
        one = maps[row, slot, rows, columns]
        if len(boxes[row][slot]) and not np.isnan(one).any():
            yield row, slot, one, boxes[row][slot] - np.asarray([rows.start or 0, columns.start or 0] * 2, np.float64)


def _word(bits: Bool[np.ndarray, " levels"]) -> str:
    return np.packbits(bits).tobytes().hex()
