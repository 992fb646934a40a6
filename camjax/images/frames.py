"""How a box is drawn: a white line with black edges, which is seen on any picture and in any colours.

Lengths are inches, so that Pillow and matplotlib draw the same line.
"""

import numpy as np
from jaxtyping import Float

LINES = (("black", 0.025), ("white", 0.013))
"""Colours and widths, one upon the other."""


def frame(box: Float[np.ndarray, "4"], size: tuple[float, float]) -> tuple[float, float, float, float]:
    """The middle of the line around a box; the line lies inside of the box, unless that is smaller than it.

    Args:
        box: top, left, bottom, right, in parts of the picture's height and width.
        size: height and width of the picture as it is drawn.

    Returns:
        Top, left, bottom, right, from the picture's upper left corner.
    """
    half = LINES[0][1] / 2
    edges = []
    for low, high, length in zip(box[:2].tolist(), box[2:].tolist(), size, strict=True):
        start, end = low * length + half, high * length - half
        if end - start < 2 * half:  # a line on each side, and nothing between them
            middle = min(max((start + end) / 2, 2 * half), max(length - 2 * half, 2 * half))
            start, end = middle - half, middle + half
        edges.append((start, end))
    (top, bottom), (left, right) = edges
    return top, left, bottom, right
