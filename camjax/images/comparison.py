"""The figure that compares methods: a row each, a column a class, and the picture at the left.

Many rows stand in several blocks side by side, so that the figure keeps a page's proportions. Lengths are inches.
"""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from camjax.choices import DEFAULT_COLORMAP
from camjax.errors import printable
from camjax.images.colours import check_colormap, faded, overlay
from camjax.images.figures import at_size, shrink
from camjax.images.grid import panel_inches
from camjax.images.page import Page

if TYPE_CHECKING:
    from camjax.images.figures import Figure

CELL_AREA = 1.3
"""Of one heat map."""
CELL_PIXELS = 400
"""Its longest side: more could not be seen."""
GAP = 0.05
MARGIN = 0.1
LABEL = 0.85
"""Width of the methods' names."""
HEADER = 0.42
BETWEEN = 0.2
"""Blocks."""
PICTURE = 1.5
"""How much larger than a heat map the picture is, in each direction, where there are rows enough."""
SCALE = 0.42
"""Height of the colours' scale and its words, under the picture."""
TALLEST = 1.35
"""Height of a figure over its width, beyond which its rows are divided."""
FONT, SMALL = 8.0, 7.0
GREY = "0.45"


class Row(NamedTuple):
    """One method.

    Attributes:
        name: its name.
        heats: one a class, in [0, 1], as `camjax.images.colours.overlay` takes them, of the picture's proportions.
        remarks: why a map shows nothing, for each class; empty where it shows something.
    """

    name: str
    heats: Float[np.ndarray, "k h w"]
    remarks: Sequence[str]


class Layout(NamedTuple):
    """Where everything is, from the figure's upper left corner.

    Attributes:
        cell: height and width of a heat map.
        picture: height and width of the picture.
        size: height and width of the figure.
        left: of each block's first heat map.
        rows: how many a block has.
    """

    cell: tuple[float, float]
    picture: tuple[float, float]
    size: tuple[float, float]
    left: tuple[float, ...]
    rows: int

    def corner(self, row: int, column: int) -> tuple[float, float]:
        """Top and left of a heat map."""
        block, row = divmod(row, self.rows)
        return MARGIN + HEADER + row * (self.cell[0] + GAP), self.left[block] + column * (self.cell[1] + GAP)


def comparison(
    picture: UInt8[np.ndarray, "height width 3"],
    rows: Sequence[Row],
    titles: Sequence[tuple[str, str]],
    colormap: str = DEFAULT_COLORMAP,
    opacity: float = 0.5,
) -> "Figure":
    """The picture, and a grid of heat maps over it.

    A method whose map is the same for every class has it once. A map that shows nothing is the faded picture, and why.

    Args:
        picture: red, green and blue.
        rows: one a method.
        titles: of each class, its name and its probability.
        colormap: any of matplotlib's names.
        opacity: of the heat maps, 0 to 1.

    Returns:
        A matplotlib figure, in no way tied to pyplot's state.

    Raises:
        RenderError: no such colormap, or an opacity out of range.
        ValueError: there is no row, or one has another number of maps than there are titles.
    """
    if not rows or any(len(row.heats) != len(titles) or len(row.remarks) != len(titles) for row in rows):
        raise ValueError(f"each of the rows, at least one, must have {len(titles)} maps and remarks")
    check_colormap(colormap)
    picture = shrink(picture, CELL_PIXELS)
    layout = arrange(len(rows), len(titles), picture.shape[0] / picture.shape[1])
    page = _Comparison(layout)
    page.image(picture, (MARGIN + HEADER, MARGIN), layout.picture)
    page.scale(colormap)
    for block in range(len(layout.left)):
        for column, title in enumerate(titles):
            page.header(block, column, title)
    for number, row in enumerate(rows):
        page.name(number, row.name)
        for column, image, remark in _cells(picture, row, colormap, opacity):
            page.image(image, layout.corner(number, column), layout.cell)
            page.remark(number, column, remark)
        if _is_one_map(row):
            page.bracket(number, len(titles))
    return page.drawing


