"""Boxes from maps, on the host: how many components a map falls into is no shape that a program could know.

A box is top, left, bottom, right, the edges of its pixels, so that its height is bottom less top.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from camjax.choices import SHARE

EIGHT = np.ones((3, 3), bool)
"""Pixels that touch at a corner belong together."""

NOWHERE = (np.nan,) * 4


def boxes_of(maps: Float[np.ndarray, "*batch h w"], *, share: float = SHARE) -> Float[np.ndarray, "*batch 4"]:
    """The box around the largest component of what a map takes for the thing.

    Args:
        maps: of any unit.
        share: what reaches this part of the map's maximum is taken for the thing.

    Returns:
        Top, left, bottom, right; NaN for a map that is nowhere positive, or has a NaN.
    """
    flat = maps.reshape(-1, *maps.shape[-2:])
    found = [largest_box((one >= share * one.max()) & (one > 0)) for one in flat]
    return np.asarray(found, np.float64).reshape(*maps.shape[:-2], 4)


def largest_box(mask: Bool[np.ndarray, "h w"]) -> tuple[float, float, float, float]:
    """The box around the component with the largest outline, its holes filled; the first of equal ones."""
    import scipy.ndimage  # a third of a second that a figure without boxes need not wait for

    labels, count = scipy.ndimage.label(mask, EIGHT)
    if not count:
        return NOWHERE
    if count > 1:
        labels, _ = scipy.ndimage.label(scipy.ndimage.binary_fill_holes(mask), EIGHT)
    number = int(np.argmax(_outlines(labels))) + 1
    rows, columns = scipy.ndimage.find_objects((labels == number).astype(np.uint8))[0]
    return float(rows.start), float(columns.start), float(rows.stop), float(columns.stop)


def mask_of_boxes(boxes: Float[np.ndarray, "*batch m 4"], size: tuple[int, int]) -> Bool[np.ndarray, "*batch h w"]:
    """The pixels whose centres lie in one of the boxes.

    Args:
        boxes: top, left, bottom, right; NaN for a place without a box.
        size: (height, width).
    """
    rows, columns = (np.arange(side) + 0.5 for side in size)
    top, left, bottom, right = (boxes[..., number, None] for number in range(4))
    vertical, horizontal = (top <= rows) & (rows < bottom), (left <= columns) & (columns < right)
    # A product of matrices, which counts the boxes over each pixel: all their masks would be m times as large.
    over = np.swapaxes(vertical, -1, -2).astype(np.float32) @ horizontal.astype(np.float32)
    return over > 0


def _outlines(labels: Int[np.ndarray, "h w"]) -> Float[np.ndarray, " count"]:
    """The area inside the outline through each component's outermost pixels' centres.

    Of every square of four pixels, a component without holes covers all where it has all four, half where three.
    """
    padded = np.pad(labels, ((0, 1), (0, 1)))
    corners = np.stack([padded[y : y + labels.shape[0], x : x + labels.shape[1]] for y in (0, 1) for x in (0, 1)])
    own = corners.max(0)  # squares with three pixels of one component hold no other: any two of its pixels touch
    filled = (corners == own).sum(0)
    area = np.where((own > 0) & (filled >= 3), filled / 2 - 1, 0)
    return np.bincount(own.ravel(), area.ravel())[1:]


def intersection_over_union(
    boxes: Float[np.ndarray, "*#batch 4"], others: Float[np.ndarray, "*#batch 4"]
) -> Float[np.ndarray, "..."]:
    """Of boxes, in [0, 1], of all that broadcast; NaN where one is NaN."""
    corner, end = np.maximum(boxes[..., :2], others[..., :2]), np.minimum(boxes[..., 2:], others[..., 2:])
    shared = np.maximum(end - corner, 0).prod(-1)
    areas = [np.maximum(each[..., 2:] - each[..., :2], 0).prod(-1) for each in (boxes, others)]
    return shared / np.where(areas[0] + areas[1] - shared == 0, 1, areas[0] + areas[1] - shared)
