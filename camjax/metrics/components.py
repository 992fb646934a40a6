"""The components of a picture of bytes at all of its levels at once, on the host.

Every pixel climbs to a summit; what lies above a level falls into the parts of the summits, which are joined where a
pass between them lies above the level too. So a picture is walked once, not once a level, and what is left are as many
joins as there are summits.
"""

import numpy as np
import scipy.ndimage
from jaxtyping import Bool, Int, UInt8

LEVELS = 256
EIGHT = np.ones((3, 3), bool)
FOUR = np.asarray([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)

Boxes = Int[np.ndarray, "parts 256 4"]
"""`boxes[part, level]`: top, left and the negatives of bottom and right, the last row and column, of a component of the
pixels whose value is at least that level. `NONE` where the part has none, or another part's box is that of both."""

NONE = np.iinfo(np.int16).max


def boxes_at_all_levels(values: UInt8[np.ndarray, "h w"], touching: Bool[np.ndarray, "3 3"]) -> Boxes:
    """The boxes of all components at all levels.

    Args:
        values: the picture.
        touching: which neighbours belong together, `EIGHT` or `FOUR`.
    """
    summits = _summits(values, touching)
    boxes = _own_boxes(values, summits)
    root = list(range(len(boxes)))
    for level, one, other in _passes(values, summits, touching):
        one, other = _find(root, one), _find(root, other)
        if one == other:
            continue
        root[other] = one
        below = boxes[one, : level + 1]
        np.minimum(below, boxes[other, : level + 1], out=below)
        boxes[other, : level + 1] = NONE
    return boxes


def _summits(values: UInt8[np.ndarray, "h w"], touching: Bool[np.ndarray, "3 3"]) -> Int[np.ndarray, "h w"]:
    """The number of the summit that each pixel climbs to, by steps to the highest neighbour; of equals to the last."""
    keys = values.astype(np.int64) * values.size + np.arange(values.size).reshape(values.shape)
    if touching.all():
        highest = scipy.ndimage.maximum_filter(keys, size=3, mode="nearest")
    else:
        highest = scipy.ndimage.maximum_filter(keys, footprint=touching, mode="nearest")
    up = (highest % values.size).ravel()
    while True:
        further = up[up]
        if np.array_equal(further, up):
            break
        up = further
    number = np.cumsum(up == np.arange(up.size)) - 1
    return number[up].reshape(values.shape)


def _own_boxes(values: UInt8[np.ndarray, "h w"], summits: Int[np.ndarray, "h w"]) -> Boxes:
    """The boxes of the pixels of each summit alone that reach a level."""
    boxes = np.full((int(summits.max()) + 1, LEVELS, 4), NONE, np.int16)
    rows, columns = np.indices(values.shape, np.int16)
    flat, places = boxes.reshape(-1, 4), (summits * LEVELS + values).ravel()
    for number, side in enumerate((rows, columns, -rows, -columns)):
        np.minimum.at(flat[:, number], places, side.ravel())
    np.minimum.accumulate(boxes[:, ::-1], axis=1, out=boxes[:, ::-1])
    return boxes


def _passes(
    values: UInt8[np.ndarray, "h w"], summits: Int[np.ndarray, "h w"], touching: Bool[np.ndarray, "3 3"]
) -> list[tuple[int, int, int]]:
    """Two summits and the level at which a pass joins them, the highest first; of two summits the highest pass."""
    found = []
    for y, x in ((0, 1), (1, -1), (1, 0), (1, 1)):
        if not touching[1 + y, 1 + x]:
            continue
        here = (slice(0, values.shape[0] - y), slice(max(-x, 0), values.shape[1] - max(x, 0)))
        there = (slice(y, values.shape[0]), slice(max(x, 0), values.shape[1] + min(x, 0)))
        apart = summits[here] != summits[there]
        one, other = summits[here][apart], summits[there][apart]
        level = np.minimum(values[here][apart], values[there][apart])
        found.append(np.stack([level, np.minimum(one, other), np.maximum(one, other)]).astype(np.int64))
    level, one, other = np.concatenate(found, 1)
    count = int(summits.max()) + 1
    # One number a pass, so that sorting is quick: the level, then the pair.
    packed = np.unique((level * count + one) * count + other)[::-1]
    pair, first = np.unique(packed % count**2, return_index=True)
    order = np.argsort(first)
    pair, level = pair[order], packed[first[order]] // count**2
    return list(zip(level.tolist(), (pair // count).tolist(), (pair % count).tolist(), strict=True))


def _find(root: list[int], part: int) -> int:
    while root[part] != part:
        root[part] = root[root[part]]
        part = root[part]
    return part