def arrange(rows: int, columns: int, proportion: float) -> Layout:
    """Divides the rows into the fewest blocks with which the figure is not too tall.

    Args:
        rows: how many methods.
        columns: how many classes.
        proportion: height over width of the picture.
    """
    height, width = panel_inches(proportion, CELL_AREA)
    for blocks in range(1, rows + 1):
        each = math.ceil(rows / blocks)
        larger = PICTURE if each > 1 else 1.0
        picture = (height * larger, width * larger)
        block_width = LABEL + columns * (width + GAP) - GAP
        first = MARGIN + picture[1] + BETWEEN / 2 + LABEL
        lefts = tuple(first + block * (block_width + BETWEEN) for block in range(math.ceil(rows / each)))
        inside = max(each * (height + GAP) - GAP, picture[0] + SCALE)
        size = (2 * MARGIN + HEADER + inside, lefts[-1] + block_width - LABEL + MARGIN)
        if size[0] <= TALLEST * size[1]:
            break
    return Layout((height, width), picture, size, lefts, each)


def _cells(
    picture: UInt8[np.ndarray, "h w 3"], row: Row, colormap: str, opacity: float
) -> Iterator[tuple[int, UInt8[np.ndarray, "h w 3"], str]]:
    """Each heat map that is shown, its column, and what is said on it."""
    shown = 1 if _is_one_map(row) else len(row.heats)
    for column, (heat, remark) in enumerate(zip(row.heats[:shown], row.remarks, strict=False)):
        if remark:
            yield column, faded(picture), remark
        else:
            yield column, overlay(picture, at_size(heat, picture.shape[:2]), colormap, opacity), ""


def _is_one_map(row: Row) -> bool:
    same = all(np.array_equal(heat, row.heats[0], equal_nan=True) for heat in row.heats[1:])
    return len(row.heats) > 1 and not any(row.remarks) and same


class _Comparison(Page):
    """The page, with what stands on it where the layout says."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(*layout.size)
        self._layout = layout

    def header(self, block: int, column: int, title: tuple[str, str]) -> None:
        """A class's name over its probability; a name too long for the column loses letters."""
        top, left = self._layout.corner(block * self._layout.rows, column)
        width = self._layout.cell[1]
        left += width / 2
        self.text(title[1], top - 0.07, left, ha="center", va="baseline", fontsize=SMALL, color=GREY)
        self.fitted(title[0], top - 0.21, left, width, ha="center", va="baseline", fontsize=FONT)

    def name(self, row: int, name: str) -> None:
        """A method's name beside its row, in two lines where it is long."""
        top, left = self._layout.corner(row, 0)
        middle, words = top + self._layout.cell[0] / 2, _in_lines(printable(name, None))
        self.text(words, middle, left - 0.08, ha="right", va="center", fontsize=FONT, linespacing=1.05)

    def remark(self, row: int, column: int, remark: str) -> None:
        """Why there is nothing."""
        top, left = self._layout.corner(row, column)
        (height, width), words = self._layout.cell, remark.replace(": ", ":\n")
        self.text(words, top + height / 2, left + width / 2, ha="center", va="center", fontsize=SMALL - 0.5)

    def bracket(self, row: int, columns: int) -> None:
        """Says that the one map of a row is that of all its classes."""
        from_, to = self._layout.corner(row, 1), self._layout.corner(row, columns)
        middle, left, right = from_[0] + self._layout.cell[0] / 2, from_[1] + 0.05, to[1] - GAP
        self.line((middle, middle), (left, right), GREY)
        self.line((middle - 0.06, middle + 0.06), (right, right), GREY)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 2.5}
        self.text(
            "one map for\nall classes", middle, (left + right) / 2,
            ha="center", va="center", fontsize=SMALL, color=GREY, bbox=box,
        )  # fmt: skip

    def scale(self, colormap: str) -> None:
        """The colours under the picture; each map has a scale of its own."""
        width, top = self._layout.picture[1], MARGIN + HEADER + self._layout.picture[0] + 0.1
        ramp = np.linspace(0, 1, 256, dtype=np.float32)[None]
        self.image(overlay(np.zeros((1, 256, 3), np.uint8), ramp, colormap, 1.0), (top, MARGIN), (0.09, width))
        for words, left, side in (("least", MARGIN, "left"), ("most of each map", MARGIN + width, "right")):
            self.text(words, top + 0.13, left, ha=side, va="top", fontsize=SMALL, color=GREY)


def _in_lines(name: str) -> str:
    """At the hyphen that divides a long name best."""
    if len(name) <= 12 or "-" not in name:
        return name
    places = [place for place, letter in enumerate(name) if letter == "-"]
    best = min(places, key=lambda place: abs(2 * place + 1 - len(name)))
    return f"{name[: best + 1]}\n{name[best + 1 :]}"
