"""The figure of one picture as pixels, composed by Pillow: what `figures.figure` draws, in a fraction of its time.

It may run in several threads at once: matplotlib gives the font's file and the colours, and draws nothing.
"""

import functools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from camjax.atomic import atomic_path
from camjax.choices import DEFAULT_COLORMAP
from camjax.errors import printable
from camjax.images.colours import faded, overlay, title_font_file
from camjax.images.frames import LINES, frame
from camjax.images.grid import BASELINE, DPI, FONT_SIZES, POINTS, Grid, in_pixels
from camjax.images.pictures import FIGURE_MARK

COMPRESSION = 1
"""zlib's level. Its usual one, 6, takes most of a figure's time and saves a tenth of its size."""


def compose(
    picture: UInt8[np.ndarray, "height width 3"],
    heats: Float[np.ndarray, "k h w"],
    titles: Sequence[str],
    grid: Grid,
    colormap: str = DEFAULT_COLORMAP,
    opacity: float = 0.5,
    remarks: Sequence[str] = (),
    boxes: Float[np.ndarray, "k 4"] | None = None,
) -> Image.Image:
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

    Raises:
        RenderError: no such colormap, or an opacity out of range.
        ValueError: a heat map is of another size, or there is another number of titles.
    """
    titles = [printable(title, None) for title in titles]
    # Pictures of cameras are first reduced by a whole factor, which changes nothing that could be seen.
    small = Image.fromarray(picture).resize(in_pixels(grid.picture)[::-1], Image.Resampling.LANCZOS, reducing_gap=3.0)
    page = Image.new("RGB", in_pixels(grid.size)[::-1], "white")
    pen, font = ImageDraw.Draw(page), _font(titles, grid.panel[1] * DPI)
    for index, (heat, title, remark) in enumerate(zip(heats, titles, remarks or [""] * len(titles), strict=True)):
        pixels = np.asarray(small)
        panel = Image.fromarray(faded(pixels) if remark else overlay(pixels, heat, colormap, opacity))
        if boxes is not None:
            _draw_box(panel, boxes[index], grid.picture)
        top, left = grid.corner(index)
        middle, centre = left + grid.panel[1] / 2, top + grid.panel[0] / 2
        page.paste(panel, (round((middle - grid.picture[1] / 2) * DPI), round((centre - grid.picture[0] / 2) * DPI)))
        pen.text((middle * DPI, centre * DPI), remark, fill="black", font=font, anchor="mm")
        words = _shortened(title, font, grid.panel[1] * DPI)
        pen.text((middle * DPI, (top - BASELINE) * DPI), words, fill="black", font=font, anchor="ms")
    return page


def save_png(page: Image.Image, path: str | os.PathLike[str]) -> None:
    """Writes it, moved into place when it is whole; the same figure gives the same bytes.

    Args:
        page: from `compose`.
        path: the file; its folder is made when missing.
    """
    said = PngInfo()
    said.add_text("Software", FIGURE_MARK)
    with atomic_path(Path(path)) as temporary:
        page.save(temporary, format="PNG", compress_level=COMPRESSION, pnginfo=said, dpi=(DPI, DPI))


def _draw_box(panel: Image.Image, box: Float[np.ndarray, "4"], size: tuple[float, float]) -> None:
    """A box on a panel of that size in inches; nothing where it is NaN."""
    if np.isnan(box).any():
        return
    pen, (top, left, bottom, right) = ImageDraw.Draw(panel), frame(box, size)
    for colour, thickness in LINES:
        # Pillow's line lies inside of its edges, of which the last pixels are its own.
        half, width = thickness / 2, round(thickness * DPI)
        start, end = (round((left - half) * DPI), round((top - half) * DPI)), (right + half, bottom + half)
        last = [max(round(edge * DPI) - 1, first) for edge, first in zip(end, start, strict=True)]
        pen.rectangle((*start, *last), outline=colour, width=width)


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
