"""The figure of a layer's concepts: the picture in their colours, and what the network sees in each.

Lengths are inches.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from camjax.choices import DEFAULT_COLOURS
from camjax.images import colours
from camjax.images.figures import at_size, shrink
from camjax.images.grid import panel_inches
from camjax.images.page import Page

if TYPE_CHECKING:
    from camjax.images.figures import Figure

AREA = 14.0
"""Of the picture."""
MARGIN = 0.1
LEGEND = 2.2
"""Its width."""
SWATCH = 0.3
LINE = 0.18
"""From one class to the next."""
BETWEEN = 0.16
"""Two concepts."""
NUMBER = 0.4
"""Width of a probability."""
FONT, SMALL = 9.5, 8.0
GREY = "0.45"
GREYED = 0.6
"""How much of the picture's own colours is taken away, beside which those of the concepts would not show."""

Entry = Sequence[tuple[str, str]]
"""A concept's classes: the name of each and its probability."""


def painted(
    picture: UInt8[np.ndarray, "h w 3"],
    strengths: Float[np.ndarray, "k h w"],
    palette: UInt8[np.ndarray, "k 3"],
    opacity: float,
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture, its colours paled, each pixel in the colour of its strongest concept, as opaque as that is strong.

    Args:
        picture: red, green and blue.
        strengths: in [0, 1]; where they are NaN the picture shows as it is.
        palette: a colour for each concept.
        opacity: at strength 1.
    """
    known = ~np.isnan(strengths).any(0)
    strengths = np.where(known, strengths, 0)
    grey = picture @ np.asarray([0.299, 0.587, 0.114])
    paled = (1 - GREYED) * picture + GREYED * grey[..., None]
    share = opacity * strengths.max(0)[..., None]
    blend = (1 - share) * paled + share * palette[strengths.argmax(0)]
    return np.where(known[..., None], blend + 0.5, picture).astype(np.uint8)


def concept_figure(
    picture: UInt8[np.ndarray, "height width 3"],
    strengths: Float[np.ndarray, "k h w"],
    entries: Sequence[Entry],
    remark: str = "",
    colormap: str = DEFAULT_COLOURS,
    opacity: float = 0.8,
) -> "Figure":
    """The picture in the colours of its concepts, and beside it the classes that each speaks for.

    Args:
        picture: red, green and blue; a large one is drawn at the resolution that `shrink` gives.
        strengths: of each concept, in [0, 1], NaN where the network did not look; of the picture's proportions.
        entries: one a concept.
        remark: a line under them.
        colormap: any of matplotlib's names, from which the colours are taken.
        opacity: of a colour at strength 1, from 0 to 1.

    Returns:
        A matplotlib figure, in no way tied to pyplot's state.

    Raises:
        RenderError: no such colormap, or one of too few colours.
        ValueError: there is no concept, or another number of entries.
    """
    if not len(strengths) or len(strengths) != len(entries):
        raise ValueError(f"{len(strengths)} concepts and {len(entries)} entries make no figure")
    palette = colours.palette(colormap, len(entries))
    height, width = panel_inches(picture.shape[0] / picture.shape[1], AREA)
    legend = sum(_height(entry) + BETWEEN for entry in entries) + LINE
    page = Page(max(height, legend) + 2 * MARGIN, width + LEGEND + 3 * MARGIN)
    picture = shrink(picture)
    sized = np.stack([at_size(each, picture.shape[:2]) for each in strengths])
    page.image(painted(picture, sized, palette, opacity), (MARGIN, MARGIN), (height, width))
    top, left = MARGIN, 2 * MARGIN + width
    for colour, entry in zip(palette, entries, strict=True):
        _write(page, top, left, colour, entry)
        top += _height(entry) + BETWEEN
    page.text(remark, top + LINE / 2, left, ha="left", va="center", fontsize=SMALL, color=GREY)
    return page.drawing


def _height(entry: Entry) -> float:
    return max(SWATCH, len(entry) * LINE)


def _write(page: Page, top: float, left: float, colour: UInt8[np.ndarray, " 3"], entry: Entry) -> None:
    """A concept's colour and its classes, the first one larger."""
    page.image(colour[None, None], (top, left), (SWATCH, SWATCH))
    for number, (name, probability) in enumerate(entry):
        how = {"va": "baseline", "fontsize": SMALL if number else FONT, "color": GREY if number else "black"}
        baseline, start = top + (number + 0.7) * LINE, left + SWATCH + 0.1
        page.fitted(name, baseline, start, LEGEND - SWATCH - 0.1 - NUMBER, ha="left", **how)
        page.text(probability, baseline, left + LEGEND, ha="right", **how)
