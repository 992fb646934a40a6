"""Where the panels of a figure lie: a grid, a title above each. Lengths are inches, sizes (height, width)."""

import dataclasses
import math

PANEL_AREA = 9.0
"""Square inches of one panel, whatever the picture's proportions."""
TITLE_HEIGHT = 0.34
BASELINE = 0.09
"""Of a title, above its panel."""
GAP = 0.16
MARGIN = 0.08
FONT_SIZES = (11.0, 9.5, 8.0)
"""Of the titles, in points: the largest at which all fit."""
DPI = 200
POINTS = 72
"""An inch."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """Panels of one size, row by row.

    Attributes:
        columns: how many panels stand side by side.
        rows: how many stand one upon the other.
        panel: of each.
        picture: of what is shown in a panel's middle, as large as it fits.
    """

    columns: int
    rows: int
    panel: tuple[float, float]
    picture: tuple[float, float]

    @property
    def size(self) -> tuple[float, float]:
        """Of the figure."""
        height, width = self.panel
        return self.rows * (height + TITLE_HEIGHT) + 2 * MARGIN, self.columns * (width + GAP) - GAP + 2 * MARGIN

    def corner(self, index: int) -> tuple[float, float]:
        """Top and left of a panel, under its title."""
        row, column = divmod(index, self.columns)
        height, width = self.panel
        return MARGIN + row * (height + TITLE_HEIGHT) + TITLE_HEIGHT, MARGIN + column * (width + GAP)


def arrange_panels(count: int, size: tuple[int, int], columns: int | None = None) -> Grid:
    """A grid of so many panels.

    Args:
        count: how many, at least one.
        size: of the picture that each shows.
        columns: None is one row for up to three, else two columns.
    """
    columns = columns or (count if count <= 3 else 2)
    panel = panel_inches(size[0] / size[1], PANEL_AREA)
    scale = min(panel[0] / size[0], panel[1] / size[1])
    return Grid(columns, math.ceil(count / columns), panel, (size[0] * scale, size[1] * scale))


def panel_inches(proportion: float, area: float) -> tuple[float, float]:
    """Height and width of a panel; very long pictures are bounded so that the shorter side stays visible.

    Args:
        proportion: height over width of the picture.
        area: of the panel, in square inches.
    """
    proportion = min(max(proportion, 1 / 4), 4)
    width = math.sqrt(area / proportion)
    return width * proportion, width


def in_pixels(inches: tuple[float, float], dpi: int = DPI) -> tuple[int, int]:
    """A size in whole pixels, at least one.

    Args:
        inches: the size.
        dpi: pixels an inch.
    """
    return max(round(inches[0] * dpi), 1), max(round(inches[1] * dpi), 1)
