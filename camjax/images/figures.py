"""Figures: heat maps over pictures, by matplotlib, which is imported when something is drawn.

Arrays: pictures are uint8 `(h, w, 3)` in [0, 255]; heats float `(k, h, w)` in [0, 1], NaN where the network did not
look.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from camjax.atomic import atomic_path
from camjax.choices import DEFAULT_COLORMAP
from camjax.errors import printable
from camjax.images.colours import RenderError, faded, overlay
from camjax.images.frames import LINES, frame
from camjax.images.grid import BASELINE, DPI, FONT_SIZES, POINTS, Grid, arrange_panels
from camjax.images.pictures import FIGURE_MARK
from camjax.images.png import save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Figure
    from matplotlib.lines import Line2D
    from matplotlib.text import Text as Text

FIGURE_SUFFIXES = frozenset({".png", ".pdf", ".svg"})

LONGEST_SIDE = 1000
"""Of a panel's picture, in pixels: at a panel's size on paper, more could not be seen."""


def figure(
    picture: UInt8[np.ndarray, "h w 3"],
    heats: Float[np.ndarray, "k h w"],
    titles: Sequence[str],
    colormap: str = DEFAULT_COLORMAP,
    opacity: float = 0.5,
    *,
    columns: int | None = None,
    remarks: Sequence[str] = (),
    boxes: Float[np.ndarray, "k 4"] | None = None,
) -> "Figure":
    """A grid of the picture under each heat map, a title above each.

    Args:
        picture: red, green and blue; a large one is drawn at the resolution that `shrink` gives.
        heats: one a class, as `overlay` takes them.
        titles: as many.
        colormap: any of matplotlib's names.
        opacity: of the heat maps, 0 to 1.
        columns: of the grid; None is one row for up to three, else two columns.
        remarks: why a heat map shows nothing, in as many words as there are titles; empty where it shows something.
        boxes: to draw, one a class: top, left, bottom, right, in parts of the picture's height and width; NaN for none.

    Returns:
        A matplotlib figure, in no way tied to pyplot's state.

    Raises:
        RenderError: no such colormap, or an opacity out of range.
        ValueError: no heat map, one that is not of the picture's size, or another number of titles.
    """
    count = len(heats)
    if not count or heats.shape[1:] != picture.shape[:2]:
        raise ValueError(f"heat maps must be (k, {picture.shape[0]}, {picture.shape[1]}), not {heats.shape}")
    grid = arrange_panels(count, picture.shape[:2], columns)
    drawing = blank(*grid.size)
    picture = shrink(picture)
    for index, (heat, title, remark) in enumerate(zip(heats, titles, remarks or [""] * count, strict=True)):
        axes = _panel(drawing, grid, index, title)
        blended = overlay(picture, at_size(heat, picture.shape[:2]), colormap, opacity)
        axes.imshow(faded(picture) if remark else blended, interpolation="antialiased")
        if boxes is not None:
            _draw_box(axes, boxes[index], grid.picture, picture.shape[:2])
        axes.text(0.5, 0.5, remark, ha="center", va="center", transform=axes.transAxes, fontsize=FONT_SIZES[0])
    _fit_titles(drawing.texts, grid.panel[1] * drawing.dpi)
    return drawing


def _panel(drawing: "Figure", grid: Grid, index: int, title: str) -> "Axes":
    """An empty panel of the grid under its title."""
    (height, width), (rows, across), (top, left) = grid.size, grid.panel, grid.corner(index)
    x, y = (left + across / 2) / width, 1 - (top - BASELINE) / height
    drawing.text(x, y, printable(title, None), ha="center", va="baseline", color="black", parse_math=False)
    axes = drawing.add_axes((left / width, 1 - (top + rows) / height, across / width, rows / height))
    axes.set_axis_off()
    return axes


def _draw_box(axes: "Axes", box: Float[np.ndarray, "4"], inches: tuple[float, float], pixels: tuple[int, ...]) -> None:
    """A box on a picture that is drawn that large and has so many pixels; nothing where it is NaN."""
    if np.isnan(box).any():
        return
    from matplotlib.patches import Rectangle

    top, left, bottom, right = frame(box, inches)
    y, x = pixels[0] / inches[0], pixels[1] / inches[1]
    for colour, thickness in LINES:
        # A pixel's centre has whole coordinates.
        corner, width = (left * x - 0.5, top * y - 0.5), thickness * POINTS
        line = Rectangle(
            corner, (right - left) * x, (bottom - top) * y,
            fill=False, edgecolor=colour, linewidth=width, joinstyle="miter",
        )  # fmt: skip
        axes.add_patch(line)


def blank(height: float, width: float) -> "Figure":
    """An empty figure, in no way tied to pyplot's state.

    Args:
        height: in inches.
        width: likewise.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, facecolor="white")


