"""A figure on which things are placed in inches from its upper left corner."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from camjax.errors import printable
from camjax.images.figures import blank, line

if TYPE_CHECKING:
    from camjax.images.figures import Text


class Page:
    """A white page.

    Attributes:
        drawing: the matplotlib figure, in no way tied to pyplot's state.

    Args:
        height: in inches.
        width: likewise.
    """

    def __init__(self, height: float, width: float) -> None:
        self.drawing = blank(height, width)
        self._size = height, width

    def image(self, pixels: UInt8[np.ndarray, "h w 3"], corner: tuple[float, float], size: tuple[float, float]) -> None:
        """Pixels in a rectangle, by its top and left and its height and width."""
        height, width = self._size
        (top, left), (rows, columns) = corner, size
        axes = self.drawing.add_axes((left / width, 1 - (top + rows) / height, columns / width, rows / height))
        axes.imshow(pixels, interpolation="antialiased", aspect="auto")
        axes.set_axis_off()

    def text(self, words: str, top: float, left: float, **how: Any) -> "Text":  # noqa: ANN401
        """Words at a place; matplotlib takes how they look."""
        height, width = self._size
        return self.drawing.text(left / width, 1 - top / height, words, **{"parse_math": False, **how})

    def fitted(self, words: str, top: float, left: float, room: float, **how: Any) -> "Text":  # noqa: ANN401
        """Words at a place, no control characters among them; too many for the room lose letters at their end."""
        words = printable(words, None)
        placed = self.text(words, top, left, **how)
        while len(words) > 1 and placed.get_window_extent().width > room * self.drawing.dpi:
            words = words[:-1]
            placed.set_text(f"{words.rstrip()}…")
        return placed

    def line(self, tops: Sequence[float], lefts: Sequence[float], color: str) -> None:
        """A thin line between points."""
        height, width = self._size
        xs, ys = [left / width for left in lefts], [1 - top / height for top in tops]
        self.drawing.add_artist(line(xs, ys, color))
