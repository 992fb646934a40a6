"""MaxBoxAcc and MaxBoxAccV2 (Choe et al. 2020): whether a box from a map is a box that somebody drew, on the host.

A map is judged at the level that is best for all pictures together, so what is counted of each are all levels. A map
scaled to bytes has 255 of them, which is what the evaluator's thousand thresholds come down to. Counts add up over
pictures, batches, processes and hosts; the accuracies are functions of the sum.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from camjax.core.maps import is_flat
from camjax.metrics.boxes import intersection_over_union, largest_box
from camjax.metrics.components import EIGHT, FOUR, LEVELS, NONE, boxes_at_all_levels

DELTAS = (0.3, 0.5, 0.7)
"""How much of their union two boxes must share to be the same; MaxBoxAcc takes 0.5 alone."""


class BoxCounts(NamedTuple):
    """How many maps are right at each level.

    Attributes:
        largest: by the box around their largest component, at half.
        any: by any of their boxes, at each of `DELTAS`.
        maps: of all that were counted.
    """

    largest: Int[np.ndarray, " levels"]
    any: Int[np.ndarray, "deltas levels"]
    maps: int


def box_counts(
    maps: Float[np.ndarray, "n h w"], boxes: Sequence[Float[np.ndarray, "_ 4"]], *, largest: bool = True
) -> BoxCounts:
    """Counts the maps that are right.

    Args:
        maps: of any unit, with negative values as they are; one with a NaN is not counted.
        boxes: of each map, those that were drawn: top, left, bottom, right, in the map's pixels; cut to whole ones, as
            the evaluator does. A map without any is not counted.
        largest: also count the largest components, which takes most of the time.
    """
    ones = np.zeros(LEVELS - 1, np.int64)
    several = np.zeros((len(DELTAS), LEVELS - 1), np.int64)
    counted = 0
    for one, drawn in zip(maps, boxes, strict=True):
        drawn = drawn[~np.isnan(drawn).any(-1)]
        if np.isnan(one).any() or not len(drawn):
            continue
        counted += 1
        values = as_bytes(one)
        if largest:
            ones += largest_overlaps(values, drawn) >= 0.5
        best = best_overlaps(values, drawn)
        several += np.stack([best >= delta for delta in DELTAS])
    return BoxCounts(ones, several, counted)


def sum_of(counts: Sequence[BoxCounts]) -> BoxCounts:
    """The counts of all the maps."""
    return BoxCounts(*(sum(each[1:], each[0]) for each in zip(*counts, strict=True)))


def max_box_acc(counts: BoxCounts) -> float:
    """The share of maps that are right by their largest component at the best level; NaN of no map."""
    return float(counts.largest.max() / counts.maps) if counts.maps else float("nan")


def max_box_acc_v2(counts: BoxCounts) -> float:
    """The share of maps that are right by any box at the best level, a mean over `DELTAS`; NaN of no map."""
    return float(counts.any.max(-1).mean() / counts.maps) if counts.maps else float("nan")


def as_bytes(one: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """A map scaled to 0 to 255 by its own minimum and maximum, cut to whole numbers.

    A map that is constant but for rounding (`camjax.core.maps.is_flat`) is 0 everywhere.
    """
    one = one / 2  # else the difference of huge extremes is infinite
    low, high = one.min(), one.max()
    if is_flat(low, high):
        return np.zeros(one.shape, np.uint8)
    return ((one - low) / (high - low) * 255).astype(np.uint8)


def best_overlaps(values: UInt8[np.ndarray, "h w"], drawn: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, " levels"]:
    """The most that any box of what lies above each level shares with one that was drawn.

    A box is around a component, or around a hole in one with the pixels beside it, as outlines have it.
    """
    outer = boxes_at_all_levels(values, EIGHT)
    # What is not above a level, upside down; the rim joins all that reaches the border, which is no hole.
    inner = boxes_at_all_levels(np.pad(255 - values, 1, constant_values=255), FOUR)
    part, least = np.nonzero(outer[:, 1:, 0] != NONE)
    found, levels = [outer[part, least + 1]], [least]  # what reaches level 1 lies above level 0
    part, least = np.nonzero((inner[..., 0] != NONE) & (inner[..., 0] > 0))
    holes, level = inner[part, least], 255 - least
    # A hole has its own pixels, counted from the rim, and one more on each side.
    found.append(holes - np.asarray([2, 2, 0, 0], np.int16))
    levels.append(level)
    shared = _shared(np.concatenate(found).astype(np.int64), drawn, values.shape)
    best = np.zeros(LEVELS - 1)
    np.maximum.at(best, np.concatenate(levels), shared)
    best[values.max() :] = _nowhere(drawn)
    return best


def largest_overlaps(values: UInt8[np.ndarray, "h w"], drawn: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, " levels"]:
    """What the box around the largest component above each level shares with a box that was drawn."""
    top = int(values.max())
    best = np.full(LEVELS - 1, _nowhere(drawn))
    edges = np.asarray([largest_box(values > level) for level in range(top)]).reshape(-1, 4)
    extents = np.concatenate([edges[:, :2], 1 - edges[:, 2:]], 1).astype(np.int64)
    best[:top] = _shared(extents, drawn, values.shape)
    return best


def _shared(
    extents: Int[np.ndarray, "n 4"], drawn: Float[np.ndarray, "m 4"], size: tuple[int, int]
) -> Float[np.ndarray, " n"]:
    """The evaluator's intersection over union with the best of the boxes drawn.

    Its boxes end one pixel after their last, but in the picture, and are one larger than their difference.

    Args:
        extents: see `camjax.metrics.components.Boxes`.
        drawn: top, left, bottom, right.
        size: of the map.
    """
    # A component has the same extents at many levels, and the boxes drawn are taken one by one: of a noisy map, all
    # pairs together would take gigabytes.
    packed = np.ascontiguousarray(extents.astype(np.int16)).view(np.int64)[:, 0]
    different, places = np.unique(packed, return_inverse=True)
    parts = different[:, None].view(np.int16).astype(np.int64)
    ends = np.minimum(1 - parts[:, 2:], np.asarray(size) - 1)
    boxes = np.concatenate([parts[:, :2], ends + 1], 1).astype(np.float64)
    best = np.zeros(len(boxes))
    for other in np.trunc(drawn) + np.asarray([0.0, 0, 1, 1]):
        np.maximum(best, intersection_over_union(boxes, other[None]), out=best)
    return best[places]


def _nowhere(drawn: Float[np.ndarray, "m 4"]) -> float:
    """What the evaluator's box of a map without any, the upper left pixel, shares with a box that was drawn."""
    return float(_shared(np.asarray([[0, 0, 1, 1]]), drawn, (1, 1))[0])