def line(xs: Sequence[float], ys: Sequence[float], color: str) -> "Line2D":
    """A thin line between points.

    Args:
        xs: of the points, in parts of the figure's width from its left.
        ys: likewise, of its height from its bottom.
        color: as matplotlib names it.
    """
    from matplotlib.lines import Line2D

    return Line2D(xs, ys, color=color, linewidth=0.7)


def save_figure(drawing: "Figure", path: str | os.PathLike[str]) -> None:
    """Writes a figure as PNG, PDF or SVG by the path's suffix, moved into place when it is whole.

    The same figure gives the same bytes: no dates are written.

    Args:
        drawing: from `figure`.
        path: the file; its folder is made when missing.

    Raises:
        RenderError: another suffix.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FIGURE_SUFFIXES:
        raise RenderError(f"{path}: a figure's name ends in {', '.join(sorted(FIGURE_SUFFIXES))}")
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    if suffix == ".png":
        canvas: Any = FigureCanvasAgg(drawing)
        canvas.draw()
        save_pixels(np.asarray(canvas.buffer_rgba())[..., :3], path)
        return
    dates: dict[str, Any] = {"CreationDate": None, "ModDate": None} if suffix == ".pdf" else {"Date": None}
    with atomic_path(path) as temporary, matplotlib.rc_context({"svg.hashsalt": "camjax"}):
        drawing.savefig(temporary, format=suffix[1:], dpi=DPI, metadata=dates)


def save_pixels(pixels: UInt8[np.ndarray, "h w 3"], path: str | os.PathLike[str]) -> None:
    """Writes a figure that is drawn already as PNG, with the mark of camjax's own figures."""
    save_png(pixels, path, dpi=DPI, texts={"Software": FIGURE_MARK})


def shrink(picture: UInt8[np.ndarray, "h w 3"], longest: int = LONGEST_SIDE) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The picture at the resolution of a figure's panel.

    Args:
        picture: red, green and blue.
        longest: side of the panel, in pixels.

    Returns:
        At most so many pixels high and wide, in proportion; a smaller picture as it is.
    """
    height, width = picture.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return picture
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def at_size(heat: Float[np.ndarray, "h w"], size: tuple[int, int]) -> Float[np.ndarray, "h2 w2"]:
    """A heat map of another size, averaged over areas, so that what was not seen (NaN) spreads by no more than a pixel.

    Args:
        heat: of the picture's proportions.
        size: (height, width).
    """
    if heat.shape == size:
        return heat
    return np.asarray(Image.fromarray(heat.astype(np.float32, copy=False)).resize(size[::-1], Image.Resampling.BOX))


def _fit_titles(titles: Sequence["Text"], pixels: float) -> None:
    """The largest size at which all fit their panels; one too long for the smallest loses letters before its number."""
    for size in FONT_SIZES:
        for title in titles:
            title.set_fontsize(size)
        if all(title.get_window_extent().width <= pixels for title in titles):
            return
    for title in titles:
        name, comma, number = title.get_text().rpartition(", ")
        while len(name) > 1 and title.get_window_extent().width > pixels:
            name = name[:-1]
            title.set_text(f"{name.rstrip()}…{comma}{number}")
