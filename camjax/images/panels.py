"""The figure of one picture as pixels, composed as arrays: what `figures.figure` draws, in a fraction of its time.

It may run in several threads at once: matplotlib gives the font's file and the colours, Pillow writes the words.
"""

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from camjax.choices import DEFAULT_COLORMAP
from camjax.errors import printable
from camjax.images.colours import faded, overlay, title_font_file
from camjax.images.frames import LINES, frame
from camjax.images.grid import BASELINE, DPI, FONT_SIZES, POINTS, TITLE_HEIGHT, Grid, in_pixels


def compose(
    picture: UInt8[np.ndarray, "height width 3"],
    heats: Float[np.ndarray, "k h w"],
    titles: Sequence[str],
    grid: Grid,
    colormap: str = DEFAULT_COLORMAP,
    opacity: float = 0.5,
    remarks: Sequence[str] = (),
    boxes: Float[np.ndarray, "k 4"] | None = None,
) -> UInt8[np.ndarray, "rows columns 3"]:
    """A grid of the picture under each heat map, a title above each.

    Args:
        picture: red, green and blue, of any resolution.
        heats: one a class, as `overlay` takes them, at the resolution `in_pixels(grid.picture)`.
        titles: as many.
        grid: of as many panels.
        colormap: any of matplotlib's names.
        opacity: of the heat maps, 0 to 1.
        remarks: why a heat map shows nothing, in as many words as there are titles; empty where it shows something.
        boxes: to draw, one a class: top, left, bottom, right, in parts of the picture's height and width; NaN for none.

    Returns:
        The page, at 200 pixels an inch.

    Raises:
        RenderError: no such colormap, or an opacity out of range.
        ValueError: a heat map is of another size, or there is another number of titles.
    """
    titles = [printable(title, None) for title in titles]
    small = _resized(picture, in_pixels(grid.picture))
    page = np.full((*in_pixels(grid.size), 3), 255, np.uint8)
    font = _font(titles, grid.panel[1] * DPI)
    for index, (heat, title, remark) in enumerate(zip(heats, titles, remarks or [""] * len(titles), strict=True)):
        panel = _with_words(faded(small), remark, font) if remark else overlay(small, heat, colormap, opacity)
        if boxes is not None:
            panel = _with_box(panel, boxes[index], grid.picture)
        top, left = grid.corner(index)
        middle, centre = left + grid.panel[1] / 2, top + grid.panel[0] / 2
        _place(page, panel, round((centre - grid.picture[0] / 2) * DPI), round((middle - grid.picture[1] / 2) * DPI))
        strip = _strip(_shortened(title, font, grid.panel[1] * DPI), font, top, middle, grid.panel[1])
        _place(page, strip, round((top - TITLE_HEIGHT) * DPI), round(left * DPI))
    return page


def _resized(picture: UInt8[np.ndarray, "height width 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """At a panel's size. Hamming's filter is as sharp as Lanczos's where a picture shrinks, for a third of the time."""
    shrinks = size[0] < picture.shape[0]
    image = Image.fromarray(picture)
    return np.asarray(image.resize(size[::-1], Image.Resampling.HAMMING if shrinks else Image.Resampling.BICUBIC))


def _place(page: UInt8[np.ndarray, "rows columns 3"], part: UInt8[np.ndarray, "h w #3"], top: int, left: int) -> None:
    """Writes it onto the page, as far as it lies there."""
    there = page[top : top + part.shape[0], left : left + part.shape[1]]
    there[...] = part[: there.shape[0], : there.shape[1]]


def _strip(
    title: str, font: ImageFont.FreeTypeFont, top: float, middle: float, width: float
) -> UInt8[np.ndarray, "h w 1"]:
    """The title above a panel, black on white."""
    above, left = round((top - TITLE_HEIGHT) * DPI), round((middle - width / 2) * DPI)
    strip = Image.new("L", (round(width * DPI), round(top * DPI) - above), 255)
    place = (middle * DPI - left, (top - BASELINE) * DPI - above)
    ImageDraw.Draw(strip).text(place, title, fill=0, font=font, anchor="ms")
    return np.asarray(strip)[..., None]


def _with_words(
    panel: UInt8[np.ndarray, "h w 3"], words: str, font: ImageFont.FreeTypeFont
) -> UInt8[np.ndarray, "h w 3"]:
    """The panel with words in its middle."""
    image = Image.fromarray(panel)
    ImageDraw.Draw(image).text((image.width / 2, image.height / 2), words, fill="black", font=font, anchor="mm")
    return np.asarray(image)


def _with_box(
    panel: UInt8[np.ndarray, "h w 3"], box: Float[np.ndarray, "4"], size: tuple[float, float]
) -> UInt8[np.ndarray, "h w 3"]:
    """A panel of that size in inches with a box on it; as it is where the box is NaN."""
    if np.isnan(box).any():
        return panel
    image = Image.fromarray(panel)
    pen, (top, left, bottom, right) = ImageDraw.Draw(image), frame(box, size)
    for colour, thickness in LINES:
        # Pillow's line lies inside of its edges, of which the last pixels are its own.
        half, width = thickness / 2, round(thickness * DPI)
        start, end = (round((left - half) * DPI), round((top - half) * DPI)), (right + half, bottom + half)
        last = [max(round(edge * DPI) - 1, first) for edge, first in zip(end, start, strict=True)]
        pen.rectangle((*start, *last), outline=colour, width=width)
    return np.asarray(image)


def _font(titles: Sequence[str], width: float) -> ImageFont.FreeTypeFont:
    """The largest in which all titles fit their panels, else the smallest."""
    fonts = [_font_of_size(points) for points in FONT_SIZES]
    return next((font for font in fonts if all(font.getlength(title) <= width for title in titles)), fonts[-1])


@functools.cache
def _font_of_size(points: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(title_font_file(), points * DPI / POINTS)


def _shortened(title: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """A title too long for its panel loses letters before its number."""
    name, comma, number = title.rpartition(", ")
    while len(name) > 1 and font.getlength(title) > width:
        name = name[:-1]
        title = f"{name.rstrip()}…{comma}{number}"
    return title
