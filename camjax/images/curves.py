"""The figure of curves: a panel for each, a line with its band for each method."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from camjax.errors import printable
from camjax.images.figures import blank

if TYPE_CHECKING:
    from camjax.images.figures import Figure

PANEL = (2.6, 3.4)
"""Height and width, in inches."""
LEFT, BOTTOM, TOP, BETWEEN = 0.75, 0.5, 0.32, 0.25
LEGEND = 1.7
COLUMNS = 3
FONT, SMALL = 9.0, 7.5
COLOURS = (
    "tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink", "tab:olive", "tab:cyan",
    "navy",
)  # fmt: skip
PLAIN = ("0.25", "0.5", "0.7")
"""Of the baselines."""
DASHES = ("-", "--", ":", "-.")


class Line(NamedTuple):
    """One method's curve.

    Attributes:
        name: of the method.
        mean: the curve.
        low: its band.
        high: likewise.
        plain: whether it is a baseline, drawn in grey.
    """

    name: str
    mean: Float[np.ndarray, " points"]
    low: Float[np.ndarray, " points"]
    high: Float[np.ndarray, " points"]
    plain: bool


class Panel(NamedTuple):
    """One kind of curve.

    Attributes:
        title: which, and which way is better.
        across: what the points' places are.
        up: what is measured.
        places: of the points.
        lines: one a method, the same methods in every panel.
    """

    title: str
    across: str
    up: str
    places: Float[np.ndarray, " points"]
    lines: Sequence[Line]


def curves_figure(panels: Sequence[Panel]) -> "Figure":
    """Draws the panels, and the methods' names at the right.

    Args:
        panels: at least one.

    Returns:
        A matplotlib figure, in no way tied to pyplot's state.
    """
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    height = rows * (PANEL[0] + BOTTOM + TOP)
    width = columns * (PANEL[1] + LEFT + BETWEEN) + LEGEND
    drawing = blank(height, width)
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        left = LEFT + column * (PANEL[1] + LEFT + BETWEEN)
        bottom = height - (row + 1) * (PANEL[0] + BOTTOM + TOP) + BOTTOM
        axes = drawing.add_axes((left / width, bottom / height, PANEL[1] / width, PANEL[0] / height))
        for line, how in zip(panel.lines, _styles(panel.lines), strict=True):
            axes.fill_between(panel.places, line.low, line.high, color=how["color"], alpha=0.12, linewidth=0)
            axes.plot(panel.places, line.mean, label=printable(line.name, 40), **how)
        axes.set_title(panel.title, fontsize=FONT)
        axes.set_xlabel(panel.across, fontsize=SMALL)
        axes.set_ylabel(panel.up, fontsize=SMALL)
        axes.tick_params(labelsize=SMALL)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.01)
    handles, names = axes.get_legend_handles_labels()
    edge = 1 - (LEGEND - 0.05) / width
    drawing.legend(
        handles, names, loc="upper left", bbox_to_anchor=(edge, 1 - TOP / height), fontsize=SMALL, frameon=False
    )
    return drawing


def _styles(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """A colour for each method, and another dash where there are more methods than colours; greys for baselines."""
    styles: list[dict[str, Any]] = []
    own = plain = 0
    for line in lines:
        colours, number = (PLAIN, plain) if line.plain else (COLOURS, own)
        dash = DASHES[(number // len(colours) + (1 if line.plain else 0)) % len(DASHES)]
        styles.append({"color": colours[number % len(colours)], "linestyle": dash, "linewidth": 1.3})
        plain, own = plain + line.plain, own + (not line.plain)
    return styles
